"""Rows of lists and objects, and the dicts of `helmr.models` made from them. Pure.

`Rows` is the port between the reads and the storage of rows; both ledgers share the rest. Cursors are keyset cursors:
the place where a list continues, opaque to callers and bound to their list.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from helmr.errors import BadCursor
from helmr.models import (
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    AnswerMode,
    RunsQuery,
    RunStatus,
    SessionsQuery,
    TokensQuery,
    WaitsQuery,
)
from helmr_runtime.core import jsontext
from helmr_runtime.core.delegations import DeputyFilter
from helmr_runtime.core.entries import Entry, EntryKind, iso
from helmr_runtime.core.nouns import RunRow, SessionRow, WaitRow, fields_of
from helmr_runtime.core.run import ACTIVE
from helmr_runtime.ledger.index.heads import Head

Json = dict[str, Any]

_ACTIVE = tuple(status.value for status in ACTIVE)
_EXECUTING = (RunStatus.RUNNING.value, RunStatus.WAITING.value)
_WITH_ERROR = (RunStatus.FAILED.value, RunStatus.BLOCKED.value)

UNREADABLE = "(can't be read)"
"""Subject that a list shows for an item with a `problem`."""


def session_json(
    row: SessionRow,
    wait: Mapping[str, Any] | None,
    run: RunRow | None,
    outcome: Mapping[str, Any] | None = None,
    *,
    problem: str | None = None,
) -> Json:
    """A `SessionInfo`.

    Args:
        row: Its row.
        wait: The active wait in full, or None.
        run: The newest run, where `needs_run` says so.
        outcome: Body of the entry that ended or blocked that run, where `needs_outcome` says so.
        problem: Why that body can't be read.
    """
    is_queued = run is not None and run.status == RunStatus.QUEUED.value
    queued_at = (run.retry_at or run.queued_at) if run is not None and is_queued else None
    run_status = run.status if run is not None else None
    if run is None and row.activity in _ACTIVE:
        run_status = row.activity
    return {
        "id": row.session_id,
        "external_id": row.external_id,
        "task": row.task,
        "status": row.status,
        "activity": row.activity,
        "run_id": row.run_id,
        "run_status": run_status,
        "error": _short_error(run_status, outcome, problem),
        "queued_at": iso_or_none(queued_at),
        "wait": dict(wait) if wait is not None else None,
        "tags": jsontext.decode(row.tags),
        "metadata": jsontext.decode(row.metadata),
        "forked_from": (
            {"session_id": row.origin_id, "seq": row.origin_seq} if row.origin_id else None
        ),
        "parent": (
            {
                "session_id": row.parent_id,
                "run_id": row.parent_run_id,
                "op": row.parent_op,
            }
            if row.parent_id
            else None
        ),
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "last_seq": row.next_seq - 1,
    }


def listed_session(session: Json) -> Json:
    """Return the session as a list shows it: without its wait's body, which may take a megabyte."""
    wait = session["wait"]
    return session if wait is None else {**session, "wait": {**wait, "body": None}}


def run_json(
    row: RunRow,
    created: Mapping[str, Any],
    outcome: Mapping[str, Any] | None,
    *,
    problem: str | None = None,
) -> Json:
    """A `RunInfo`.

    Args:
        row: Its row.
        created: Body of its `run.created`.
        outcome: Body of the entry that ended or blocked it.
        problem: Why one of these bodies can't be read, and is empty here.
    """
    return {
        "id": row.run_id,
        "session_id": row.session_id,
        "task": row.task,
        "status": row.status,
        "attempt": row.attempt,
        "started_by": created.get("started_by", {}),
        "retry_at": iso_or_none(row.retry_at),
        "payload": created.get("payload"),
        "result": outcome.get("result") if outcome is not None else None,
        "error": _error(row.status, outcome) if problem is None else None,
        "problem": problem,
        "created_at": iso(row.created_at),
        "ended_at": iso_or_none(row.ended_at),
    }


def _short_error(
    run_status: str | None, outcome: Mapping[str, Any] | None, problem: str | None
) -> Any:
    """The error of a session's newest run, without the traceback."""
    if problem is not None:
        return {"code": "unreadable", "type": "", "message": UNREADABLE}
    error = _error(run_status or "", outcome)
    return {**error, "traceback": None} if isinstance(error, Mapping) else None


def _error(status: str, outcome: Mapping[str, Any] | None) -> Any:
    if outcome is None:
        return None
    if status == "failed":
        return outcome.get("error")
    if status == "blocked":
        return {"code": outcome["code"], "type": "", "message": outcome["message"]}
    return None


def wait_json(
    row: WaitRow,
    opened: Mapping[str, Any],
    resolved_by: Mapping[str, Any] | None,
    *,
    in_full: bool,
    outcome: Mapping[str, Any] | None = None,
    problem: str | None = None,
) -> Json:
    """A `WaitInfo` without its schema, which stands in the catalog; its body, and `outcome`, only `in_full`.

    `vote_seqs` is for the service, which reads them; `outcome`, the body of the entry that resolved it, too: it says
    what a refused answer lost to.
    `problem` says why the body of one of its entries can't be read, and is empty here.
    """
    found: Json = {name: made(getattr(row, name)) for name, made in _WAIT_PARTS}
    votes = jsontext.decode(row.votes)
    found |= {
        "id": row.wait_id,
        "subject": opened.get("subject") if problem is None else UNREADABLE,
        "problem": problem,
        "resolved_by": _resolver(row, resolved_by),
        "escalation": opened.get("escalation", []),
        "can_decline": "on_decline" in opened,
        "refusals": opened.get("refusals", []),
        "comments": opened.get("comments", []),
        "signed": opened.get("signed", False),
        "deputies": opened.get("deputies"),
        "voters": list(votes),
        "vote_seqs": votes,
        "question_hash": opened.get("question_hash"),
    }
    if in_full:
        found["body"] = opened.get("body")
        found["evidence"] = opened.get("evidence")
        found["trace_id"] = opened.get("trace_id")
        found["initial"] = opened.get("initial")
        found["on_decline"] = opened.get("on_decline")
        found["outcome"] = dict(outcome) if outcome is not None else None
        if "schema" in opened:
            found["schema"] = opened["schema"]
    return found


def _resolver(row: WaitRow, ended_by: Mapping[str, Any] | None) -> Json | None:
    """Return the principal that ended the wait; `name` says `escalation` if its default did."""
    if ended_by is None:
        return None
    named = {"name": "escalation"} if row.mode == AnswerMode.DEFAULT.value else {}
    return {**ended_by, **named}


def needs_run(row: SessionRow) -> bool:
    """The session's activity does not say all of its newest run: since when it is queued, how it ended."""
    return row.run_id is not None and row.activity not in _EXECUTING


def needs_outcome(run: RunRow | None) -> bool:
    """True if the run has an error; the entry at its `outcome_offset` holds it."""
    return run is not None and run.outcome_offset is not None and run.status in _WITH_ERROR


def was_at_once(resolved: Entry) -> bool:
    """An earlier record satisfied the wait when it opened: the runtime matched them."""
    return "record_id" in resolved.body and resolved.principal.type == "runtime"


def record_json(entry: Entry, consumed_by: str | None) -> Json:
    """A `RecordInfo` of an `input.accepted` or `output.appended`."""
    body = entry.body
    return {
        "id": body["record_id"],
        "stream": body["stream"],
        "seq": body["stream_seq"],
        "data": body["data"],
        "correlation_id": body.get("correlation_id"),
        "consumed_by": consumed_by,
        "principal": entry.principal.to_json(),
        "created_at": iso(entry.recorded_at),
    }


def principal_of(entry: Entry) -> Json:
    """Return the JSON of the principal that wrote an entry."""
    return dict(entry.principal.to_json())


def record_kind(direction: str) -> EntryKind:
    """The kind of entry that holds the records of a direction, `input` or `output`."""
    return EntryKind.INPUT_ACCEPTED if direction == "input" else EntryKind.OUTPUT_APPENDED


def iso_or_none(moment: datetime | None) -> str | None:
    """Format a time for JSON."""
    return iso(moment) if moment is not None else None


def _itself(value: Any) -> Any:
    return value


_WAIT_PARTS: Sequence[tuple[str, Callable[[Any], Any]]] = [
    (
        one.name,
        jsontext.decode if one.column.is_json else iso_or_none if one.kind is datetime else _itself,
    )
    for one in fields_of(WaitRow)
    if not one.column.is_inner
]
"""Fields of a wait's row that a list shows, each with its conversion to JSON."""


FAR_FUTURE_US = 2**62
"""Sorts waits that time does not end last; as an integer, because NULL compares with nothing."""

Wanted = SessionsQuery | RunsQuery | WaitsQuery | TokensQuery


class Rows(Protocol):
    """Objects as JSON that fits `helmr.models`, None for a missing one; pages continue after a cursor.

    Waits are sorted by the time that ends them (the escalation's default, else the deadline; soonest first, none last),
    then by id; items with a seq by seq; everything else newest first.
    """

    async def session(self, session_id: str) -> Json | None: ...
    async def run(self, run_id: str) -> Json | None: ...
    async def wait(self, wait_id: str) -> Json | None: ...
    async def public_token(self, public_token_id: str) -> Json | None: ...

    async def page(
        self,
        wanted: Wanted,
        *,
        resolving: Collection[str] = (),
        by_deputy: Sequence[DeputyFilter] = (),
    ) -> Json:
        """Return one page of a list.

        `resolving` holds waits whose token has ended: callers no longer see them as pending, though
        their sessions do not know it yet. `by_deputy` adds to the waits that concern a person, or that they may
        answer, those of the people whose deputy they are.
        """
        ...

    async def waits_by_task(
        self,
        wanted: WaitsQuery,
        *,
        resolving: Collection[str] = (),
        by_deputy: Sequence[DeputyFilter] = (),
    ) -> list[Json]:
        """The waits of the list by task, those of other tasks than the wanted one too: `{task, count, before}`.

        `before` counts those that stand before the page at the cursor.
        """
        ...

    async def wait_totals(self, resolving: Collection[str]) -> list[Json]:
        """The pending waits by what they wait for: `{kind, stream, count, oldest_at}`; none of them is a backoff, nor
        one of those whose token has ended.
        """
        ...

    async def public_tokens(self, cursor: str | None, limit: int) -> Json: ...
    async def api_keys(self, cursor: str | None, limit: int) -> Json: ...

    async def transcript(
        self, head: Head, after: int | None, cursor: str | None, limit: int
    ) -> Json: ...
    async def records(
        self,
        head: Head,
        direction: str,
        stream: str,
        after: int | None,
        cursor: str | None,
        limit: int,
    ) -> Json: ...


def encode_cursor(name: str, key: Sequence[Any]) -> str:
    """The cursor behind the item with this key."""
    text = json.dumps([name, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def decode_cursor(
    name: str, cursor: str | None, types: Sequence[type | tuple[type, ...]]
) -> list[Any] | None:
    """The key in a cursor, None without one.

    Args:
        name: The list's name.
        cursor: What an earlier page gave.
        types: Of the key's parts.

    Raises:
        BadCursor: Not a cursor, or one of another list.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise BadCursor("the cursor can't be read") from error
    if not isinstance(content, list) or not content or content[0] != name:
        raise BadCursor("the cursor belongs to another list")
    key = content[1:]
    if len(key) != len(types) or not all(map(_fits, key, types)):
        raise BadCursor("the cursor can't be read")
    return key


def _fits(part: Any, kind: type | tuple[type, ...]) -> bool:
    if isinstance(part, bool):
        return False
    if isinstance(part, int) and abs(part) > 2**62:
        return False
    return isinstance(part, kind)


def limit_of(limit: int | None) -> int:
    """Clamp a list's limit to 1…200; 50 if none is given."""
    return LIST_LIMIT_DEFAULT if limit is None else max(1, min(limit, LIST_LIMIT_MAX))


def page(items: Sequence[dict[str, Any]], next_cursor: str | None) -> dict[str, Any]:
    """One page of a list."""
    return {"items": list(items), "next_cursor": next_cursor}
