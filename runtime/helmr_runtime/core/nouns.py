"""The nouns: a session, a run, a wait, a token, a public token, each declared once. Pure.

A field here is a column of the noun's table; DDL, reading, writing, the lists' views and the test ledger's rows follow
from it (`helmr_runtime.ledger.tables.table`). A `NounColumn` beside the type describes the rest of the column. A row
begins with `opened` or `created` and changes by `wait_changes`: no other code knows which entry sets which field. Rows
of tokens come from the ledger's index, and so do API keys (`helmr_runtime.ledger.index.keys`); a feature declares its
own nouns (`helmr_runtime.ledger.index.features`).

Fields that change are numbers, times, ids and short words; long text that a view shows is read from the entry that an
`…_offset` names.

Invariants: S-53 (rows are exactly the fold of the entries), S-11, S-26.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints
from uuid import UUID

from helmr.models import (
    Activity,
    AnswerMode,
    RunStatus,
    SessionStatus,
    TokenStatus,
    WaitKind,
    WaitPriority,
    WaitStatus,
)
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, from_iso, voters_of


@dataclass(frozen=True, slots=True)
class NounColumn:
    """Properties of a field's column beyond its type.

    Attributes:
        name: The column's name, if it is not the field's.
        id_of: The prefix of the ids that it holds, stored as UUIDs.
        words: The words that it holds, stored as an enum of that type's name.
        is_key: The primary key.
        is_small: A number that fits 31 bits.
        is_json: JSON text of a list or an object, which views decode.
        changes: It is updated after the row is written.
        ends: The entry that ends the noun holds it, under the field's name.
        is_inner: Lists do not show it.
    """

    name: str | None = None
    id_of: str | None = None
    words: tuple[str, type[StrEnum]] | None = None
    is_key: bool = False
    is_small: bool = False
    is_json: bool = False
    changes: bool = False
    ends: bool = False
    is_inner: bool = False


R = TypeVar("R")

PLAIN = NounColumn()
SMALL = NounColumn(is_small=True)
JSON = NounColumn(is_json=True)
INNER = NounColumn(is_inner=True)
CHANGES = NounColumn(changes=True)
ENDS = NounColumn(changes=True, ends=True)

Changes = dict[str, Any]
"""New values of some of a row's fields, by name."""


@dataclass(frozen=True, slots=True)
class NounField:
    """A field of a noun and its column."""

    name: str
    kind: type
    is_optional: bool
    column: NounColumn


def fields_of(noun: type[Any]) -> tuple[NounField, ...]:
    """The fields of a noun in order, as declared."""
    hints = get_type_hints(noun, include_extras=True)
    return tuple(_field(one.name, hints[one.name]) for one in fields(noun))


def _field(name: str, hint: Any) -> NounField:
    column = next(
        (one for one in getattr(hint, "__metadata__", ()) if isinstance(one, NounColumn)), PLAIN
    )
    plain = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint
    parts = getattr(plain, "__args__", (plain,))
    kinds = [one for one in parts if one is not type(None)]
    return NounField(name, kinds[0], len(kinds) < len(parts), column)


def changed(row: R, changes: Changes | None) -> R:
    """The row with these changes, if any."""
    return replace(row, **changes) if changes else row  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session; changes come from its head (`helmr_runtime.ledger.index.projection.session_changes`)."""

    session_id: Annotated[str, NounColumn("session", id_of=ids.SESSION, is_key=True)]
    created_offset: int
    created_at: datetime
    task: str
    external_id: str | None
    start_key: str | None
    tags: Annotated[str, JSON]
    metadata: Annotated[str, JSON]
    updated_at: Annotated[datetime, CHANGES]
    origin_id: Annotated[str | None, NounColumn("origin", id_of=ids.SESSION)] = None
    """The session that this is a fork of, and the seq in it behind which it begins (S-86)."""
    origin_seq: Annotated[int | None, SMALL] = None
    parent_id: Annotated[str | None, NounColumn("parent", id_of=ids.SESSION)] = None
    """The parent session, and the parent's run and op that made this child (S-91)."""
    parent_run_id: Annotated[str | None, NounColumn("parent_run", id_of=ids.RUN)] = None
    parent_op: Annotated[int | None, SMALL] = None
    status: Annotated[str, NounColumn(words=("session_status", SessionStatus), changes=True)] = (
        SessionStatus.OPEN.value
    )
    activity: Annotated[str, NounColumn(words=("activity", Activity), changes=True)] = (
        Activity.IDLE.value
    )
    run_id: Annotated[str | None, NounColumn("run", id_of=ids.RUN, changes=True)] = None
    wait_id: Annotated[str | None, NounColumn("wait", id_of=ids.WAIT, changes=True)] = None
    next_seq: Annotated[int, NounColumn(is_small=True, changes=True)] = 1
    last_offset: Annotated[int, CHANGES] = 0
    epoch: Annotated[int, CHANGES] = 0
    checkpoint_offset: Annotated[int, CHANGES] = 0
    tail_count: Annotated[int, NounColumn(is_small=True, changes=True)] = 0
    open_steps: Annotated[int, NounColumn(is_small=True, changes=True)] = 0
    has_keys: Annotated[bool, CHANGES] = False

    @classmethod
    def created(cls, entry: Entry) -> SessionRow:
        """The row that its `session.created` begins."""
        body = entry.body
        origin, parent = body.get("forked_from", {}), body.get("parent", {})
        assert entry.feed_offset is not None
        return cls(
            session_id=entry.session_id,
            created_offset=entry.feed_offset,
            created_at=entry.recorded_at,
            task=body["task"],
            external_id=body.get("external_id"),
            start_key=body.get("idempotency_key_hash"),
            tags=jsontext.encode(body.get("tags", [])),
            metadata=jsontext.encode(body.get("metadata", {})),
            updated_at=entry.recorded_at,
            origin_id=origin.get("session_id"),
            origin_seq=origin.get("seq"),
            parent_id=parent.get("session_id"),
            parent_run_id=parent.get("run_id"),
            parent_op=parent.get("op"),
        )


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run; changes come from its session's head (`helmr_runtime.ledger.index.projection.run_changes`).

    Payload and origin stand in the entry at `created_offset`, result or error in that at `outcome_offset`.
    """

    run_id: Annotated[str, NounColumn("run", id_of=ids.RUN, is_key=True)]
    session_id: Annotated[str, NounColumn("session", id_of=ids.SESSION)]
    created_offset: int
    created_at: datetime
    task: str
    status: Annotated[str, NounColumn(words=("run_status", RunStatus), changes=True)] = (
        RunStatus.QUEUED.value
    )
    attempt: Annotated[int, NounColumn(is_small=True, changes=True)] = 1
    retry_at: Annotated[datetime | None, CHANGES] = None
    queued_at: Annotated[datetime | None, CHANGES] = None
    ended_at: Annotated[datetime | None, CHANGES] = None
    outcome_offset: Annotated[int | None, CHANGES] = None

    @classmethod
    def created(cls, entry: Entry, task: str) -> RunRow:
        """The row that its `run.created` begins."""
        assert entry.run_id is not None
        assert entry.feed_offset is not None
        return cls(entry.run_id, entry.session_id, entry.feed_offset, entry.recorded_at, task)


@dataclass(frozen=True, slots=True)
class WaitRow:
    """A wait: it ends once (S-11), until then its escalation runs (S-82).

    The row takes each field that `wait.opened` names from there, and `ENDS` fields from the entry that ends the wait.
    Subject, body and other texts for people stand in the entry at `opened_offset`.
    """

    wait_id: Annotated[str, NounColumn("wait", id_of=ids.WAIT, is_key=True, is_inner=True)]
    session_id: Annotated[str, NounColumn("session", id_of=ids.SESSION)]
    run_id: Annotated[str, NounColumn("run", id_of=ids.RUN)]
    op: Annotated[int, NounColumn(is_small=True, is_inner=True)]
    opened_offset: Annotated[int, INNER]
    opened_at: datetime
    task: str
    parent_session_id: Annotated[str | None, NounColumn("parent", id_of=ids.SESSION)]
    """The parent of its session (S-91)."""
    is_backoff: Annotated[bool, INNER]
    kind: Annotated[str, NounColumn(words=("awaited_kind", WaitKind))]
    stream: str | None = None
    correlation_id: str | None = None
    token_id: Annotated[str | None, NounColumn("token", id_of=ids.TOKEN)] = None
    session_ids: Annotated[str, JSON] = "[]"
    """The children of which it awaits the first to end."""
    deadline_at: datetime | None = None
    priority: Annotated[str, NounColumn(words=("wait_priority", WaitPriority))] = (
        WaitPriority.NORMAL.value
    )
    tags: Annotated[str, JSON] = "[]"
    session_tags: Annotated[str, JSON] = "[]"
    assignee: Annotated[str | None, CHANGES] = None
    next_escalation: Annotated[int | None, NounColumn(is_small=True, changes=True)] = None
    next_escalation_at: Annotated[datetime | None, CHANGES] = None
    default_at: Annotated[datetime | None, CHANGES] = None
    status: Annotated[str, NounColumn(words=("wait_status", WaitStatus), changes=True)] = (
        WaitStatus.PENDING.value
    )
    resolved_offset: Annotated[int | None, NounColumn(changes=True, is_inner=True)] = None
    resolved_at: Annotated[datetime | None, CHANGES] = None
    mode: Annotated[
        str | None, NounColumn(words=("answer_mode", AnswerMode), changes=True, ends=True)
    ] = None
    batch_id: Annotated[str | None, ENDS] = None
    answerers: Annotated[str, JSON] = "[]"
    """People and groups that may answer. If empty: anyone, or any person if another of these fields is set (S-112)."""
    not_by: Annotated[str, JSON] = "[]"
    approvals: Annotated[int, SMALL] = 1
    """Number of people who must agree, and number of votes for the newest proposal (S-113)."""
    have: Annotated[int, NounColumn(is_small=True, changes=True)] = 0
    votes: Annotated[str, NounColumn(is_json=True, changes=True, is_inner=True)] = "{}"
    """Seq of each person's vote, by the person's id; the newest last. A deputy's vote is the delegator's too."""
    override_reason: Annotated[str | None, ENDS] = None

    @classmethod
    def opened(cls, entry: Entry, task: str, parent_session_id: str | None) -> WaitRow:
        """The row that its `wait.opened` begins, in a session of that task and parent."""
        body = entry.body
        assert entry.run_id is not None
        assert entry.op is not None
        assert entry.feed_offset is not None
        return cls(
            body["wait_id"],
            entry.session_id,
            entry.run_id,
            entry.op,
            entry.feed_offset,
            entry.recorded_at,
            task,
            parent_session_id,
            bool(body.get("backoff")),
            **_told(body, _opening()),
        )


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token, or a child session, which is awaited as one (S-91); texts and schemas stand in entries."""

    token: Annotated[UUID, NounColumn(is_key=True)]
    """The token's UUID, or the child's session UUID."""
    session_id: Annotated[str, NounColumn("session", id_of=ids.SESSION)]
    created_offset: int
    created_at: datetime
    expires_at: datetime
    callback_hash: str
    tags: Annotated[str, JSON]
    has_schema: bool
    status: Annotated[str, NounColumn(words=("token_status", TokenStatus), changes=True)]
    ended_offset: Annotated[int, CHANGES]
    ended_at: Annotated[datetime | None, CHANGES]
    pin_offset: Annotated[int, CHANGES]
    parent_id: Annotated[str | None, NounColumn("parent", id_of=ids.SESSION)] = None
    parent_run_id: Annotated[str | None, NounColumn("parent_run", id_of=ids.RUN)] = None
    parent_op: Annotated[int | None, SMALL] = None
    parent_attempt: Annotated[int | None, SMALL] = None
    leaves: bool | None = None


@dataclass(frozen=True, slots=True)
class PublicTokenRow:
    """A public token and the session that decides it."""

    id: Annotated[str, NounColumn("public_token", id_of=ids.PUBLIC_TOKEN, is_key=True)]
    session_id: Annotated[str, NounColumn("session", id_of=ids.SESSION)]
    created_offset: int
    created_at: datetime
    secret_hash: str
    scope: Annotated[str, JSON]
    allowed_origins: Annotated[str, JSON]
    key_id: str | None
    max_uses: int | None
    expires_at: datetime
    uses: Annotated[int, CHANGES]
    last_used_at: Annotated[datetime | None, CHANGES]
    revoked_at: Annotated[datetime | None, CHANGES]


WAIT_OUTCOMES: Mapping[EntryKind, WaitStatus] = {
    EntryKind.WAIT_FULFILLED: WaitStatus.FULFILLED,
    EntryKind.WAIT_TIMED_OUT: WaitStatus.TIMED_OUT,
    EntryKind.WAIT_CANCELLED: WaitStatus.CANCELLED,
}


CHANGE_WAITS = frozenset(
    {
        *WAIT_OUTCOMES,
        EntryKind.WAIT_ASSIGNED,
        EntryKind.WAIT_REMINDED,
        EntryKind.WAIT_VOTED,
        EntryKind.WAIT_VOTE_WITHDRAWN,
    }
)
"""Kinds of entries that `wait_changes` handles."""


def wait_changes(entry: Entry) -> Changes:
    """Return the changes that an entry about an open wait makes to its row."""
    body = entry.body
    match entry.kind:
        case EntryKind.WAIT_FULFILLED | EntryKind.WAIT_TIMED_OUT | EntryKind.WAIT_CANCELLED:
            return {
                "status": WAIT_OUTCOMES[entry.kind].value,
                "resolved_offset": entry.feed_offset,
                "resolved_at": entry.recorded_at,
                **{name: body.get(name) for name in _ending()},
                **_NOTHING_DUE,
                **_votes(entry),
            }
        case EntryKind.WAIT_ASSIGNED:
            escalated = _due(body) if "counted_at" in body else {}
            return {"assignee": body.get("assignee"), **escalated}
        case EntryKind.WAIT_REMINDED:
            return _due(body)
        case EntryKind.WAIT_VOTED | EntryKind.WAIT_VOTE_WITHDRAWN:
            return _votes(entry)
        case _:
            return {}


_NOTHING_DUE: Changes = {"next_escalation": None, "next_escalation_at": None, "default_at": None}


def _votes(entry: Entry) -> Changes:
    """Return the votes after an entry that holds the other people's votes and may be a vote itself."""
    body = entry.body
    if "voters" not in body:
        return {}
    votes = dict(body["voters"])
    if entry.kind is not EntryKind.WAIT_VOTE_WITHDRAWN:
        votes |= dict.fromkeys(voters_of(body), entry.seq)
    return {"have": body["have"], "votes": jsontext.encode(votes)}


def _due(body: Mapping[str, Any]) -> Changes:
    """Return the wait's next escalation step, from the body of an entry."""
    return {**_NOTHING_DUE, **_told(body, {name: _opening()[name] for name in _NOTHING_DUE})}


def _told(body: Mapping[str, Any], kinds: Mapping[str, NounField]) -> Changes:
    """Return the values of these fields in a body, as the row holds them."""
    found: Changes = {}
    for name, one in kinds.items():
        if name in body:
            value = body[name]
            if one.column.is_json:
                value = jsontext.encode(value)
            elif one.kind is datetime and value is not None:
                value = from_iso(value)
            found[name] = value
    return found


@cache
def _opening() -> Mapping[str, NounField]:
    """Return the fields that a wait's opening holds, by name."""
    return {one.name: one for one in fields_of(WaitRow)[9:] if not one.column.ends}


@cache
def _ending() -> tuple[str, ...]:
    """Return the names of the fields that its end holds."""
    return tuple(one.name for one in fields_of(WaitRow) if one.column.ends)
