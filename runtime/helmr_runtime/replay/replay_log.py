"""A run's journal as a replay log, and on the wire.

Replay walks the log in seq order: at an *opened* line it waits until the code has asked for that op; at an *outcome* it
delivers it; at a *given up* line it waits until the code has cancelled that op again (S-30). `journal_of` takes only
what a replay needs of a session. Invariant: `make_replay_log` makes the same of `state_of(journal_of(state))` as of the
state.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr.current import Record, WaitOutcome
from helmr.errors import DataError
from helmr.models import JournalEntry, JournalRecord, RunJournal
from helmr.wire.old_names import body_of_today
from helmr_runtime.core.entries import RUNTIME, Entry, EntryKind, Watermark, from_iso
from helmr_runtime.core.run import INSTANT, STEP_OUTCOMES, WAIT_OUTCOMES, Run
from helmr_runtime.core.state import InputRecord, SessionState


@dataclass(frozen=True, slots=True)
class Opened:
    """The code asked for this op; `text` is the request's kind and name."""

    op: int
    text: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The code cancelled this op."""

    op: int


@dataclass(frozen=True, slots=True)
class StepValue:
    """A step's recorded value, JSON."""

    value: Any


@dataclass(frozen=True, slots=True)
class StepError:
    """A step's recorded failure."""

    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A token or public token that was made; its secrets are derived from its id with that master key.

    Attributes:
        is_copied: The origin of this fork made it, and only the origin has its secrets (S-86).
    """

    id: str
    key_id: str
    expires_at: datetime
    is_raw: bool = False
    is_copied: bool = False


@dataclass(frozen=True, slots=True)
class RecordsLost:
    """Not all records that a read of a stream's history saw are still there."""

    op: int
    message: str


Payload = WaitOutcome | StepValue | StepError | MadeToken | RecordsLost | int | list[Record]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an op as the code gets it, and the time when it was recorded."""

    op: int
    payload: Payload
    recorded_at: datetime


Line = Opened | GivenUp | Outcome


@dataclass(frozen=True, slots=True)
class ReplayLog:
    """The lines that a replay follows, with lookups by op.

    Attributes:
        lines: In seq order.
        began_at: Time when the run was created; None if unknown.
        opened: Op → the request's text, for every op in the journal.
        clocks: Op → the time that `ctx.now()` returned.
        given_up: Ops that the code cancelled; their outcomes were never seen.
        unfinished: Ops opened without an outcome.
        patches: Marks of patches, as (op asked last, name).
        openings: Op → the body of the entry that opened it.
        draws_from: The run whose id ids and random numbers are drawn from, if the session is a fork (S-86).
    """

    lines: tuple[Line, ...]
    began_at: datetime | None
    opened: Mapping[int, str]
    clocks: Mapping[int, datetime]
    given_up: frozenset[int]
    unfinished: frozenset[int]
    patches: frozenset[tuple[int, str]] = frozenset()
    draws_from: str | None = None
    openings: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def make_replay_log(state: SessionState, histories: Mapping[int, Sequence[Any]]) -> ReplayLog:
    """The replay log of the state's newest run.

    Args:
        state: The session.
        histories: Op → the bodies of the records of each `history.read` in the journal.
    """
    run = state.run
    if run is None:
        raise DataError(f"{state.id} has no run to replay")
    lines: list[Line] = []
    opened: dict[int, str] = {}
    openings: dict[int, Mapping[str, Any]] = {}
    clocks: dict[int, datetime] = {}
    given_up: set[int] = set()
    finished: set[int] = set()
    patches: set[tuple[int, str]] = set()
    for entry in run.journal:
        op = entry.op
        if op is None:
            continue
        if entry.kind is EntryKind.PATCH_MARKED:
            patches.add((op, entry.body["name"]))
            continue
        text = opened_text(entry)
        if text is not None:
            opened[op] = text
            openings[op] = entry.body
            lines.append(Opened(op, text))
        if entry.kind is EntryKind.CLOCK_READ:
            clocks[op] = from_iso(entry.body["now"])
            finished.add(op)
        elif entry.body.get("reason") == "task":
            given_up.add(op)
            finished.add(op)
            lines.append(GivenUp(op))
        elif is_outcome(entry):
            finished.add(op)
            lines.append(outcome_of(state, entry, histories.get(op, ())))
    return ReplayLog(
        lines=tuple(lines),
        began_at=run.created_at,
        draws_from=run.draws_from,
        opened=opened,
        openings=openings,
        clocks=clocks,
        given_up=frozenset(given_up),
        unfinished=frozenset(opened.keys() - finished),
        patches=frozenset(patches),
    )


OUTCOMES = (STEP_OUTCOMES | WAIT_OUTCOMES | INSTANT) - {EntryKind.CLOCK_READ}
"""Kinds of entries that may give an op's outcome to the code."""


def is_outcome(entry: Entry) -> bool:
    """The entry gives an op's outcome to the code."""
    return entry.kind in OUTCOMES and (entry.op is not None or entry.kind not in INSTANT)


def opened_text(entry: Entry) -> str | None:
    """Return kind and name of the op that this entry opens, as `str(ask)`; None if it opens none."""
    body = entry.body
    match entry.kind:
        case EntryKind.STEP_STARTED:
            return f"step {body['name']}"
        case EntryKind.WAIT_OPENED:
            stream = body.get("stream")
            return f"wait {body['kind']} {stream}" if stream is not None else f"wait {body['kind']}"
        case EntryKind.OUTPUT_APPENDED:
            return f"output {body['stream']}"
        case EntryKind.PEEK_READ:
            return f"peek {body['stream']}"
        case EntryKind.HISTORY_READ:
            return f"history {body['stream']}"
        case EntryKind.CLOCK_READ:
            return "clock"
        case EntryKind.TOKEN_CREATED:
            return "token"
        case EntryKind.PUBLIC_TOKEN_CREATED:
            return f"public_token {body['scope']['type']}"
        case _:
            return None


def shown_in(opening: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a recorded op that a message can show, named as in `OpRequest.shown`."""
    return {
        "duration in seconds": opening.get("timeout_s"),
        "correlation id": opening.get("correlation_id"),
        "token": opening.get("token_id"),
        **{name: opening.get(name) for name in ("subject", "body", "data")},
    }


def outcome_of(state: SessionState, entry: Entry, history: Sequence[Any] = ()) -> Outcome:
    """Return the outcome that an `is_outcome` entry gives to the code.

    Args:
        state: Its session's state.
        entry: The entry.
        history: The records that a `history.read` saw: `Record`s without gaps, or the records' bodies.
    """
    if entry.op is None:
        raise DataError(f"{state.id}: entry {entry.seq} ({entry.kind}) has no op")
    return Outcome(entry.op, _payload(state, entry, entry.op, history), entry.recorded_at)


def _payload(state: SessionState, entry: Entry, op: int, history: Sequence[Any]) -> Payload:
    body = entry.body
    match entry.kind:
        case EntryKind.STEP_SUCCEEDED:
            return StepValue(body["value"])
        case EntryKind.STEP_FAILED:
            return StepError(body["error"])
        case EntryKind.OUTPUT_APPENDED:
            return int(body["stream_seq"])
        case EntryKind.PEEK_READ:
            return [_record(state.record(body["stream"], seq)) for seq in body["record_seqs"]]
        case EntryKind.HISTORY_READ:
            lost = Watermark.of(body).lacks(history)
            if lost is not None:
                return RecordsLost(op, lost)
            return [item if isinstance(item, Record) else _past(item) for item in history]
        case EntryKind.TOKEN_CREATED:
            return MadeToken(
                id=body["token_id"],
                key_id=body["key_id"],
                expires_at=from_iso(body["expires_at"]),
                is_raw=bool(body.get("raw")),
                is_copied="copied_from" in body,
            )
        case EntryKind.PUBLIC_TOKEN_CREATED:
            return MadeToken(
                id=body["public_token_id"],
                key_id=body["key_id"],
                expires_at=from_iso(body["expires_at"]),
                is_copied="copied_from" in body,
            )
        case EntryKind.WAIT_FULFILLED:
            taken = (
                state.record(body["stream"], body["record_seq"]) if "record_seq" in body else None
            )
            return WaitOutcome(
                op=op,
                wait_id=body["wait_id"],
                status="fulfilled",
                record=_record(taken) if taken is not None else None,
                data=body.get("data"),
            )
        case EntryKind.WAIT_TIMED_OUT:
            return WaitOutcome(op=op, wait_id=body["wait_id"], status="timed_out")
        case EntryKind.WAIT_CANCELLED:
            return WaitOutcome(
                op=op, wait_id=body["wait_id"], status="cancelled", reason=body.get("reason")
            )
        case _:
            raise DataError(f"{state.id}: entry {entry.seq} ({entry.kind}) is not an outcome")


def _past(body: Mapping[str, Any]) -> Record:
    return Record(
        id=body["record_id"],
        stream=body["stream"],
        seq=body["stream_seq"],
        data=body["data"],
        correlation_id=body.get("correlation_id"),
    )


def _record(record: InputRecord) -> Record:
    return Record(
        id=record.id,
        stream=record.stream,
        seq=record.seq,
        data=record.data,
        correlation_id=record.correlation_id,
    )


Histories = Mapping[int, Sequence[Mapping[str, Any]]]
"""Op → the bodies of the records of each `history.read`."""

SECRET_KEYS = frozenset({"callback_hash", "public_token_hash", "secret_hash", "verify"})
"""Keys of tokens' bodies that no replay reads."""


def journal_of(
    state: SessionState, histories: Histories, keys: Mapping[str, bytes] | None = None
) -> RunJournal:
    """Return the journal of a state's newest run; `keys` are those of its requests' hashes."""
    run = state.run
    if run is None:
        raise DataError(f"{state.id} has no run")
    return RunJournal(
        session_id=state.id,
        external_id=state.external_id,
        tags=list(state.tags),
        metadata=dict(state.metadata),
        run_id=run.id,
        task=run.task,
        status=run.status,
        attempt=run.attempt,
        payload=run.payload,
        created_at=run.created_at,
        entries=[_entry(entry) for entry in run.journal if entry.op is not None],
        records=[_journal_record(record) for record in _named(state, run)],
        histories={op: [_accepted(body) for body in bodies] for op, bodies in histories.items()},
        asked_keys={tag: base64.b64encode(key).decode() for tag, key in (keys or {}).items()},
    )


def keys_of(journal: RunJournal) -> dict[str, bytes]:
    """Return the keys in a journal.

    Raises:
        DataError: One is not a key.
    """
    try:
        return {tag: base64.b64decode(key) for tag, key in journal.asked_keys.items()}
    except ValueError as error:
        raise DataError(f"{journal.run_id}: its journal's keys can't be read: {error}") from error


def state_of(journal: RunJournal) -> tuple[SessionState, Histories]:
    """Return a state whose newest run has that journal, and the results of its reads of histories."""
    state = SessionState(journal.session_id)
    state.task = journal.task
    state.external_id = journal.external_id
    state.tags = list(journal.tags)
    state.metadata = dict(journal.metadata)
    run = Run(
        id=journal.run_id,
        task=journal.task,
        payload=journal.payload,
        created_seq=0,
        created_at=journal.created_at,
        attempt=journal.attempt,
        status=journal.status,
    )
    for one in journal.entries:
        run.add(_restored(journal, one))
    state.run = run
    for record in journal.records:
        state.taken[record.stream, record.seq] = InputRecord(
            id=record.id,
            stream=record.stream,
            seq=record.seq,
            data=record.data,
            correlation_id=record.correlation_id,
            size_bytes=0,
            entry_seq=0,
            feed_offset=None,
        )
    histories = {
        op: [
            {
                "record_id": record.id,
                "stream": record.stream,
                "stream_seq": record.seq,
                "data": record.data,
                "correlation_id": record.correlation_id,
            }
            for record in records
        ]
        for op, records in journal.histories.items()
    }
    return state, histories


def _entry(entry: Entry) -> JournalEntry:
    assert entry.op is not None
    return JournalEntry(
        seq=entry.seq,
        recorded_at=entry.recorded_at,
        kind=entry.kind.value,
        op=entry.op,
        body={key: value for key, value in entry.body.items() if key not in SECRET_KEYS},
    )


def _restored(journal: RunJournal, one: JournalEntry) -> Entry:
    try:
        kind = EntryKind(one.kind)
    except ValueError as error:
        raise DataError(
            f"{journal.run_id}: entry {one.seq} is a {one.kind}, which this release does not know",
            hint="Check with the release that the runtime has.",
        ) from error
    return Entry(
        session_id=journal.session_id,
        seq=one.seq,
        recorded_at=one.recorded_at,
        kind=kind,
        run_id=journal.run_id,
        op=one.op,
        principal=RUNTIME,
        body=body_of_today(one.kind, one.body),
        body_json="",
        hash=b"",
    )


def _named(state: SessionState, run: Run) -> Iterable[InputRecord]:
    """Yield the records that outcomes in the journal name, each once."""
    named: dict[tuple[str, int], None] = {}
    for entry in run.journal:
        body = entry.body
        if entry.kind is EntryKind.WAIT_FULFILLED and "record_seq" in body:
            named[body["stream"], body["record_seq"]] = None
        elif entry.kind is EntryKind.PEEK_READ:
            named |= {(body["stream"], seq): None for seq in body["record_seqs"]}
    return [state.record(stream, seq) for stream, seq in named]


def _journal_record(record: InputRecord) -> JournalRecord:
    return JournalRecord(
        id=record.id,
        stream=record.stream,
        seq=record.seq,
        data=record.data,
        correlation_id=record.correlation_id,
    )


def _accepted(body: Mapping[str, Any]) -> JournalRecord:
    return JournalRecord(
        id=body["record_id"],
        stream=body["stream"],
        seq=body["stream_seq"],
        data=body["data"],
        correlation_id=body.get("correlation_id"),
    )
