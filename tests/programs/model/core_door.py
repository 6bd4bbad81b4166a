"""The core behind the model's commands: its decisions, state and receipts, without ledger, actors or loops.

What a gateway, a host and a ledger do around a decision is done here in a few lines each: who a public token is, which
operation was answered before, whether data fits. Time is where the test puts it, and may be late. Names are ids.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from helmr.errors import (
    BadRequest,
    HelmrError,
    KeyNotFound,
    NotFound,
    RunNotFound,
    SchemaMismatch,
    SessionNotFound,
    TaskNotFound,
    TokenCancelled,
    TokenCompleted,
    TokenExpired,
    TokenNotFound,
    WaitNotFound,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import BulkVerb, SessionInfo, SessionStatus, WaitKind
from helmr.models.system import event_name
from helmr.wire import ids
from helmr.wire.roles import ScopeType
from helmr_runtime.catalog import Registry
from helmr_runtime.core import checkpoint
from helmr_runtime.core.answerers import GROUPS_AGE_MAX, Identity
from helmr_runtime.core.children import Parent
from helmr_runtime.core.commands import (
    AddNote,
    AmendWait,
    AnswerDetails,
    AnswerWait,
    AssignWait,
    CancelRun,
    CancelSession,
    CloseSession,
    CreatePublicToken,
    Deadline,
    FirstReceipt,
    OperationKey,
    Prune,
    RetryRun,
    RevokePublicToken,
    RewindRun,
    Send,
    SessionCommand,
    StartRun,
    TokenEnded,
    WithdrawVote,
    pruned_draft,
)
from helmr_runtime.core.corrections import plan_amendment, plan_rewind, rewindable, wait_at
from helmr_runtime.core.decide import DecisionContext, decide
from helmr_runtime.core.decide.inputs import key_hash, require_stream
from helmr_runtime.core.entries import LINK, Draft, Entry, EntryKind, Principal, from_iso, stamp
from helmr_runtime.core.fork import ForkSession, begin, fork
from helmr_runtime.core.people import DisablePerson, EnablePerson, person_principal
from helmr_runtime.core.public_tokens import (
    CreateCompletionToken,
    RevokeCompletionToken,
    Scope,
    ScopedToken,
    check_complete,
    check_live,
    check_send,
)
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import (
    CancelToken,
    CompleteToken,
    CreateToken,
    LedgerCommand,
    NewToken,
    end_facts,
)
from helmr_runtime.ledger.index import commands as ledger
from helmr_runtime.ledger.index.authored import find_start, repeated_start, start_entries
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.memory_rows import KeptEntries, prunable
from helmr_runtime.ports import StartSession
from helmr_runtime.service.notice_teller import ASKED
from helmr_runtime.service.people import OVER
from helmr_runtime.session.commands import check_data
from tests.programs.model.commands import Command as ModelCommand
from tests.programs.model.compare import Difference, difference
from tests.programs.model.core_code import Code
from tests.programs.model.core_desk import Desk
from tests.programs.model.core_keys import Keys
from tests.programs.model.lines import Lines, principal_of
from tests.programs.model.naive import IN_FILE, NOT_ASKED, PEOPLE, Model
from tests.programs.model.script import TASKS

T0 = datetime(2030, 1, 1, tzinfo=UTC)
CALLER = Principal("api_key", "key")


def ms(count: int) -> timedelta:
    """So many milliseconds."""
    return timedelta(milliseconds=count)


class CoreDoor:
    """Sessions as states and entries."""

    time_passes = False

    def __init__(self) -> None:
        self.now = T0
        self.registry = Registry(TASKS, code_hash="model")
        self.index = LedgerIndex()
        self.feed = KeptEntries()
        self.keys = Keys(self.feed)
        self.states: dict[str, SessionState] = {}
        self.lines = Lines(T0)
        self.desk = Desk(self.index, lambda: self.now)
        self.told: dict[str, list[Any]] = {}
        self.made: Counter[str] = Counter()
        self.ended: set[str] = set()
        """Children whose end everybody has been told."""
        self.plans: dict[str, tuple[BulkVerb, bool, list[tuple[str, str, int]]]] = {}
        self.groups: dict[str, tuple[str, ...]] = dict(PEOPLE)
        self.principal = CALLER
        self.identity: Identity | None = None
        """Who calls, as the gateway has proven them."""

    def do(self, kind: str, args: dict[str, Any]) -> dict[str, Any] | str:
        """The receipt, or the code of the refusal."""
        args = dict(args)
        operation = args.pop("operation", None)
        asked = (
            OperationKey(id=operation, request_hash=repr((kind, _asked(args))))
            if operation
            else None
        )
        try:
            self.principal, self.identity = CALLER, None
            if "me" in args:
                self.signs_in(args)
            self.needs_there(kind, args)
            if "session" in args:
                args["session"] = session_named(args["session"])
            receipt: dict[str, Any] = getattr(self, f"do_{kind}")(asked, **args)
        except HelmrError as error:
            return error.code
        return receipt

    def signs_in(self, args: dict[str, Any]) -> None:
        """As the gateway does: a person has one id, whatever they come with, and groups that may be old."""
        me, groups = args.pop("me"), args.pop("groups", "now")
        self.principal = person_principal(me, args.pop("via", "key_1"))
        self.index.people.disabled.check(self.principal)
        long_ago = self.now - GROUPS_AGE_MAX - ms(1)
        self.identity = Identity(
            id=me,
            groups=self.groups[me] if groups != "unknown" else None,
            groups_at=long_ago if groups == "old" else None,
            file_groups=IN_FILE[me],
        )

    def needs_there(self, kind: str, args: dict[str, Any]) -> None:
        """As routes and services look up what is named: first the secret, then what it is for."""
        if "link" in args and args["link"] not in self.index.keys.public_tokens:
            raise NotFound(args["link"]) if kind == "answer_link" else KeyNotFound(args["link"])
        if kind == "revoke":
            if args["public"] not in self.index.keys.public_tokens:
                raise KeyNotFound(args["public"])
            return
        public = self.public(args.get("public"))
        if public is not None and kind == "send":
            asked = session_named(args["session"]), args["stream"], args.get("correlation")
            check_send(public, *asked)
        elif public is not None:
            check_complete(public, args["token"])
        errors = {"session": SessionNotFound, "run": RunNotFound, "wait": WaitNotFound}
        for name, error in errors.items():
            is_named = name in args and kind != "nothing"
            if is_named and session_of(args[name]) not in self.states:
                raise error(args[name])
        if "token" in args and self.index.tokens.get(args["token"]) is None:
            raise TokenNotFound(args["token"])

    def settle(self, model: Model) -> None:
        """All is stored at once: how many records no wait has taken, all three say alike."""
        for session_id, state in self.states.items():
            records = model.sessions[str(named(session_id))].records
            counts = sum(not one.is_taken for one in records), state.unconsumed_count
            counted = self.index.heads[session_id].unconsumed
            assert counts == (counted, counted), (session_id, *counts, counted)

    def finish(self, model: Model) -> None:
        """All is stored at once."""

    def transcripts(self) -> dict[str, list[Any]]:
        """The lines of each session."""
        return {self.lines.names[one]: lines for one, lines in self.lines.of.items()}

    def tokens(self) -> dict[str, Any]:
        """What became of tokens, and the uses of public tokens."""
        found: dict[str, Any] = {}
        for token in self.index.tokens:
            if token.parent is not None:
                continue
            body = self.feed.at(token.ended_offset).body if token.ended_offset else {}
            found[token.id] = [token.status.value, body.get("data")]
        for owned in self.index.keys.public_tokens.values():
            public = owned.token
            if not public.id.startswith("of "):
                found[public.id] = [public.uses, public.revoked_at is not None]
        return found

    def notices(self) -> dict[str, list[Any]]:
        """What entries tell."""
        return self.told

    # --- what is around a decision ------------------------------------------------------------------

    def context(self, state: SessionState) -> DecisionContext:
        """The circumstances now."""
        now, policy = (
            max(self.now, state.last_at or self.now),
            self.registry.tasks[state.task].policy,
        )
        claims = self.desk.of(state)
        disabled = self.index.people.disabled.people
        return DecisionContext(
            now=now, policy=policy, is_hot=True, claims=claims, disabled=disabled
        )

    def write(self, session_id: str, drafts: tuple[Draft, ...]) -> None:
        """Stamp, store and fold."""
        head, state = self.index.heads[session_id], self.states.get(session_id)
        claims = self.desk.of(state) if state is not None and drafts else None
        ahead = claims.pending(self.now) if claims is not None else ()
        for draft in (*ahead, *drafts):
            entry = stamp(
                draft,
                session_id=session_id,
                seq=head.next_seq,
                recorded_at=self.now,
                previous=head.last_hash,
                key=None,
            )
            self.store(entry)

    def store(self, entry: Entry) -> None:
        """Fold an entry into the state and the index."""
        entry = replace(entry, feed_offset=self.feed.next_offset)
        self.feed.append(entry)
        if entry.session_id in self.states:
            self.states[entry.session_id].apply(entry)
        self.index.apply(entry, self.now)
        self.lines.add(entry)
        self.tell(entry)
        if entry.kind is EntryKind.PUBLIC_TOKEN_CREATED:
            self.made[entry.body["public_token_id"][0]] += 1

    def tell(self, entry: Entry) -> None:
        """What the entry tells a target of notices that hears of everything."""
        name, wait_id = event_name(entry.kind, entry.body), entry.body.get("wait_id")
        is_asked = wait_id is None or self.lines.waits[wait_id]["kind"] in ASKED
        if name is not None and is_asked:
            about = named(wait_id or entry.run_id)
            told = self.told.setdefault(self.lines.names[entry.session_id], [])
            told.append((name.value, about))

    def caller(self, person: str | None) -> Principal:
        """Who calls, and the person for whom a key speaks."""
        return replace(self.principal, on_behalf_of=person)

    def known(self, operation: OperationKey | None, principal: Principal) -> dict[str, Any] | None:
        """The first receipt of a repeated operation."""
        offset = self.index.operations.offset_of(operation.id) if operation is not None else None
        if offset is None or operation is None:
            return None
        first = FirstReceipt.of(self.feed.at(offset))
        assert first is not None
        return first.again(operation, principal)

    def command(self, session_id: str, command: SessionCommand) -> dict[str, Any]:
        """Have a session decide, and its code go on; the receipt."""
        first = self.known(command.operation, command.principal)
        if first is not None:
            return first
        state = self.states[session_id]
        self.index.people.disabled.check_command(command)
        if isinstance(command, Send):
            by_key = self.keys.repeated(command, session_id, self.now)
            if by_key is not None:
                if by_key.error is not None:
                    raise by_key.error
                return dict(by_key.reply)
        context = self.context(state)
        is_known = isinstance(command, Send) and _is_known(state, command)
        if not is_known:
            check_data(command, state, self.registry.tasks[state.task], context)
        decision = decide(state, command, context)
        cancelled = self.tokens_of(session_id) if isinstance(command, CancelSession) else ()
        self.write(session_id, decision.drafts)
        self.go_on(session_id)
        for token_id in cancelled:
            self.deliver(token_id)
        if decision.error is not None:
            raise decision.error
        return dict(decision.reply)

    def go_on(self, session_id: str, *, is_due: bool = False) -> None:
        """The code runs until it waits or has ended; who waits for children that ended with it is told."""
        Code(self, session_id).go_on(is_due=is_due)
        for child in [one for one in self.index.tokens if one.parent is not None]:
            if child.is_pending or child.id in self.ended:
                continue
            self.ended.add(child.id)
            self.deliver(child.id)
            if child.is_orphan and self.states[child.id].status is SessionStatus.OPEN:
                by = self.feed.at(child.ended_offset).principal
                self.command(child.id, CancelSession(principal=by))

    def fact(self, fact: LedgerCommand) -> dict[str, Any]:
        """Have the ledger decide; the receipt."""
        first = self.known(fact.operation, fact.principal)
        if first is not None:
            return first
        token_id = ledger.token_of(fact)
        token = self.index.tokens.get(token_id) if token_id is not None else None
        ended_by = self.feed.at(token.ended_offset) if token and token.ended_offset else None
        decided = ledger.decide(self.index, fact, self.now, ended_by)
        self.write(self.index.system.session_id, decided.drafts)
        if token_id is not None:
            self.deliver(token_id)
        return dict(decided.reply)

    def tokens_of(self, session_id: str) -> tuple[str, ...]:
        """The pending tokens that a session's code made."""
        made = (t for t in self.index.tokens if t.session_id == session_id and t.parent is None)
        return tuple(token.id for token in made if token.is_pending)

    def end_of(self, token_id: str, wait_id: str) -> TokenEnded | None:
        """How a token ended, for a wait on it; None while it is pending."""
        token = self.index.tokens.get(token_id)
        assert token is not None
        if token.is_pending:
            return None
        facts = end_facts(token.status.value, self.feed.at(token.ended_offset))
        return TokenEnded(
            principal=CALLER,
            wait_id=wait_id,
            token_id=token_id,
            status=facts["status"],
            data=facts.get("data"),
            ended_at=from_iso(facts["ended_at"]),
            ended_by=Principal.from_json(facts["ended_by"]),
        )

    def deliver(self, token_id: str) -> None:
        """Tell all that wait on a token of its end."""
        for session_id, state in list(self.states.items()):
            wait = state.wait
            if wait is not None and token_id in wait.awaits:
                ended = self.end_of(token_id, wait.id)
                if ended is not None:
                    self.command(session_id, ended)

    def public(self, public_id: str | None) -> ScopedToken | None:
        """Who a public token is, if it is still good for anything."""
        if public_id is None:
            return None
        owned = self.index.keys.public_tokens.get(public_id)
        return check_live(owned.token if owned is not None else None, self.now)

    # --- commands to sessions -----------------------------------------------------------------------

    def do_start(
        self,
        operation: OperationKey | None,
        *,
        task: str,
        code: Any,
        tokens: list[str],
        external_id: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """As the ledger starts a session."""
        start = replace(
            self.start_of(
                self.own_name(), task, {"code": code, "tokens": tokens}, principal=self.principal
            ),
            external_id=external_id,
            idempotency_key=key,
            operation=operation,
        )
        match = find_start(self.index, start)
        if match is None or match.by != "operation":
            registered = self.registry.tasks.get(task)
            if registered is None:
                raise TaskNotFound(task)
            registered.task.encode_payload(start.payload)
        if match is not None:
            found = repeated_start(start, match, self.feed.at(match.feed_offset))
            run = named(found.run_id)
            return {"session": named(found.session_id), "run": run, "created": found.created}
        self.begin(start)
        return {"session": named(start.session_id), "run": named(start.run_id), "created": True}

    def own_name(self) -> str:
        """What the next session of a client is called."""
        own = [known for known in self.lines.ids if re.fullmatch(r"s\d+", known)]
        return f"s{len(own)}"

    def start_of(
        self,
        name: str,
        task: str,
        payload: dict[str, Any],
        *,
        principal: Principal = CALLER,
        parent: Parent | None = None,
    ) -> StartSession:
        """A start."""
        return StartSession(
            session_id=session_named(name),
            run_id=run_named(f"{name}.r0"),
            task=task,
            payload=payload,
            external_id=None,
            tags=(),
            metadata={},
            idempotency_key=None,
            principal=principal,
            operation=None,
            request_hash=repr((task, payload)),
            parent=parent,
        )

    def begin(self, start: StartSession) -> None:
        """A new session, and its code goes on."""
        self.states[start.session_id] = SessionState(start.session_id)
        for entry in start_entries(start, self.now, None):
            self.store(entry)
        self.go_on(start.session_id)

    def do_send(
        self,
        operation: OperationKey | None,
        *,
        session: str,
        stream: str,
        data: Any,
        correlation: str | None = None,
        key: str | None = None,
        public: str | None = None,
    ) -> dict[str, Any]:
        """As gateway and host do."""
        token = self.public(public)
        if token is not None:
            check_send(token, session, stream, correlation)
        receipt = self.command(
            session,
            Send(
                principal=Principal("public_token", public) if public is not None else CALLER,
                operation=operation,
                record_id=f"rec_{self.feed.next_offset}",
                stream=stream,
                data=data,
                correlation_id=correlation,
                idempotency_key=key,
                next_run_id=self.next_run(session),
                public_token_id=public,
            ),
        )
        return sent(receipt)

    def next_run(self, session: str) -> str:
        """The id of the run that may follow."""
        return run_named(f"{named(session)}.r{self.states[session].runs_count}")

    def do_answer(
        self,
        operation: OperationKey | None,
        *,
        wait: str,
        data: Any,
        by: str | None = None,
        override: bool = False,
        why: str | None = None,
        link: ScopedToken | None = None,
    ) -> dict[str, Any]:
        """As the service does: a token's wait is answered by completing it."""
        who = self.caller(by)
        if link is not None:
            who = Principal(LINK, link.id, None, link.scope.person)
        link_id = link.id if link is not None else None
        name, wait = wait, wait_named(wait)
        about = self.lines.waits[wait]
        token = about["token_id"]
        try:
            if token is None:
                command = AnswerWait(
                    principal=who,
                    operation=operation,
                    wait_id=wait,
                    record_id=f"rec_{self.feed.next_offset}",
                    data=data,
                    link_id=link_id,
                    override_claim=override,
                    identity=self.identity,
                    may_override=self.identity is None,
                    details=AnswerDetails(override_reason=why),
                )
                return sent(self.command(about["session"], command))
            if operation is not None:
                asked = _asked({"token": token, "data": data})
                operation = OperationKey(id=operation.id, request_hash=repr(("complete", asked)))
            if about["status"] != "pending" and not self.known(operation, who):
                raise WaitResolved(wait)
            if why is not None:
                raise BadRequest(wait)
            answers = (about["session"], wait)
            receipt = self.complete(
                operation, token, data, link_id, by=who, answers=answers, override=override
            )
        except (WaitResolved, TokenCompleted, TokenCancelled, TokenExpired) as error:
            if about["status"] == "timed_out" or isinstance(error, TokenExpired):
                raise WaitTimedOut(wait) from error
            raise WaitResolved(wait) from error
        run = named(about["run"])
        return {"token": token, "outcome": receipt["outcome"], "wait": name, "run": run}

    def do_link(
        self,
        operation: OperationKey | None,
        *,
        wait: str,
        person: str,
        expires_in: int | None = None,
    ) -> dict[str, Any]:
        """As the service does; its secret is its name."""
        first = self.known(operation, CALLER)
        if first is not None:
            return {"link": first["public_token_id"], "person": person}
        wait_id = wait_named(wait)
        session, deadline_at = (self.lines.waits[wait_id][of] for of in ("session", "deadline_at"))
        ends = [self.now + ms(7 * 86_400_000)]
        ends += [self.now + ms(expires_in)] if expires_in is not None else []
        ends += [from_iso(deadline_at)] if deadline_at is not None else []
        name = self.next_public("l")
        scope = Scope(
            type=ScopeType.WAIT_ANSWER, session_id=session, wait_id=wait_id, person=person
        )
        made = ScopedToken(
            id=name,
            scope=scope,
            secret_hash=f"hash {name}",
            created_at=self.now,
            expires_at=min(ends),
            key_id="test",
        )
        command = CreatePublicToken(principal=CALLER, operation=operation, token=made.to_json())
        return {"link": self.command(session, command)["public_token_id"], "person": person}

    def do_answer_link(
        self, operation: OperationKey | None, *, link: str, data: Any
    ) -> dict[str, Any]:
        """As the route does: one refusal for whatever is wrong with the link."""
        found = self.index.keys.public_by_hash(f"hash {link}")
        if found is None or found.token.revoked_at is not None:
            raise NotFound(link)
        is_out = found.token.scope.person in self.index.people.disabled.names
        if is_out or self.now >= found.token.expires_at:
            raise NotFound(link)
        wait = named(found.token.scope.wait_id)
        assert wait is not None
        return self.do_answer(operation, wait=wait, data=data, link=found.token)

    def do_unlink(self, operation: OperationKey | None, *, link: str) -> dict[str, Any]:
        """Revoke one."""
        owned = self.index.keys.public_tokens[link]
        command = RevokePublicToken(
            principal=CALLER, operation=operation, public_token_id=link, is_link=True
        )
        self.command(owned.session_id, command)
        return {"link": link, "is_live": False}

    def do_claim(
        self,
        _: OperationKey | None,
        *,
        wait: str,
        by: str | None = None,
        override: bool = False,
        expires_in: int = 900_000,
    ) -> dict[str, Any]:
        """As the ledger keeps it."""
        about = self.lines.waits[wait_named(wait)]
        with explained(about):
            claim = self.desk.claim(
                about["session"], wait_named(wait), self.caller(by), expires_in, override=override
            )
        return {"wait": wait, "claim": claim and principal_of(claim.by)}

    def do_release(
        self, _: OperationKey | None, *, wait: str, by: str | None = None
    ) -> dict[str, Any]:
        """The same."""
        about = self.lines.waits[wait_named(wait)]
        with explained(about):
            claim = self.desk.release(about["session"], wait_named(wait), self.caller(by))
        return {"wait": wait, "claim": claim and principal_of(claim.by)}

    def do_withdraw(self, _: OperationKey | None, *, wait: str) -> dict[str, Any]:
        """Take the caller's vote back."""
        about = self.lines.waits[wait_named(wait)]
        person = self.identity.id if self.identity is not None else ""
        command = WithdrawVote(
            principal=self.principal,
            identity=self.identity,
            wait_id=wait_named(wait),
            person=person,
        )
        with explained(about):
            return sent(self.command(about["session"], command))

    def do_disable(self, operation: OperationKey | None, *, person: str) -> dict[str, Any]:
        """As the service does: from the fact on nothing of theirs is stored; then what they hold is given back."""
        self.fact(DisablePerson(principal=CALLER, person=person, names=(person,)))
        waiting = [(one, state.wait) for one, state in self.states.items() if state.wait]
        for session_id, wait in [(one, wait) for one, wait in waiting if person in wait.votes]:
            vote = WithdrawVote(principal=CALLER, wait_id=wait.id, person=person, reason="disabled")
            with suppress(*OVER):
                self.command(session_id, vote)
        self.desk.give_back((person,), CALLER)
        for owned in list(self.index.keys.public_tokens.values()):
            is_theirs = owned.token.scope.person == person and owned.token.revoked_at is None
            if is_theirs and owned.session_id in self.states:
                revoke = RevokePublicToken(
                    principal=CALLER, public_token_id=owned.token.id, is_link=True
                )
                self.command(owned.session_id, revoke)
        waiting = [(one, state.wait) for one, state in self.states.items() if state.wait]
        for session_id, wait in [(one, wait) for one, wait in waiting if wait.assignee == person]:
            back = AssignWait(principal=CALLER, wait_id=wait.id, assignee=None)
            with suppress(*OVER):
                self.command(session_id, back)
        return {"person": person}

    def do_enable(self, operation: OperationKey | None, *, person: str) -> dict[str, Any]:
        """Let them act again."""
        self.fact(EnablePerson(principal=CALLER, person=person))
        return {"person": person}

    def do_regroup(
        self, operation: OperationKey | None, *, person: str, names: list[str]
    ) -> dict[str, Any]:
        """Change what the gateway knows of a person."""
        self.groups[person] = tuple(names)
        return {}

    def do_assign(
        self, operation: OperationKey | None, *, wait: str, assignee: str | None
    ) -> dict[str, Any]:
        """Say whom it concerns; a refusal says how the wait ended."""
        wait_id = wait_named(wait)
        about = self.lines.waits[wait_id]
        command = AssignWait(
            principal=CALLER, operation=operation, wait_id=wait_id, assignee=assignee
        )
        with explained(about):
            receipt = self.command(about["session"], command)
        return {"wait": wait, "assignee": receipt["assignee"]}

    def do_run(
        self, operation: OperationKey | None, *, session: str, code: Any = None
    ) -> dict[str, Any]:
        """The next run."""
        command = StartRun(
            principal=self.principal,
            operation=operation,
            run_id=self.next_run(session),
            payload={"code": code, "tokens": []},
            payload_given=code is not None,
        )
        return {"run": named(self.command(session, command)["run_id"])}

    def do_cancel_run(
        self, operation: OperationKey | None, *, run: str, attempt: int | None = None
    ) -> dict[str, Any]:
        """An ended run is answered by the service."""
        session, run_id = session_of(run), run_named(run)
        status = self.lines.runs[run_id]
        if status in ("succeeded", "failed", "cancelled"):
            self.known(operation, CALLER)
            return {"run": run, "status": status}
        command = CancelRun(
            principal=CALLER,
            operation=operation,
            run_id=run_id,
            next_run_id=self.next_run(session),
            attempt=attempt,
        )
        self.command(session, command)
        newest = self.states[session].run
        is_newest = newest is not None and newest.id == run_id
        now = newest.status.value if newest is not None and is_newest else self.lines.runs[run_id]
        return {"run": run, "status": now}

    def do_retry(
        self, operation: OperationKey | None, *, run: str, attempt: int | None = None
    ) -> dict[str, Any]:
        """The next attempt."""
        command = RetryRun(
            principal=CALLER, operation=operation, run_id=run_named(run), attempt=attempt
        )
        return {"run": named(self.command(session_of(run), command)["run_id"])}

    def do_preview(
        self,
        _: OperationKey | None,
        *,
        batch: str,
        verb: str,
        end_input: bool,
        sessions: list[str] | None = None,
    ) -> dict[str, Any]:
        """As the service chooses them, from states."""
        meant = [*self.states] if sessions is None else [session_named(one) for one in sessions]
        shown = []
        for session_id in meant:
            if session_id not in self.states:
                raise SessionNotFound(session_id)
            state = self.states[session_id]
            if BulkVerb(verb).takes(_info(state), self.now, end_input=end_input):
                assert state.run is not None
                one = named(session_id), named(state.run.id)
                shown.append((str(one[0]), str(one[1]), state.run.attempt))
        self.plans[batch] = BulkVerb(verb), end_input, sorted(shown)
        return {"runs": [[run, attempt] for _, run, attempt in sorted(shown)]}

    def do_bulk(self, _: OperationKey | None, *, batch: str, runs: list[int]) -> dict[str, Any]:
        """As the service does it to each, under an operation of its own."""
        verb, end_input, shown = self.plans[batch]
        outcomes = []
        for session, run, attempt in (shown[place] for place in runs):
            args: dict[str, Any] = {"run": run, "attempt": attempt, "operation": f"{batch} {run}"}
            kind, wanted = verb.value, None
            if verb is BulkVerb.CANCEL:
                kind, wanted = "cancel_run", "cancelled"
            elif verb is BulkVerb.CLOSE:
                args |= {"session": session, "end_input": end_input}
                wanted = "closed"
            reply = self.do(kind, args)
            error = reply if isinstance(reply, str) else None
            is_done = not isinstance(reply, str) and reply.get("status") == wanted
            outcomes.append([run, "accepted" if is_done else "skipped", error])
        return {"outcomes": outcomes}

    def do_rewind(
        self, operation: OperationKey | None, *, run: str, op: int, keep: bool
    ) -> dict[str, Any]:
        """As was seen just before."""
        session = session_of(run)
        state = self.states[session]
        seen = plan_rewind(state, rewindable(state, run_named(run)), op, keep_answers=keep)
        command = RewindRun(
            principal=CALLER,
            operation=operation,
            run_id=run_named(run),
            to_op=op,
            reason="wrong",
            seen=seen.hash,
            keep_answers=keep,
        )
        receipt = self.command(session, command)
        for token_id in seen.tokens:
            self.deliver(token_id)
        return {"run": named(receipt["run_id"])}

    def do_amend(
        self,
        operation: OperationKey | None,
        *,
        wait: str,
        data: Any,
        keep: bool,
        why: str | None = None,
    ) -> dict[str, Any]:
        """As the service does: what completes a token is checked by the token."""
        wait = wait_named(wait)
        about = self.lines.waits[wait]
        state = self.states[about["session"]]
        run = rewindable(state, about["run"])
        seen = plan_amendment(state, run, wait, keep_answers=keep)
        self.check_token(about["token_id"], data)
        command = AmendWait(
            principal=self.principal,
            identity=self.identity,
            override_reason=why,
            may_override=self.identity is None,
            operation=operation,
            run_id=run.id,
            wait_id=wait,
            record_id=f"rec_{self.feed.next_offset}",
            data=data,
            reason="wrong",
            seen=seen.hash,
            keep_answers=keep,
        )
        receipt = self.command(about["session"], command)
        for token_id in seen.tokens:
            self.deliver(token_id)
        return {"run": named(receipt["run_id"])}

    def do_fork(
        self,
        operation: OperationKey | None,
        *,
        session: str,
        op: int,
        answer: tuple[Any, ...] = (),
        why: str | None = None,
    ) -> dict[str, Any]:
        """As service and ledger do."""
        first = self.known(operation, self.principal)
        if first is not None:
            return {"session": named(first["session_id"]), "run": named(first["run_id"])}
        state = self.states[session]
        if answer:
            assert state.run is not None
            question = wait_at(state.run, op)
            self.check_token(question.get("token_id"), answer[0])
            is_typed = "schema" in question or question.get("stream") == "numbers"
            if is_typed and not isinstance(answer[0], int):
                raise SchemaMismatch(session)
        name = self.own_name()
        made = session_named(name)
        asked = ForkSession(
            origin_id=session,
            session_id=made,
            to_op=op,
            reason="what if",
            answer=answer or None,
            record_id=f"rec_{self.feed.next_offset}",
            principal=self.principal,
            identity=self.identity,
            override_reason=why,
            may_override=self.identity is None,
            operation=operation or OperationKey(id=f"fork {name}", request_hash=""),
        )
        origin = [entry for entry in self.feed if entry.session_id == session]
        numbers: Counter[str] = Counter()

        def own(prefix: str) -> str:
            numbers[prefix] += 1
            return f"{prefix}_{name}.{prefix[0]}{numbers[prefix] - 1}"

        copies = fork(origin, op, session_id=made, new_id=own)
        drafts = begin(origin, copies, asked, self.now)
        self.states[made] = SessionState(made)
        for entry in copies:
            self.store(entry)
        self.write(made, drafts)
        run = named(drafts[0].run_id)
        self.go_on(made)
        return {"session": name, "run": run}

    def check_token(self, token_id: str | None, data: Any) -> None:
        """What completes a token has to fit it."""
        token = self.index.tokens.get(token_id) if token_id is not None else None
        if token is not None and token.schema_offsets and not isinstance(data, int):
            raise SchemaMismatch(token_id or "")

    def do_note(self, operation: OperationKey | None, *, session: str, text: str) -> dict[str, Any]:
        """A note."""
        note = AddNote(principal=CALLER, operation=operation, note_id="note", text=text)
        self.command(session, note)
        return {}

    def do_close(
        self,
        operation: OperationKey | None,
        *,
        session: str,
        end_input: bool,
        run: str | None = None,
        attempt: int | None = None,
    ) -> dict[str, Any]:
        """Close it, perhaps only as it was seen."""
        command = CloseSession(
            principal=CALLER,
            operation=operation,
            end_input=end_input,
            run_id=run_named(run) if run is not None else None,
            attempt=attempt,
        )
        return {"status": self.command(session, command)["status"]}

    def do_cancel(self, operation: OperationKey | None, *, session: str) -> dict[str, Any]:
        """Cancel it."""
        command = CancelSession(principal=CALLER, operation=operation)
        return {"status": self.command(session, command)["status"]}

    # --- commands to the ledger -----------------------------------------------------------------------

    def do_create_token(
        self, operation: OperationKey | None, *, timeout: int, is_integer: bool
    ) -> dict[str, Any]:
        """A client's token."""
        made = sum(one.id.startswith("t") for one in self.index.tokens)
        new = new_token(f"t{made}", timeout, schema={"type": "integer"} if is_integer else None)
        receipt = self.fact(CreateToken(principal=CALLER, operation=operation, new=new))
        return {"token": receipt["token_id"]}

    def do_complete(
        self, operation: OperationKey | None, *, token: str, data: Any, public: str | None = None
    ) -> dict[str, Any]:
        """By a key or a public token."""
        known = self.public(public)
        if known is not None:
            check_complete(known, token)
        return {"token": token, "outcome": self.complete(operation, token, data, public)["outcome"]}

    def complete(
        self,
        operation: OperationKey | None,
        token_id: str,
        data: Any,
        public: str | None,
        *,
        by: Principal | None = None,
        answers: tuple[str, str] | None = None,
        override: bool = False,
    ) -> dict[str, Any]:
        """Check the data by the token's schemas, then ask the ledger, as the service does."""
        principal = by or (Principal("public_token", public) if public is not None else CALLER)
        token = self.index.tokens.get(token_id)
        assert token is not None
        fact = CompleteToken(
            principal=principal,
            operation=operation,
            token_id=token_id,
            data=data,
            checked=token.schema_offsets,
            public_token_id=public,
            answers=answers,
            override_claim=override,
        )
        is_new = self.known(operation, principal) is None
        is_live = token.is_pending and self.now < token.expires_at
        if is_new and is_live and token.schema_offsets and not isinstance(data, int):
            raise SchemaMismatch(token_id)
        return self.fact(fact)

    def do_cancel_token(self, operation: OperationKey | None, *, token: str) -> dict[str, Any]:
        """Cancel one."""
        fact = CancelToken(principal=CALLER, operation=operation, token_id=token)
        return {"token": token, "status": self.fact(fact)["status"]}

    def do_create_public(
        self,
        operation: OperationKey | None,
        *,
        session: str | None = None,
        stream: str | None = None,
        token: str | None = None,
        correlation: str | None = None,
        max_uses: int | None = None,
        expires_in: int = 30 * 86_400_000,
    ) -> dict[str, Any]:
        """For a stream or a token."""
        first = self.known(operation, CALLER)
        if first is not None:
            return {"public": first["public_token_id"]}
        kind = ScopeType.TOKEN_COMPLETE if token else ScopeType.SESSION_INPUT_SEND
        scope = Scope(
            type=kind,
            session_id=session,
            stream=stream,
            token_id=token,
            correlation_id=correlation,
        )
        name = self.next_public("p")
        made = ScopedToken(
            id=name,
            scope=scope,
            secret_hash=f"hash {name}",
            created_at=self.now,
            expires_at=self.now + ms(expires_in),
            max_uses=max_uses,
            key_id="test",
        )
        if session is not None:
            state = self.states[session]
            require_stream(state, stream or "", self.context(state))
            token_json = made.to_json()
            command = CreatePublicToken(principal=CALLER, operation=operation, token=token_json)
            return {"public": self.command(session, command)["public_token_id"]}
        fact = CreateCompletionToken(
            principal=CALLER,
            operation=operation,
            public_token_id=made.id,
            token_id=token or "",
            secret_hash=made.secret_hash,
            key_id="test",
            max_uses=max_uses,
            expires_at=made.expires_at,
            allowed_origins=(),
        )
        return {"public": self.fact(fact)["public_token_id"]}

    def next_public(self, prefix: str) -> str:
        """What the next public token of a client is called, or its next link."""
        return f"{prefix}{self.made[prefix]}"

    def do_revoke(self, operation: OperationKey | None, *, public: str) -> dict[str, Any]:
        """Revoke one."""
        owned = self.index.keys.public_tokens[public]
        session = owned.token.scope.session_id
        if session is None:
            fact = RevokeCompletionToken(
                principal=CALLER, operation=operation, public_token_id=public
            )
            self.fact(fact)
        else:
            command = RevokePublicToken(
                principal=CALLER, operation=operation, public_token_id=public
            )
            self.command(session, command)
        return {"public": public}

    # --- what is old ------------------------------------------------------------------------------------

    def do_prune(self, _: OperationKey | None, *, older_than: int) -> dict[str, Any]:
        """As the memory ledger chooses them, all at once; nobody holds one."""
        count = 0
        prune = Prune(principal=CALLER, age_s=older_than / 1000)
        while found := prunable(self.index, self.feed, self.now - ms(older_than)):
            gone = tuple(head.session_id for head in found)
            count += len(gone)
            self.write(self.index.system.session_id, (pruned_draft(prune, gone, 0, None),))
            self.feed.remove_sessions(gone)
            for session_id in gone:
                del self.states[session_id], self.lines.of[session_id]
        return {"sessions": count}

    # --- time and what goes wrong -----------------------------------------------------------------------

    def do_nothing(
        self, operation: OperationKey | None, *, session: str, how: str
    ) -> dict[str, Any]:
        """Go on from a checkpoint, or from the entries alone; what neither tells of keys the ledger knows."""
        state = self.states.get(session)
        if state is None:
            return {}
        entries = [entry for entry in self.feed if entry.session_id == session]
        if how == "kill":
            again = SessionState(session)
            for entry in entries:
                again.apply(entry)
        else:
            text = checkpoint.save(state, {entry.seq: entry.feed_offset or 0 for entry in entries})
            named = {offset: self.feed.at(offset) for offset in checkpoint.refs(text)}
            again = checkpoint.restore(session, text, named)
            again.operations = state.operations
        self.states[session] = again
        self.keys.parked(again)
        return {}

    def do_delay(self, operation: OperationKey | None, *, ms: int) -> dict[str, Any]:
        """Time passes; nothing rings."""
        self.now += timedelta(milliseconds=ms)
        return {}

    def do_advance(self, operation: OperationKey | None, *, ms: int) -> dict[str, Any]:
        """Time passes; what falls due does so in order."""
        target = self.now + timedelta(milliseconds=ms)
        while True:
            due = [one for one in self.dues() if one[0] <= target]
            if not due:
                break
            at, session_id, wait_id = min(due)
            self.now = max(self.now, at)
            if session_id == "":
                self.expire()
            elif wait_id == "":
                self.go_on(session_id, is_due=True)
            else:
                self.command(session_id, Deadline(principal=CALLER, wait_id=wait_id))
        self.now = target
        return {}

    def dues(self) -> Iterator[tuple[datetime, str, str]]:
        """What a clock rings for: (when, session, wait)."""
        for session_id, state in self.states.items():
            if state.wait is not None and state.wait.due_at is not None:
                yield state.wait.due_at, session_id, state.wait.id
            elif state.run is not None and state.run.retry_at is not None:
                yield state.run.retry_at, session_id, ""
        expiry = self.index.tokens.next_expiry_at()
        if expiry is not None:
            yield expiry, "", ""

    def expire(self) -> None:
        """The tokens whose time is over."""
        tokens = self.index.tokens.due(self.now, 1)
        self.write(self.index.system.session_id, ledger.expired_drafts(tokens))
        for token in tokens:
            self.deliver(token.id)


def in_core(
    commands: Sequence[ModelCommand], reached: Counter[str] | None = None
) -> Difference | None:
    """What the core does otherwise than the model; an exception that is no refusal is a difference too."""
    try:
        return difference(commands, CoreDoor(), reached=reached)
    except Exception as error:
        return Difference(-1, "an exception", "none", repr(error))


@contextmanager
def explained(about: dict[str, Any]) -> Iterator[None]:
    """A refusal says how the wait ended."""
    try:
        yield
    except WaitResolved as error:
        if about["status"] == "timed_out":
            raise WaitTimedOut("timed out") from error
        raise


def new_token(token_id: str, timeout: int, *, schema: Any = None) -> NewToken:
    """A token whose secrets nobody asks for."""
    return NewToken(
        token_id=token_id,
        public_token_id=f"of {token_id}",
        key_id="test",
        callback_hash=f"callback {token_id}",
        public_token_hash=f"hash {token_id}",
        timeout_s=timeout / 1000,
        schema=schema,
    )


def sent(receipt: dict[str, Any]) -> dict[str, Any]:
    """A send's receipt in the model's names, or a vote's."""
    if "need" in receipt:
        told = {one: receipt[one] for one in ("outcome", "have", "need")}
        return {"wait": named(receipt["wait_id"]), **told}
    return {
        "record": f"{receipt['stream']}#{receipt['seq']}",
        "outcome": receipt["outcome"],
        "duplicate": receipt["duplicate"],
        "wait": named(receipt["wait_id"]),
        "run": named(receipt["run_id"]),
    }


def session_named(name: str) -> str:
    """The id of the session that the model calls so: ids are told by what they begin with."""
    return f"{ids.SESSION}_{name}"


def session_of(run: str) -> str:
    """The id of the session of a run that the model names."""
    return session_named(run.partition(".")[0])


def run_named(name: str) -> str:
    """The same of a run."""
    return f"{ids.RUN}_{name}"


def wait_named(name: str) -> str:
    """And of a wait."""
    return f"{ids.WAIT}_{name}"


def named(identity: str | None) -> str | None:
    """What the model calls it."""
    return identity.partition("_")[2] if identity is not None else None


def _asked(args: dict[str, Any]) -> Any:
    trimmed = {"correlation": (args.get("correlation") or "").strip() or None}
    asked = {**args, **trimmed}
    return sorted((name, asked[name]) for name in asked if name not in NOT_ASKED)


def _info(state: SessionState) -> SessionInfo:
    """What of a session decides whether a batch takes it."""
    wait, run = state.wait, state.run
    found = SimpleNamespace(
        status=state.status,
        run_status=run.status if run is not None else None,
        wait=SimpleNamespace(kind=WaitKind(wait.kind)) if wait is not None else None,
    )
    return cast(SessionInfo, found)


def _is_known(state: SessionState, command: Send) -> bool:
    key = command.idempotency_key
    return key is not None and (command.stream, key_hash(key)) in state.send_keys
