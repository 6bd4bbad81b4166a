"""Waits: the inbox, exact answers (S-10, S-18), claims and assignments.

The ledger keeps claims in memory (S-81); assignments are entries (S-72).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from helmr.attachments import piece_count
from helmr.errors import (
    AttachmentNotFound,
    BadFilter,
    BadRequest,
    BadSignature,
    MasterKeyMissing,
    NotReady,
    PayloadDamaged,
    SessionNotFound,
    SignatureNeeded,
    TokenCancelled,
    TokenCompleted,
    TokenExpired,
    TokenNotFound,
    WaitNotFound,
    WaitResolved,
    WaitTimedOut,
)
from helmr.link_templates import LinkTemplate, links_of
from helmr.models import (
    ANSWERABLE,
    CLAIM_MAX_S,
    CLAIM_S,
    AnswerData,
    AnswerMode,
    AnswerReceipt,
    AnswerRequest,
    AssignReceipt,
    AssignRequest,
    AwayInfo,
    ClaimReceipt,
    ClaimRequest,
    CompleteRequest,
    DryRun,
    Page,
    SendReceipt,
    TokenAnswerReceipt,
    TokenInfo,
    VoteInfo,
    VoteOutcome,
    VoteReceipt,
    WaitInfo,
    WaitKind,
    WaitsQuery,
    WaitStatus,
)
from helmr.wire import ids
from helmr.wire.durations import seconds
from helmr.wire.people import list_key, person_key
from helmr_runtime.core.answerers import Answerers, AnswerSignature, Identity, is_group
from helmr_runtime.core.commands import (
    AnswerDetails,
    AnswerWait,
    AssignWait,
    OperationKey,
    SessionCommand,
    TokenEnded,
    WithdrawVote,
)
from helmr_runtime.core.delegations import ActingPerson, AskedWait, Deputy
from helmr_runtime.core.entries import PERSON, Principal, iso
from helmr_runtime.ports import ClaimsKept
from helmr_runtime.ports.ledger import Json
from helmr_runtime.security.people import NO_PEOPLE, PeopleConfig
from helmr_runtime.security.schemas import check
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.people import PeopleView
from helmr_runtime.service.shared import Shared
from helmr_runtime.service.tokens import TokenOperations

ALL_WAITS = WaitsQuery()
"""The default query of the inbox; it leaves out timers, which wait for no one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCount:
    """The size of a list of waits.

    Attributes:
        count: The waits on all pages.
        before: Those on the pages before the query's.
        tasks: The tasks of the waits, without the filter by task.
    """

    count: int
    before: int
    tasks: Sequence[str]


WAITS_KNOWN_MAX = 50_000
"""Waits whose session is cached; another one costs a read."""


class WaitOperations:
    """The inbox, and answering exactly one wait."""

    def __init__(
        self,
        shared: Shared,
        tokens: TokenOperations,
        people: PeopleView,
        links: Sequence[LinkTemplate] = (),
    ) -> None:
        self._people = people
        self._links = links
        self._ledger = shared.ledger
        self._router = shared.router
        self._catalog = shared.catalog
        self._repeats = shared.repeats
        self._now = shared.now
        self._tokens = tokens
        self._places: LruCache[str, tuple[str, str | None]] = LruCache(WAITS_KNOWN_MAX)
        """By wait, its session, and its token if it waits on one."""

    def opened(self, session_id: str, body: Json) -> None:
        """Cache the place of a new wait, so that its answer need not look it up."""
        self._places.put(body["wait_id"], (session_id, body.get("token_id")))

    async def shown(self, caller: Caller, wait_id: str) -> WaitInfo:
        """Read a wait as `get` does, with `can_answer`, `deputy_for` and `is_mine` for this caller."""
        return (await self._reader(caller)).shown(await self.get(wait_id))

    async def attachment(self, wait_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        """The bytes of a file of the wait, in pieces; all refusals come before the first.

        Raises:
            WaitNotFound: No wait with that id.
            AttachmentNotFound: The wait has no such file.
            PayloadDamaged, MasterKeyMissing: It can't be opened.
        """
        ids.check_id(attachment_id, ids.ATTACHMENT)
        wait = await self.get(wait_id)
        files = wait.evidence.attachments if wait.evidence is not None else ()
        found = next((one for one in files if one.id == attachment_id), None)
        if found is None:
            raise AttachmentNotFound(f"{wait_id} has no file {attachment_id}")
        count = piece_count(found.size)
        first = (
            await self._ledger.attachment_piece(wait.session_id, attachment_id, 0) if count else b""
        )
        return self._file_pieces(wait.session_id, attachment_id, first, count)

    async def _file_pieces(
        self, session_id: str, attachment_id: str, first: bytes, count: int
    ) -> AsyncIterator[bytes]:
        yield first
        for number in range(1, count):
            yield await self._ledger.attachment_piece(session_id, attachment_id, number)

    async def get(self, wait_id: str) -> WaitInfo:
        """A wait in full, with the JSON Schema that its answer must fit, and its answer.

        Raises:
            WaitNotFound: No wait with that id.
        """
        ids.check_id(wait_id, ids.WAIT)
        stored = await self._ledger.get_wait(wait_id)
        wait = await self.in_full(stored)
        if wait.kind not in ANSWERABLE or wait.problem is not None:
            return wait
        try:
            if wait.voters and wait.status is WaitStatus.PENDING:
                votes = await self._votes(wait.session_id, stored["vote_seqs"])
                return wait.model_copy(update={"votes": votes})
            if wait.resolving is not None:
                return await self._with_end_of_token(wait)
            outcome = await self._outcome(wait, stored["outcome"])
        except (PayloadDamaged, MasterKeyMissing) as error:
            return wait.model_copy(update={"problem": error.message})
        signature = (stored["outcome"] or {}).get("signature", {})
        found = {"answer": outcome.get("data"), "signed_by": signature.get("key")}
        return wait.model_copy(update=found)

    async def in_full(self, wait: Json) -> WaitInfo:
        """The wait with its stream's schema from the catalog, or its token's, and with the runtime's links."""
        schema, problem = wait.get("schema"), wait.get("problem")
        if schema is None and wait.get("stream") is not None:
            try:
                schema = await self._catalog.input_schema(wait["task"], wait["stream"])
            except NotReady:
                schema = None
        if schema is None and wait.get("token_id") is not None:
            try:
                token = await self._tokens.in_full(wait["token_id"])
                schema, wait = token["schema"], _with_question(wait, token)
            except TokenNotFound:
                schema = None
            except (PayloadDamaged, MasterKeyMissing) as error:
                problem = problem or error.message
        told = {name: value for name, value in wait.items() if name != "outcome"}
        links = links_of(self._links, wait)
        return WaitInfo.model_validate(
            {**told, "schema": schema, "problem": problem, "links": links}
        )

    async def _with_end_of_token(self, wait: WaitInfo) -> WaitInfo:
        """A wait with the end of its token, on which its session has yet to decide."""
        token = TokenInfo.model_validate(await self._tokens.in_full(wait.token_id or ""))
        ended = {
            "resolved_at": token.ended_at,
            "resolved_by": token.ended_by,
            "answer": token.data,
        }
        return wait.model_copy(update=ended)

    async def list(self, caller: Caller, wanted: WaitsQuery = ALL_WAITS) -> Page[WaitInfo]:
        """Waits, soonest end first, none last, then by id; without body, schema and what a form needs.

        Raises:
            BadFilter: The query asks for the caller's own waits, and the caller is no person.
        """
        given = await self._given(caller, wanted)
        page = Page[WaitInfo].model_validate(await self._ledger.list_waits(**given))
        reader = await self._reader(caller)
        items = [reader.shown(wait) for wait in page.items]
        if wanted.can_answer:  # tables do not know which waits take no deputies
            items = [one for one in items if one.can_answer is not False]
        return page.model_copy(update={"items": items})

    async def count(self, caller: Caller, wanted: WaitsQuery = ALL_WAITS) -> WaitCount:
        """Count what `list` lists for this caller, on all its pages.

        Raises:
            BadFilter: As `list`.
        """
        return WaitCount(**await self._ledger.count_waits(**await self._given(caller, wanted)))

    async def _given(self, caller: Caller, wanted: WaitsQuery) -> Json:
        """The query for the ledger: what it says of the caller, by their names, groups and delegators.

        Raises:
            BadFilter: The query asks for the caller's own waits, and the caller is no person.
        """
        given = wanted.given()
        asked = [name for name in OF_CALLER if given.pop(name, False)]
        if not asked:
            return given
        person = caller.identity
        if person is None:
            raise BadFilter(
                f"{asked[0]} is for people, and the caller has not signed in as one",
                hint=f"{OF_CALLER[asked[0]]} takes names of people and groups.",
            )
        given |= {OF_CALLER[name]: sorted(person.keys) for name in asked}
        now = self._now()
        deputies = await self._people.deputies(person)
        by_deputy = [one.filter(person, now) for one in deputies if one.delegation.holds_at(now)]
        return given | ({"by_deputy": by_deputy} if by_deputy else {})

    async def _reader(self, caller: Caller) -> WaitReader:
        """The caller as a reader of waits."""
        now = self._now()
        held = [one for one in await self._people.all_deputies() if one.delegation.holds_at(now)]
        return WaitReader(
            person=caller.identity,
            now=now,
            deputies=await self._people.deputies(caller.identity),
            away=[(one, one.delegator(now).keys) for one in held],
        )

    async def answer(
        self,
        caller: Caller,
        wait_id: str,
        request: AnswerRequest,
        *,
        link_id: str | None = None,
        nonce_id: str | None = None,
    ) -> AnswerReceipt:
        """Answer exactly this wait (S-18).

        Args:
            caller: The answerer.
            wait_id: The wait.
            request: The data and details of the answer.
            link_id: The answer link that it came through.
            nonce_id: The nonce of the answer page's form, if it came from one.

        Raises:
            WaitNotFound: No wait with that id.
            WaitClaimed: Someone else has claimed it (S-81).
            WaitResolved: It is no longer pending; says who ended it, when and with what.
            WaitTimedOut: Its deadline has passed; says when.
            NotAnAnswerer: It is reserved for others; names them (S-112).
            GroupsUnknown: The right to answer depends on the caller's groups, which are not known.
            SignatureNeeded: It takes signed answers only; lists the caller's signing keys (S-115).
            BadSignature: The signature is not by the caller over this answer.
            SchemaMismatch: The data does not fit the stream (S-21).
        """
        ids.check_id(wait_id, ids.WAIT)
        said = [] if request.deputy_for is None else [request.deputy_for]
        operation = caller.operation("waits.answer", wait_id, request.data, *said)
        session_id, token_id = await self._place_of(wait_id)
        if token_id is not None:
            return await self._complete(caller, wait_id, token_id, request, link_id, nonce_id)
        try:
            receipt = await self._decided(caller, session_id, wait_id, operation, request, link_id)
        except (WaitResolved, WaitTimedOut) as error:
            raise await self.told(error, wait_id) from error
        except SignatureNeeded as error:
            raise await self._with_keys(caller, error) from error
        model = VoteReceipt if receipt["outcome"] == VoteOutcome.VOTED else SendReceipt
        return model.model_validate(receipt)

    async def _decided(
        self,
        caller: Caller,
        session_id: str,
        wait_id: str,
        operation: OperationKey,
        request: AnswerRequest,
        link_id: str | None,
    ) -> Json:
        deputies = await self._people.deputies(caller.identity)
        try:
            signature, deputies = await self._signature(caller, wait_id, request, deputies)
        except BadSignature:
            first = await self._repeats.first(caller, operation)
            if first is None:
                raise
            return first  # its key was good when it was given
        command = AnswerWait(
            principal=caller.principal,
            operation=operation,
            wait_id=wait_id,
            record_id=ids.new_id(ids.RECORD),
            data=request.data,
            link_id=link_id,
            override_claim=request.override_claim,
            identity=caller.identity,
            may_override=caller.may_override,
            signature=signature,
            deputies=deputies,
            deputy_for=self._people.named.canonical(request.deputy_for)
            if request.deputy_for is not None
            else None,
            details=AnswerDetails.of(dict(request)),
        )
        return await self._command(session_id, wait_id, command)

    async def _signature(
        self,
        caller: Caller,
        wait_id: str,
        request: AnswerRequest,
        deputies: Sequence[Deputy],
    ) -> tuple[AnswerSignature | None, tuple[Deputy, ...]]:
        """The request's signature, checked, and the delegations that the answer may be by; None if it has none.

        A deputy signs both names and the delegation; without these the answer is the person's own.

        Raises:
            BadSignature: It is not by the caller over this answer.
            BadRequest: The wait has no question to sign.
        """
        if request.signature is None:
            return None, tuple(deputies)
        person = caller.identity
        if person is None:
            raise BadSignature(
                "a caller that has not signed in as a person signs nothing", wait_id=wait_id
            )
        from helmr.signing import SignedFor  # noqa: PLC0415 - few sign
        from helmr_runtime.security.signed_answers import check_given  # noqa: PLC0415 - few sign

        wait = await self._ledger.get_wait(wait_id)
        if wait["question_hash"] is None:
            raise BadRequest(f"{wait_id} asks for no signature", hint="Answer it without.")
        keys = [one.fingerprint for one in await self._people.signing_keys(person.id)]

        def checked(acting: Deputy | None) -> AnswerSignature:
            one = acting.delegation if acting is not None else None
            return check_given(
                request.signature or "",
                wait_id=wait_id,
                question_hash=wait["question_hash"],
                data=request.data,
                person=person.id,
                keys=keys,
                signed_for=SignedFor(one.id, one.delegator) if one is not None else None,
            )

        if request.deputy_for is None:
            return checked(None), ()
        delegator = person_key(self._people.named.canonical(request.deputy_for))
        refused: BadSignature | None = None
        for one in deputies:
            if person_key(one.delegation.delegator) != delegator:
                continue
            try:
                return checked(one), (one,)
            except BadSignature as error:
                refused = error
        if refused is not None:
            raise refused
        return None, ()  # the core says that they are no deputy

    async def _with_keys(self, caller: Caller, error: SignatureNeeded) -> SignatureNeeded:
        """The refusal with the caller's id and signing keys."""
        if caller.identity is None:
            return error
        keys = await self._people.signing_keys(caller.identity.id)
        return SignatureNeeded(
            error.message,
            hint=None if keys else f"{caller.identity.id} has no key yet: {BadSignature.advice}",
            **error.facts,
            person=caller.identity.id,
            keys=[one.key for one in keys],
        )

    async def withdraw(self, caller: Caller, wait_id: str) -> VoteReceipt:
        """Withdraw the caller's vote on this wait; without one nothing changes (S-113).

        Raises:
            WaitNotFound: No wait with that id.
            WaitResolved, WaitTimedOut: It is over; says how.
        """
        ids.check_id(wait_id, ids.WAIT)
        command = WithdrawVote(
            principal=caller.principal,
            identity=caller.identity,
            wait_id=wait_id,
            person=caller.identity.id if caller.identity is not None else "",
        )
        try:
            receipt = await self.command(wait_id, command)
        except (WaitResolved, WaitTimedOut) as error:
            raise await self.told(error, wait_id) from error
        return VoteReceipt.model_validate(receipt)

    async def command(self, wait_id: str, command: SessionCommand) -> Json:
        """Send a command to the wait's session; returns the receipt.

        Raises:
            WaitNotFound: No wait with that id, or its session was pruned (S-69).
        """
        return await self._command(await self.session_of(wait_id), wait_id, command)

    async def _command(self, session_id: str, wait_id: str, command: SessionCommand) -> Json:
        try:
            return await self._router.command(session_id, command)
        except SessionNotFound as error:
            self._places.drop(wait_id)
            raise WaitNotFound(f"there is no wait {wait_id}", wait_id=wait_id) from error

    async def session_of(self, wait_id: str) -> str:
        """The session of a wait; cached after the first read.

        Raises:
            WaitNotFound: No wait with that id.
        """
        return (await self._place_of(wait_id))[0]

    async def _place_of(self, wait_id: str) -> tuple[str, str | None]:
        place = self._places.get(wait_id)
        if place is None:
            wait = await self._ledger.get_wait(wait_id)
            token_id = wait["token_id"]
            place = str(wait["session_id"]), str(token_id) if token_id is not None else None
            self._places.put(wait_id, place)
        return place

    async def dry_run(self, caller: Caller, wait_id: str, request: AnswerData) -> DryRun:
        """Dry-run this answer (S-87): nothing is stored, and there are no side effects.

        Raises:
            WaitNotFound: No wait with that id.
            WaitResolved, WaitTimedOut: It is no longer pending.
            SchemaMismatch: The data does not fit the stream or the token.
            Unavailable: No host could run it.
        """
        wait = await self.get(wait_id)
        if not wait.takes_answers:
            raise await self.told(WaitResolved(f"{wait_id} can't be answered"), wait_id)
        command: AnswerWait | TokenEnded
        if wait.token_id is not None:
            token = await self._ledger.get_token(wait.token_id)
            check(token, request.data)
            command = TokenEnded(
                principal=caller.principal,
                wait_id=wait_id,
                token_id=wait.token_id,
                status="completed",
                data=request.data,
                ended_at=self._now(),
                ended_by=caller.principal,
            )
        else:
            command = AnswerWait(
                principal=caller.principal,
                wait_id=wait_id,
                record_id=ids.new_id(ids.RECORD),
                data=request.data,
                **_as_if_agreed(wait),
            )
        return DryRun.model_validate(await self._router.dry_run(wait.session_id, command))

    async def _complete(
        self,
        caller: Caller,
        wait_id: str,
        token_id: str,
        request: AnswerRequest,
        link_id: str | None,
        nonce_id: str | None,
    ) -> TokenAnswerReceipt:
        """Answer a wait on a token: complete the token, if the wait is pending."""
        restricted = (request.override_reason, request.signature, request.deputy_for)
        if any(one is not None for one in restricted):
            raise BadRequest(f"{wait_id} waits for a token, which says nothing of who may answer")
        wait = await self.get(wait_id)
        completion = CompleteRequest(data=request.data)

        async def write() -> Json:
            if wait.status is not WaitStatus.PENDING:
                raise await self.told(WaitResolved(f"{wait_id} is no longer pending"), wait_id)
            try:
                done = await self._tokens.complete(
                    caller,
                    token_id,
                    completion,
                    nonce_id=nonce_id,
                    public_token_id=link_id,
                    answers=(wait.session_id, wait_id),
                    override_claim=request.override_claim,
                    details=AnswerDetails.of(dict(request)),
                )
            except (WaitResolved, WaitTimedOut) as error:
                raise await self.told(error, wait_id) from error
            return done.model_dump()

        try:
            operation = self._tokens.completing(caller, token_id, completion)
            receipt = await self._repeats.receipt(caller, operation, write)
        except (TokenCompleted, TokenCancelled) as error:
            raise WaitResolved(
                error.message, hint="Nothing was stored.", wait_id=wait_id, **error.facts
            ) from error
        except TokenExpired as error:
            raise WaitTimedOut(
                error.message, hint="Nothing was stored.", wait_id=wait_id, **error.facts
            ) from error
        return TokenAnswerReceipt(
            token_id=token_id, outcome=receipt["outcome"], wait_id=wait_id, run_id=wait.run_id
        )

    async def told(
        self, error: WaitResolved | WaitTimedOut, wait_id: str
    ) -> WaitResolved | WaitTimedOut:
        """The refusal with facts from the ledger: the person that ended the wait, the time and the data."""
        stored = await self._ledger.get_wait(wait_id)
        wait = await self.in_full(stored)
        if wait.status is WaitStatus.PENDING:
            return error
        if isinstance(error, WaitTimedOut) or wait.status is WaitStatus.TIMED_OUT:
            return WaitTimedOut(
                f"{wait_id} timed out at {_second(wait.deadline_at)}; the answer was not stored",
                hint="Send the data as input if the session should have it anyway.",
                **_facts(wait),
            )
        if wait.status is WaitStatus.CANCELLED and stored["outcome"].get("reason") == "rewound":
            because = stored["outcome"].get("because", "")
            return WaitResolved(
                f"{wait_id} is no longer asked: {_who(wait)} rewound its run at "
                f"{_second(wait.resolved_at)}: {because}",
                hint="Nothing was stored. If the run still needs an answer, it asks again with another wait.",
                reason="rewound",
                because=because,
                **_facts(wait),
            )
        if wait.mode is AnswerMode.DEFAULT:
            return WaitResolved(
                f"{wait_id} was answered by its escalation's default at {_second(wait.resolved_at)}",
                hint="Nothing was stored. Send the data as input if the session should have it anyway.",
                **_facts(wait),
                **await self._outcome(wait, stored["outcome"]),
            )
        return WaitResolved(
            f"{wait_id} was {wait.status.value} at {_second(wait.resolved_at)} by {_who(wait)}",
            hint="Nothing was stored.",
            **_facts(wait),
            **await self._outcome(wait, stored["outcome"]),
        )

    async def _votes(self, session_id: str, seqs: Mapping[str, int]) -> Sequence[VoteInfo]:
        """The vote of each of these people, from the entry with that seq."""
        found = []
        for seq in dict.fromkeys(seqs.values()):  # a deputy's vote stands under two names
            page = await self._ledger.transcript(session_id, after=seq - 1, limit=1)
            for entry in page["items"]:
                body = entry["body"]
                at = entry["recorded_at"]
                found.append(
                    VoteInfo(
                        person=body["person"]["id"],
                        deputy_for=body.get("delegation", {}).get("delegator"),
                        data=body["data"],
                        proposal=body["proposal"],
                        voted_at=at,
                        signed_by=body.get("signature", {}).get("key"),
                    )
                )
        return found

    async def _outcome(self, wait: WaitInfo, body: Json) -> dict[str, Any]:
        """The record or token that fulfilled the wait, and its data; empty for other ends."""
        if wait.status is not WaitStatus.FULFILLED or wait.kind is WaitKind.TIMER:
            return {}
        if wait.stream is None:
            return {"token_id": wait.token_id, "data": body["data"]}
        seq = int(body["record_seq"])
        found = await self._ledger.inputs(wait.session_id, wait.stream, after=seq - 1, limit=1)
        return {
            "record_id": body["record_id"],
            "data": next((r["data"] for r in found["items"] if r["seq"] == seq), None),
        }


OF_CALLER = {"mine": "concerns", "can_answer": "answerable_by"}
"""Filters that are about the caller, and those about people with names and groups that they stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitReader:
    """A reader of waits: what each is to them, and who of its people is away.

    Attributes:
        person: The reader, if they are a proven person.
        deputies: The delegations to them.
        away: All delegations that hold now, with the names and groups of their delegators.
    """

    person: Identity | None
    now: datetime
    deputies: Sequence[Deputy] = ()
    away: Sequence[tuple[Deputy, frozenset[str]]] = ()

    def shown(self, wait: WaitInfo) -> WaitInfo:
        """The wait with `away`, and for a person with `can_answer`, `deputy_for` and `is_mine`."""
        found = {**self._away(wait), **self._own(wait)}
        return wait.model_copy(update=found) if found else wait

    def _away(self, wait: WaitInfo) -> dict[str, Any]:
        """Those of the people it names, themselves or by group, who have a deputy for it now."""
        if not self.away or not wait.takes_answers:
            return {}
        assigned = [list_key(wait.assignee)] if wait.assignee is not None else []
        named, asked = {*wait.answerers, *assigned}, asked_wait(wait)
        found = [
            AwayInfo(
                person=one.delegation.delegator,
                deputy=one.delegation.deputy,
                until=one.delegation.ends_at,
            )
            for one, keys in self.away
            if named & keys and one.delegation.covers(asked)
        ]
        return {"away": found} if found else {}

    def _own(self, wait: WaitInfo) -> dict[str, Any]:
        """What it is to this person; `can_answer` is None if it depends on unknown groups."""
        person = self.person
        if person is None:
            return {}
        keys = person.keys
        is_named = not wait.answerers or bool(keys & {*wait.answerers})
        is_kept_out = bool(keys & {*wait.not_by, *wait.voters})
        by_group = (*wait.not_by, *(() if is_named else wait.answerers))
        may: bool | None = wait.takes_answers and is_named and not is_kept_out
        if any(map(is_group, by_group)) and not is_kept_out and not person.knows_groups(self.now):
            may = None if wait.takes_answers else False
        is_assigned = wait.assignee is not None and list_key(wait.assignee) in keys
        is_mine = is_assigned or bool(keys & {*wait.answerers})
        found: dict[str, Any] = {"can_answer": may, "is_mine": is_mine}
        if self.deputies and not is_named and wait.takes_answers:
            acting = self._acting(person, wait)
            has_news = any(one.delegation.people.isdisjoint(wait.voters) for one in acting)
            found |= {"can_answer": True, "is_mine": True} if has_news else {}
            found["deputy_for"] = [one.delegation.delegator for one in acting]
        if self.deputies and not found["is_mine"]:
            found["is_mine"] = self._is_of_delegator(wait)
        return found

    def _acting(self, person: Identity, wait: WaitInfo) -> list[Deputy]:
        """A delegation of each person for whom this one may answer."""
        acting = ActingPerson(
            who=Answerers(
                answerers=tuple(wait.answerers),
                not_by=tuple(wait.not_by),
                signed=wait.signed,
                deputies=wait.deputies,
            ),
            wait=asked_wait(wait),
            identity=person,
            principal=Principal(PERSON, person.id),
            deputies=self.deputies,
            now=self.now,
        )
        return acting.possible()

    def _is_of_delegator(self, wait: WaitInfo) -> bool:
        """It is assigned to a person whose deputy they are for it, or to a group of that person."""
        if wait.assignee is None:
            return False
        assignee, asked = list_key(wait.assignee), asked_wait(wait)
        return any(
            assignee in one.delegator(self.now).keys
            for one in self.deputies
            if one.delegation.holds_at(self.now) and one.delegation.covers(asked)
        )


def asked_wait(wait: WaitInfo) -> AskedWait:
    """The facts of a wait that delegations are compared with."""
    tags = frozenset((*wait.tags, *wait.session_tags))
    return AskedWait(id=wait.id, task=wait.task, stream=wait.stream, tags=tags)


def _as_if_agreed(wait: WaitInfo) -> dict[str, Any]:
    """Arguments by which a dry run ends a restricted wait, even if this caller may not answer it."""
    if not wait.is_restricted:
        return {}
    return {"may_override": True, "details": AnswerDetails(override_reason="dry run")}


def _with_question(wait: Json, token: Json) -> Json:
    """The wait with its token's question, which a wait opened by release 0.1.0 or earlier lacks."""
    if wait["status"] != WaitStatus.PENDING.value:
        return wait
    asked = {
        "subject": token.get("subject"),
        "body": token.get("body"),
        "initial": token.get("initial"),
        "deadline_at": token["expires_at"],
    }
    return {**wait, **{key: value for key, value in asked.items() if wait.get(key) is None}}


def _facts(wait: WaitInfo) -> dict[str, Any]:
    by = wait.resolved_by
    return {
        "wait_id": wait.id,
        "session_id": wait.session_id,
        "run_id": wait.run_id,
        "status": wait.status.value,
        "deadline_at": _iso(wait.deadline_at),
        "resolved_at": _iso(wait.resolved_at),
        "resolved_by": by.model_dump(exclude_none=True) if by is not None else None,
    }


def _who(wait: WaitInfo) -> str:
    by = wait.resolved_by
    if by is None:
        return "the runtime"
    return by.person or by.name or by.id or by.type


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None


def _second(moment: datetime | None) -> str | None:
    """A time to the second, for people to read."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else None


T = TypeVar("T")


class ClaimOperations:
    """Claim, release and assign waits."""

    def __init__(
        self, shared: Shared, waits: WaitOperations, people: PeopleConfig = NO_PEOPLE
    ) -> None:
        self._people = people
        self._ledger = shared.ledger
        self._router = shared.router
        self._waits = waits

    async def claim(self, caller: Caller, wait_id: str, request: ClaimRequest) -> ClaimReceipt:
        """Claim a wait, or renew a claim. Writes nothing and wakes no one.

        Raises:
            WaitNotFound: No wait with that id.
            WaitClaimed: Someone else has claimed it.
            WaitResolved, WaitTimedOut: It is over; says how.
            BadRequest: It takes no answers, such as a timer.
            BadDuration: The claim would be too long, or the duration can't be read.
        """
        ids.check_id(wait_id, ids.WAIT)
        asked = request.expires_in if request.expires_in is not None else CLAIM_S
        for_s = seconds(asked, maximum_s=CLAIM_MAX_S)
        session_id = await self._waits.session_of(wait_id)
        by, override = caller.principal, request.override_claim
        kept = self._router.write(
            lambda: self._ledger.claim_wait(
                session_id, wait_id, by, for_s=for_s, override=override
            ),
            what=f"the claim of {wait_id}",
        )
        return await self._told(session_id, wait_id, kept)

    async def release(self, caller: Caller, wait_id: str) -> ClaimReceipt:
        """End the caller's claim; without one nothing changes.

        Raises:
            As `claim`.
        """
        ids.check_id(wait_id, ids.WAIT)
        session_id = await self._waits.session_of(wait_id)
        kept = self._router.write(
            lambda: self._ledger.release_wait(session_id, wait_id, caller.principal),
            what=f"the release of {wait_id}",
        )
        return await self._told(session_id, wait_id, kept)

    async def assign(self, caller: Caller, wait_id: str, request: AssignRequest) -> AssignReceipt:
        """Assign a wait to a person or a group; None removes the assignee.

        Raises:
            WaitNotFound: No wait with that id.
            WaitResolved, WaitTimedOut: It is over; says how.
            BadRequest: The wait takes no answers, or the name is not a line of text.
        """
        ids.check_id(wait_id, ids.WAIT)
        assignee = request.assignee
        if assignee is not None and not assignee.isprintable():
            raise BadRequest("an assignee is one line of text")
        if assignee is not None:
            assignee = self._people.canonical(assignee)
        command = AssignWait(
            principal=caller.principal,
            operation=caller.operation("waits.assign", wait_id, assignee),
            wait_id=wait_id,
            assignee=assignee,
        )
        receipt = await self._explained(wait_id, self._waits.command(wait_id, command))
        return AssignReceipt.model_validate(receipt)

    async def _told(
        self, session_id: str, wait_id: str, asked: Awaitable[ClaimsKept]
    ) -> ClaimReceipt:
        kept = await self._explained(wait_id, asked)
        await self._router.tell_claims(session_id, kept)
        claim = kept.claims.claim if kept.claims is not None else None
        told = claim.to_json() if claim is not None else None
        return ClaimReceipt.model_validate({"wait_id": wait_id, "claim": told})

    async def _explained(self, wait_id: str, asked: Awaitable[T]) -> T:
        """Await a request; a refusal of it names the person that ended the wait, and the time."""
        try:
            return await asked
        except (WaitResolved, WaitTimedOut) as error:
            raise await self._waits.told(error, wait_id) from error
