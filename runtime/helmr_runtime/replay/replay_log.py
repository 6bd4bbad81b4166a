"""A run's journal as the replay log that its replay follows.

Walked in seq order: at an *opened* line replay waits until the code has asked for that op; at an *outcome* it
delivers it; at a *given up* line it waits until the code has cancelled that op again (S-30).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr.current import Record, WaitOutcome
from helmr.errors import DataError
from helmr_runtime.core.entries import Entry, EntryKind, from_iso
from helmr_runtime.core.run import INSTANT, STEP_OUTCOMES, WAIT_OUTCOMES
from helmr_runtime.core.state import InputRecord, SessionState


@dataclass(frozen=True, slots=True)
class Opened:
    """The code asked for this op; `text` is the ask's kind and name."""

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
class Made:
    """A token or public token that was made; its secrets are derived from the id with that master key's.

    Attributes:
        is_copied: The session is a fork, and its origin made it: only that has the secrets (S-86).
    """

    id: str
    key_id: str
    expires_at: datetime
    is_raw: bool = False
    is_copied: bool = False


Payload = WaitOutcome | StepValue | StepError | Made | int | list[Record]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the code gets for an op, and when that was recorded."""

    op: int
    payload: Payload
    recorded_at: datetime


Line = Opened | GivenUp | Outcome


@dataclass(frozen=True, slots=True)
class ReplayLog:
    """What replay follows.

    Attributes:
        lines: In seq order.
        began_at: When the run was created, None if that is not known.
        opened: Op → the ask's text, for every op in the journal.
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
        histories: Op → the `input.accepted` bodies of each `history.read` in the journal.
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


def is_outcome(entry: Entry) -> bool:
    """The entry gives an op's outcome to the code."""
    return (
        entry.kind in STEP_OUTCOMES
        or entry.kind in WAIT_OUTCOMES
        or (
            entry.op is not None
            and entry.kind in INSTANT
            and entry.kind is not EntryKind.CLOCK_READ
        )
    )


def opened_text(entry: Entry) -> str | None:
    """Kind and name of the op that this entry opens, as `str(ask)`; None if it opens none."""
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
    """What a message can show of a recorded op, by the names that `OpRequest.shown` has."""
    return {
        "duration in seconds": opening.get("timeout_s"),
        "correlation id": opening.get("correlation_id"),
        "token": opening.get("token_id"),
        **{name: opening.get(name) for name in ("subject", "body", "data")},
    }


def outcome_of(state: SessionState, entry: Entry, history: Sequence[Any] = ()) -> Outcome:
    """What the code gets for an entry that `is_outcome`."""
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
            return [
                Record(
                    id=item["record_id"],
                    stream=item["stream"],
                    seq=item["stream_seq"],
                    data=item["data"],
                    correlation_id=item.get("correlation_id"),
                )
                for item in history
            ]
        case EntryKind.TOKEN_CREATED:
            return Made(
                id=body["token_id"],
                key_id=body["key_id"],
                expires_at=from_iso(body["expires_at"]),
                is_raw=bool(body.get("raw")),
                is_copied="copied_from" in body,
            )
        case EntryKind.PUBLIC_TOKEN_CREATED:
            return Made(
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
            raise DataError(f"{state.id}: entry {entry.seq} ({entry.kind}) is no outcome")


def _record(record: InputRecord) -> Record:
    return Record(
        id=record.id,
        stream=record.stream,
        seq=record.seq,
        data=record.data,
        correlation_id=record.correlation_id,
    )
