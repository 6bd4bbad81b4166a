"""Lists and single objects from the projected tables, as JSON-typed dicts that fit `helmr.models`.

Each function runs on a reader's cursor, after what it shows was projected. Lists are keyset pages: an object that
changes between two pages is neither skipped nor shown twice unless its sort key changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from helmr.errors import BadCursor, BadId
from helmr.models import RunsQuery, SessionsQuery, WaitsQuery, WaitStatus
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, iso
from helmr_runtime.ledger import pages, views
from helmr_runtime.ledger.duck import reads, rows
from helmr_runtime.ledger.duck.conditions import How, tagged, wanted
from helmr_runtime.ledger.duck.database import Reader
from helmr_runtime.ledger.projection import (
    NewRun,
    NewSession,
    NewWait,
    RunNumbers,
    SessionNumbers,
    WaitNumbers,
)
from helmr_runtime.ledger.row_access import FAR_FUTURE_US
from helmr_runtime.ledger.unwritten import KnownRun, KnownSession, KnownWait

Json = dict[str, Any]

SESSION_COLUMNS = 25
"""Of a row of `session_rows`."""

# --- sessions -------------------------------------------------------------------------------------


def session(
    reader: Reader,
    session_id: str,
    known: KnownSession,
    known_wait: KnownWait | None,
    known_run: KnownRun | None,
) -> Json | None:
    """One session with its active wait in full; what memory knows of it goes before the tables."""
    found = reader.execute(
        "SELECT * FROM session_rows WHERE session = $1", [rows.uuid_of(session_id)]
    ).fetchall()
    whole = known.over(rows.session_of(found[0]) if found else None)
    if whole is None:
        return None
    fixed, numbers = whole
    active = None
    if numbers.wait_id is not None:
        active = _wait(reader, numbers.wait_id, known_wait, strict=False)
    run = None
    if views.needs_run(numbers):
        run = known_run.numbers if known_run is not None else None
        run = run or _newest_run(reader, numbers)
    bodies, problems = _outcomes(reader, [run])
    return _session(fixed, numbers, active, run, bodies, problems)


_SESSIONS: Mapping[str, How] = {
    "activity": ("(activity::VARCHAR = {0} AND (status = 'open' OR {0} <> 'idle'))", str),
    "tag": tagged("tags"),
    "run_status": ("run IN (SELECT run FROM runs WHERE status::VARCHAR = {0})", str),
}


def sessions(reader: Reader, query: SessionsQuery) -> Json:
    """Sessions, newest first."""
    where = wanted(query, _SESSIONS)
    key = pages.decode("sessions", query.cursor, (int,))
    if key is not None:
        where.add("created_offset < {0}", key[0])
    found = reader.execute(
        f"WITH page AS (SELECT * FROM session_rows WHERE {where} "  # noqa: S608 - terms of our own
        f"ORDER BY created_offset DESC LIMIT {query.limit + 1}) "
        "SELECT page.*, r.* FROM page LEFT JOIN run_rows r ON r.run = page.run "
        "ORDER BY page.created_offset DESC",
        where.values,
    ).fetchall()
    more = len(found) > query.limit
    found = found[: query.limit]
    following = pages.encode("sessions", [found[-1][1]]) if more else None
    return pages.page(_sessions(reader, found), following)


def _sessions(reader: Reader, found: Sequence[Any]) -> list[Json]:
    """Rows of sessions, each with that of its newest run behind it."""
    pairs = [rows.session_of(row) for row in found]
    wanted = [numbers.wait_id for _, numbers in pairs if numbers.wait_id is not None]
    waits = {wait["id"]: wait for wait in _waits_by_id(reader, wanted, strict=False)}
    runs = {
        numbers.run_id: rows.run_numbers_of(numbers.run_id, row[SESSION_COLUMNS:])
        for row, (_, numbers) in zip(found, pairs, strict=True)
        if numbers.run_id is not None and views.needs_run(numbers)
    }
    bodies, problems = _outcomes(reader, runs.values())
    return [
        views.listed_session(
            _session(
                fixed,
                numbers,
                waits.get(numbers.wait_id or ""),
                runs.get(numbers.run_id or ""),
                bodies,
                problems,
            )
        )
        for fixed, numbers in pairs
    ]


def _session(
    fixed: NewSession,
    numbers: SessionNumbers,
    wait: Json | None,
    run: RunNumbers | None,
    bodies: Mapping[int, Json],
    problems: dict[int, str],
) -> Json:
    offset = run.outcome_offset if run is not None and views.needs_outcome(run) else None
    return views.session_json(
        fixed,
        numbers,
        wait,
        run,
        bodies[offset] if offset is not None else None,
        problem=reads.problem_of(problems, offset),
    )


def _newest_run(reader: Reader, session: SessionNumbers) -> RunNumbers | None:
    found = reader.execute(
        "SELECT * FROM run_rows WHERE run = $1", [rows.uuid_or_none(session.run_id)]
    ).fetchall()
    return rows.run_of(found[0])[1] if found else None


def _outcomes(
    reader: Reader, runs: Iterable[RunNumbers | None]
) -> tuple[dict[int, Json], dict[int, str]]:
    """The bodies of the entries with their errors, by feed offset, and why some can't be read."""
    offsets = {
        run.outcome_offset
        for run in runs
        if run is not None and run.outcome_offset is not None and views.needs_outcome(run)
    }
    return reads.bodies_at(reader, offsets, strict=False)


# --- runs -----------------------------------------------------------------------------------------


def run(reader: Reader, run_id: str, known: KnownRun) -> Json | None:
    """One run with payload and result; what memory knows of it goes before the table."""
    found = reader.execute(
        "SELECT * FROM run_rows WHERE run = $1", [rows.uuid_of(run_id)]
    ).fetchall()
    whole = known.over(rows.run_of(found[0]) if found else None)
    return _runs(reader, [whole], strict=True)[0] if whole is not None else None


def runs(reader: Reader, query: RunsQuery) -> Json:
    """Runs, newest first."""
    where = wanted(query, {})
    key = pages.decode("runs", query.cursor, (int,))
    if key is not None:
        where.add("created_offset < {0}", key[0])
    found = reader.execute(
        f"SELECT * FROM run_rows WHERE {where} "  # noqa: S608 - terms of our own
        f"ORDER BY created_offset DESC LIMIT {query.limit + 1}",
        where.values,
    ).fetchall()
    more = len(found) > query.limit
    found = found[: query.limit]
    following = pages.encode("runs", [found[-1][2]]) if more else None
    return pages.page(_runs(reader, [rows.run_of(row) for row in found], strict=False), following)


def _runs(
    reader: Reader, pairs: Sequence[tuple[NewRun, RunNumbers]], *, strict: bool
) -> list[Json]:
    offsets = {fixed.created_offset for fixed, _ in pairs}
    offsets |= {n.outcome_offset for _, n in pairs if n.outcome_offset is not None}
    bodies, problems = reads.bodies_at(reader, offsets, strict=strict)
    return [
        views.run_json(
            fixed,
            numbers,
            bodies[fixed.created_offset],
            bodies[numbers.outcome_offset] if numbers.outcome_offset is not None else None,
            problem=reads.problem_of(problems, fixed.created_offset, numbers.outcome_offset),
        )
        for fixed, numbers in pairs
    ]


# --- waits ----------------------------------------------------------------------------------------


def wait(reader: Reader, wait_id: str, known: KnownWait) -> Json | None:
    """One wait in full, but for its stream's schema; what memory knows of it goes before the table."""
    return _wait(reader, wait_id, known, strict=True)


def _wait(reader: Reader, wait_id: str, known: KnownWait | None, *, strict: bool) -> Json | None:
    found = reader.execute(
        "SELECT * FROM wait_rows WHERE wait = $1", [rows.uuid_of(wait_id)]
    ).fetchall()
    row = rows.wait_of(found[0]) if found else None
    whole = known.over(row) if known is not None else row
    return _waits(reader, [whole], in_full=True, strict=strict)[0] if whole is not None else None


_WAITS: Mapping[str, How] = {
    "kind": ("list_contains({0}::VARCHAR[], kind::VARCHAR)", list),
    "tag": tagged("tags", "session_tags"),
    "resolved_since": ("resolved_us >= {0}", rows.micros_of),
}


def waits(reader: Reader, query: WaitsQuery, resolving: Sequence[str]) -> Json:
    """Waits: what time ends soonest first, what it never ends last, then by id."""
    where = wanted(query, _WAITS)
    key = pages.decode("waits", query.cursor, (int, str))
    if key is not None:
        sort_us, last_id = where.value(key[0]), where.value(_cursor_wait(key[1]))
        where.terms.append(
            f"(sort_us > {sort_us} OR (sort_us = {sort_us} AND wait > {last_id}::UUID))"
        )
    if query.status is WaitStatus.PENDING:
        where.add("NOT list_contains({0}::UUID[], wait)", [rows.uuid_of(one) for one in resolving])
    found = reader.execute(
        "SELECT * EXCLUDE (sort_us) FROM "  # noqa: S608 - terms of our own
        f"(SELECT *, coalesce(default_us, deadline_us, {FAR_FUTURE_US}) AS sort_us FROM wait_rows) "
        f"WHERE {where} ORDER BY sort_us, wait LIMIT {query.limit + 1}",
        where.values,
    ).fetchall()
    more = len(found) > query.limit
    pairs = [rows.wait_of(row) for row in found[: query.limit]]
    following = None
    if more:
        fixed, numbers = pairs[-1]
        ends_us = rows.micros_or_none(numbers.default_at or fixed.deadline_at)
        following = pages.encode(
            "waits", [ends_us if ends_us is not None else FAR_FUTURE_US, fixed.wait_id]
        )
    return pages.page(_waits(reader, pairs, in_full=False, strict=False), following)


def wait_totals(reader: Reader, resolving: Sequence[str]) -> list[Json]:
    """The pending waits by what they wait for; see `Rows.wait_totals`."""
    found = reader.execute(
        "SELECT kind::VARCHAR, stream, count(*), epoch_us(min(opened_at)) FROM waits "
        "WHERE status = 'pending' AND NOT is_backoff AND NOT list_contains($1::UUID[], wait) GROUP BY ALL",
        [[rows.uuid_of(wait_id) for wait_id in resolving]],
    ).fetchall()
    return [
        {"kind": kind, "stream": stream, "count": count, "oldest_at": iso(rows.time_of(oldest_us))}
        for kind, stream, count, oldest_us in found
    ]


def _cursor_wait(wait_id: str) -> UUID:
    try:
        return rows.uuid_of(wait_id)
    except BadId as error:
        raise BadCursor("the cursor can't be read") from error


def _waits_by_id(reader: Reader, wait_ids: Sequence[str], *, strict: bool) -> list[Json]:
    if not wait_ids:
        return []
    found = reader.execute(
        "SELECT * FROM wait_rows WHERE wait IN (SELECT unnest($1::UUID[]))",
        [[rows.uuid_of(wait_id) for wait_id in wait_ids]],
    ).fetchall()
    return _waits(reader, [rows.wait_of(row) for row in found], in_full=True, strict=strict)


def _waits(
    reader: Reader,
    pairs: Sequence[tuple[NewWait, WaitNumbers]],
    *,
    in_full: bool,
    strict: bool,
) -> list[Json]:
    bodies, problems = reads.bodies_at(
        reader, {fixed.opened_offset for fixed, _ in pairs}, strict=strict
    )
    resolved, more_problems = _resolved(reader, pairs, strict=strict)
    problems |= more_problems
    senders = _senders(reader, resolved)
    return [
        views.wait_json(
            fixed,
            numbers,
            bodies[fixed.opened_offset],
            senders.get(fixed.wait_id),
            in_full=in_full,
            outcome=resolved[fixed.wait_id].body if fixed.wait_id in resolved else None,
            problem=reads.problem_of(problems, fixed.opened_offset, numbers.resolved_offset),
        )
        for fixed, numbers in pairs
    ]


def _resolved(
    reader: Reader, pairs: Sequence[tuple[NewWait, WaitNumbers]], *, strict: bool
) -> tuple[dict[str, Entry], dict[int, str]]:
    """By wait, the entry that ended it, and the problems of those that can't be opened; strict raises the first."""
    offsets = {n.wait_id: n.resolved_offset for _, n in pairs if n.resolved_offset is not None}
    problems: dict[int, str] = {}
    if strict:
        entries = reads.entries_at(reader, offsets.values())
    else:
        entries, problems = reads.listed_entries(reader, offsets.values())
    return {wait_id: entries[offset] for wait_id, offset in offsets.items()}, problems


def _senders(reader: Reader, resolved: Mapping[str, Entry]) -> dict[str, Json]:
    """Who resolved each wait.

    An earlier record that satisfied a wait at once was matched by the runtime; who resolved
    the wait is who sent that record.
    """
    found = {wait_id: views.principal_of(entry) for wait_id, entry in resolved.items()}
    at_once = {
        entry.body["record_id"]: wait_id
        for wait_id, entry in resolved.items()
        if views.was_at_once(entry)
    }
    if at_once:
        sessions_of = sorted({entry.session_id for entry in resolved.values()})
        records = reader.execute(
            # A damaged body may be no JSON; it fails only those who read it.
            "SELECT CASE WHEN json_valid(body) THEN json_extract_string(body, '$.record_id') END "
            "AS record, principal FROM entries "
            "WHERE session IN (SELECT unnest($1::UUID[])) AND kind = 'input.accepted' "
            "AND record IN (SELECT unnest($2::VARCHAR[]))",
            [[rows.uuid_of(s) for s in sessions_of], list(at_once)],
        ).fetchall()
        for record_id, principal in records:
            found[at_once[record_id]] = jsontext.decode(principal)
    return found
