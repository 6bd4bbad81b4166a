"""Commands to a session or to the ledger, as frozen values that cross actor boundaries, and their receipts.

Each carries its principal and its operation. The caller makes all ids, so that deciding stays a function of its
arguments. The edge has checked that data is strict JSON; whatever holds the task's types checks its schema before
deciding.

The entry that carries a command's operation holds the receipt, for the first call and for repeats (S-61).

Facts of the whole ledger are entries of the system stream: sessions left it, or a runtime opened its log where other
machines reach it (S-69, S-98). Versions up to 0.7 also wrote that a follower's copy became the ledger.

```
sessions.pruned    sessions[] entries archive? reason?     entries: how many they had; archive: the file that has them
ledger.promoted    generation after reason?     of 0.7 and earlier; read for ever
ledger.opened      generation writer            writer: of the opening, as its records of the log name it
```

These bodies are never sealed: copies without keys act on them. Of two ledgers, the one with the higher generation is
the later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from helmr.errors import BadRequest, DataError, OperationConflict
from helmr.models import PRUNE_AGE_MIN_S, REASON_MAX, VoteOutcome
from helmr_runtime.core.answerers import AnswerSignature, Identity
from helmr_runtime.core.delegations import Deputy
from helmr_runtime.core.entries import (
    PERSON,
    Draft,
    Entry,
    EntryKind,
    Principal,
    decided_at,
    iso,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationKey:
    """The name of one mutating call (S-61). `request_hash` is over route and body."""

    id: str
    request_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCommand:
    """Base of all commands."""

    principal: Principal
    identity: Identity | None = None
    """The person who asks, if the gateway has proven who it is; the principal then names them."""
    operation: OperationKey | None = None
    sent_at: datetime | None = None
    """The time the command carries, if any; `now` is at least that."""
    trace: str | None = None
    """Its cause, as a W3C traceparent; decides nothing and is stored nowhere."""
    family: str | None = None
    """The session that this one descends from, set by the directory; decides nothing and is stored nowhere."""


def operation_json(operation: OperationKey) -> dict[str, str]:
    """An operation as it stands in the body of the entry that carries its receipt."""
    return {"id": operation.id, "request_hash": operation.request_hash}


def carrier(
    kind: EntryKind, body: dict[str, Any], command: SessionCommand, *, run_id: str | None = None
) -> Draft:
    """The entry that carries a command's operation, and of which its receipt is made (`core.receipts`)."""
    if command.operation is not None:
        body["operation"] = operation_json(command.operation)
    return Draft(kind, body, run_id=run_id, principal=command.principal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(SessionCommand):
    """Append a record to an input stream (S-20…S-28). Receipt: `SendReceipt` as JSON."""

    record_id: str
    stream: str
    data: Any
    correlation_id: str | None = None
    idempotency_key: str | None = None
    next_run_id: str
    public_token_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDetails:
    """Facts of an answer besides its data: one value from the request to the entry that ends the wait.

    The entry records each field under its name. A new one is declared here, and under the same name as a field of
    `helmr.models.AnswerRequest` and of `helmr_runtime.core.nouns.WaitRow`, or is decided, as `mode` is.
    """

    mode: str | None = None
    """The channel that it came by (S-73)."""
    batch_id: str | None = None
    """Id of the batch that it was given in."""
    override_reason: str | None = None
    """An admin's reason for answering instead of the people who may (S-112)."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> AnswerDetails:
        """Read the details from a request, an entry's body or the facts of a token's end."""
        return cls(**{name: said[name] for name in _ANSWER_DETAILS if name in said})

    def recorded(self) -> dict[str, Any]:
        """Return the details that are set, by name, as entries record them."""
        found = ((name, getattr(self, name)) for name in _ANSWER_DETAILS)
        return {name: value for name, value in found if value is not None}


_ANSWER_DETAILS = tuple(one.name for one in fields(AnswerDetails))
NO_DETAILS = AnswerDetails()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWait(SessionCommand):
    """Answer exactly this input wait (S-18). Receipt: as `Send`."""

    wait_id: str
    record_id: str
    data: Any
    link_id: str | None = None
    """The answer link that it came through (S-74)."""
    override_claim: bool = False
    """Answer even if someone else has claimed the wait (S-81)."""
    may_override: bool = False
    """An admin asks: `override_reason` counts."""
    signature: AnswerSignature | None = None
    """The answering person's signature of this answer (S-115)."""
    deputies: tuple[Deputy, ...] = ()
    """The delegations by which the person may answer for another (S-142)."""
    deputy_for: str | None = None
    """For whom the person answers, as they say; None: for themselves, or as `delegations.ActingPerson.chosen` finds."""
    details: AnswerDetails = NO_DETAILS


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawVote(SessionCommand):
    """Take a person's vote on a pending wait back (S-113). Idempotent. Receipt: `{wait_id, outcome, have, need}`.

    `reason`: taken_back, by the person; disabled, because the person may no longer answer.
    """

    wait_id: str
    person: str
    reason: str = "taken_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignWait(SessionCommand):
    """Say whom the pending wait concerns from now on (S-72). Receipt: `{wait_id, assignee}`."""

    wait_id: str
    assignee: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline(SessionCommand):
    """The clock says this wait may be due (S-14). Receipt: `{status, due_at?}`."""

    wait_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEnded(SessionCommand):
    """A delivery: the token or the child session of this wait ended (S-40, S-91).

    `status`: completed, expired, cancelled; of a child that has ended by itself, however, completed.
    """

    wait_id: str
    token_id: str
    status: str
    data: Any = None
    ended_at: datetime
    ended_by: Principal
    details: AnswerDetails = NO_DETAILS
    """Details of its completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun(SessionCommand):
    """Start the next run of an open, idle session (S-2). `payload_given` False: as the newest run."""

    run_id: str
    payload: Any = None
    payload_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun(SessionCommand):
    """Cancel the active run (S-6). Idempotent. `attempt`: only at this attempt (S-124)."""

    run_id: str
    next_run_id: str
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun(SessionCommand):
    """Start the next attempt of the newest run (S-5). `attempt`: only if this attempt is its newest (S-124)."""

    run_id: str
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindRun(SessionCommand):
    """Take the newest run back to an op (S-75). Receipt: `{run_id, attempt}`.

    `seen` is the hash of the preview that was looked at (S-76); `keep_answers` False asks everything
    again, `keep_children` True lets the children go on that set-aside ops have started.
    """

    run_id: str
    to_op: int
    reason: str
    seen: str
    keep_answers: bool = True
    keep_children: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendWait(SessionCommand):
    """Give a resolved wait another answer (S-79). Receipt: as `RewindRun`."""

    run_id: str
    wait_id: str
    record_id: str
    data: Any
    reason: str
    seen: str
    override_reason: str | None = None
    may_override: bool = False
    """As in `AnswerWait`."""
    keep_answers: bool = True
    keep_children: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSession(SessionCommand):
    """Cancel the session and all that is open in it (S-6). Idempotent.

    `reason`: the parent's reason, `parent_cancelled` or `rewound`; None if a caller asks.
    """

    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession(SessionCommand):
    """Close the session (S-6). Idempotent. `run_id`, `attempt`: only if its newest run is this, at this attempt."""

    end_input: bool = False
    run_id: str | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddNote(SessionCommand):
    """Write a person's note into the transcript."""

    note_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePublicToken(SessionCommand):
    """Make a public token for a stream or a wait of the session (S-44, S-74). Receipt: `{public_token_id, key_id}`.

    `token` is `PublicToken.to_json()` with its times as they shall be.
    """

    token: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokePublicToken(SessionCommand):
    """Revoke one of the session's public tokens. Idempotent. Receipt: `{public_token_id, status}`."""

    public_token_id: str
    is_link: bool = False
    """It is an answer link: if its wait has ended, it is revoked already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(SessionCommand):
    """Have the session adopted and do nothing else; the directory resumes queued runs by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFact(SessionCommand):
    """Base of the facts that features write into the system stream."""

    feature: ClassVar[str]
    """The feature's name; facts of one feature are decided in turn."""

    def decide(self, memory: Any, now: datetime) -> tuple[Sequence[Draft], Mapping[str, Any]]:
        """Return the entries to write, and the receipt. Pure.

        Args:
            memory: The feature's own memory (`helmr_runtime.ledger.index.features.FeatureMemory`).
            now: The ledger's time.

        Raises:
            HelmrError: It is refused; nothing is written.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureQuestion:
    """Base of the reads of features' memory in the ledger."""

    feature: ClassVar[str]

    def answer(self, memory: Any, now: datetime) -> Any:
        """Return the answer at the ledger's time, as JSON. Pure."""
        raise NotImplementedError


def is_paced(command: SessionCommand | None) -> bool:
    """True for a command from the directory's list of work: no caller waits for its effects."""
    if isinstance(command, CancelSession):
        return command.operation is None
    return isinstance(command, Resume | TokenEnded)


@dataclass(frozen=True, slots=True)
class FirstReceipt:
    """An operation that was accepted: who asked, what for, and the receipt they got."""

    operation: OperationKey
    principal: Principal
    receipt: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> FirstReceipt | None:
        """Read the operation from an entry; None if it carries none."""
        operation = entry.body.get("operation")
        if operation is None:
            return None
        return cls(
            OperationKey(id=operation["id"], request_hash=operation["request_hash"]),
            entry.principal,
            receipt_of(entry),
        )

    def again(self, operation: OperationKey, principal: Principal) -> dict[str, Any]:
        """The receipt, for the caller who asks the same again.

        Operation ids are not secret, since transcripts show them: another key or public token that repeats one learns
        nothing about its use.

        Raises:
            OperationConflict: The id was used with another request or by another caller.
        """
        is_callers = (principal.type, principal.id) == (self.principal.type, self.principal.id)
        if not is_callers or operation.request_hash != self.operation.request_hash:
            raise OperationConflict(
                f"operation {operation.id} was used with another request",
                hint="Use a new Operation-Id for a new request.",
                operation_id=operation.id,
            )
        return dict(self.receipt)


def receipt_of(entry: Entry) -> dict[str, Any]:
    """The receipt of the command whose operation this entry carries.

    Raises:
        DataError: The kind carries no receipt.
    """
    return receipt(entry, entry.session_id, seq=entry.seq, at=decided_at(entry))


def receipt(
    carrier: Draft | Entry, session_id: str, *, seq: int = 0, at: datetime | None = None
) -> dict[str, Any]:
    """The receipt that an entry carries, also before it has its place.

    Args:
        carrier: The entry or its draft.
        session_id: Its session.
        seq: Its seq; only a note's receipt says it.
        at: Its time; only a completion's receipt says it.

    Raises:
        DataError: The kind carries no receipt.
    """
    makes = _RECEIPTS.get(carrier.kind)
    if makes is None:
        raise DataError(f"{session_id}: entry {seq} ({carrier.kind}) carries no receipt")
    said = makes(_Carried(carrier.body, carrier.run_id, session_id, seq, at))
    by = carrier.principal
    is_deputy = by.type == PERSON and by.on_behalf_of is not None
    return {**said, "deputy_for": by.on_behalf_of} if is_deputy else said


class _Carried(NamedTuple):
    """The parts of an entry that a receipt is made of: body, run and place."""

    body: Mapping[str, Any]
    run_id: str | None
    session_id: str
    seq: int
    at: datetime | None


_Makes = Callable[[_Carried], dict[str, Any]]


def _says(*names: str, **also: str) -> _Makes:
    """Make a receipt of these fields of the entry's body and these constants."""
    return lambda of: {**{name: of.body[name] for name in names}, **also}


def _of_input(of: _Carried) -> dict[str, Any]:
    body = of.body
    return {
        "record_id": body["record_id"],
        "stream": body["stream"],
        "seq": body["stream_seq"],
        "outcome": body["outcome"],
        "duplicate": False,
        "wait_id": body.get("wait_id"),
        "run_id": body.get("run_id"),
    }


def _of_vote(outcome: VoteOutcome) -> _Makes:
    said = _says("wait_id", "have", "need", outcome=outcome.value)
    return lambda of: {**said(of), "run_id": of.run_id}


def _of_completion(of: _Carried) -> dict[str, Any]:
    assert of.at is not None
    return {"token_id": of.body["token_id"], "outcome": "completed", "completed_at": iso(of.at)}


def _of_attempt(of: _Carried) -> dict[str, Any]:
    return {"run_id": of.run_id, "attempt": of.body["attempt"]}


_RECEIPTS: Mapping[EntryKind, _Makes] = {
    EntryKind.INPUT_ACCEPTED: _of_input,
    EntryKind.SESSION_CREATED: lambda of: {
        "session_id": of.session_id,
        "run_id": of.body["run_id"],
        "created": True,
    },
    EntryKind.SESSION_FORKED: lambda of: {
        "session_id": of.session_id,
        "run_id": of.run_id,
        "created": True,
    },
    EntryKind.SESSION_CANCELLED: lambda of: {"session_id": of.session_id, "status": "cancelled"},
    EntryKind.SESSION_CLOSED: lambda of: {"session_id": of.session_id, "status": "closed"},
    EntryKind.RUN_CREATED: lambda of: {"session_id": of.session_id, "run_id": of.run_id},
    EntryKind.RUN_CANCELLED: lambda of: {"run_id": of.run_id, "status": "cancelled"},
    EntryKind.RUN_RETRIED: _of_attempt,
    EntryKind.RUN_REWOUND: _of_attempt,
    EntryKind.WAIT_ASSIGNED: lambda of: {
        "wait_id": of.body["wait_id"],
        "assignee": of.body.get("assignee"),
    },
    EntryKind.WAIT_VOTED: _of_vote(VoteOutcome.VOTED),
    EntryKind.WAIT_VOTE_WITHDRAWN: _of_vote(VoteOutcome.WITHDRAWN),
    EntryKind.NOTE_ADDED: lambda of: {
        "note_id": of.body["note_id"],
        "session_id": of.session_id,
        "seq": of.seq,
    },
    EntryKind.TOKEN_CREATED: _says("token_id", "key_id"),
    EntryKind.TOKEN_COMPLETED: _of_completion,
    EntryKind.TOKEN_CANCELLED: _says("token_id", status="cancelled"),
    EntryKind.PUBLIC_TOKEN_CREATED: lambda of: {
        "public_token_id": of.body["public_token_id"],
        "key_id": of.body.get("key_id"),
    },
    EntryKind.PUBLIC_TOKEN_REVOKED: _says("public_token_id", status="revoked"),
    EntryKind.API_KEY_CREATED: _says("key_id"),
    EntryKind.API_KEY_REVOKED: _says("key_id", status="revoked"),
    EntryKind.PERSON_BOUND: _says("person"),
    EntryKind.PERSON_UNBOUND: _says("person"),
    EntryKind.PERSON_DISABLED: _says("person"),
    EntryKind.PERSON_ENABLED: _says("person"),
    EntryKind.PERSON_KEY_ADDED: _says("person"),
    EntryKind.PERSON_KEY_REVOKED: _says("person"),
    EntryKind.PERSON_DELEGATED: _says("delegation_id"),
    EntryKind.PERSON_DELEGATION_ENDED: _says("delegation_id"),
}
"""The receipt of each kind of entry."""


SESSIONS_MAX = 200
ENTRIES_MAX = 2_000
"""Entries of one page and its file, unless a single session has more."""

AT_ONCE = 20
"""Sessions removed in one transaction, during which other commits wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Remove one page of old sessions.

    Attributes:
        age_s: Minimum age of a session's last entry, in seconds.
        is_archived: They are written to a Parquet file before.
        is_dry_run: Nothing is removed; the answer counts all pages.
        session_ids: Consider only these; None considers all. A family goes only if all of it is named.

    Raises:
        BadRequest: The age is below the time for which repeated operations are remembered, or the reason is too long.
    """

    principal: Principal
    age_s: float
    is_archived: bool = True
    is_dry_run: bool = False
    reason: str | None = None
    session_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.age_s < PRUNE_AGE_MIN_S:
            raise BadRequest(
                "a session must stay for a day after it has ended",
                hint="An operation that is repeated within a day gets its first receipt.",
            )
        if self.reason is not None and len(self.reason) > REASON_MAX:
            raise BadRequest(f"a reason has at most {REASON_MAX} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Age at which closed sessions are removed, in seconds, and whether they are archived as Parquet first."""

    closed_after_s: float
    archive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The result of a prune, or of its dry run.

    Attributes:
        is_last: No session that is old enough is left.
        archive: Name of the file that holds them now.
        gone: Ids of the removed sessions.
    """

    sessions: int
    entries: int
    is_last: bool
    archive: str | None = None
    gone: tuple[str, ...] = ()


def pruned_draft(
    prune: Prune, sessions: tuple[str, ...], entries: int, archive: str | None
) -> Draft:
    """The entry that says that these sessions are gone."""
    body: dict[str, Any] = {"sessions": list(sessions), "entries": entries}
    optional = {"archive": archive, "reason": prune.reason}
    body.update((name, value) for name, value in optional.items() if value is not None)
    return Draft(EntryKind.SESSIONS_PRUNED, body, principal=prune.principal)


def sessions_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of the sessions that a `sessions.pruned` removes."""
    return tuple(body["sessions"])


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLedger(SessionCommand):
    """A runtime opens the log that other machines reach, as the next generation. Receipt: `{generation}`.

    Attributes:
        above: The new generation is also higher than this one.
    """

    writer: str
    above: int = 0

    def draft(self, generation: int) -> Draft:
        """The entry."""
        body = {"generation": generation, "writer": self.writer}
        return Draft(EntryKind.LEDGER_OPENED, body, principal=self.principal)
