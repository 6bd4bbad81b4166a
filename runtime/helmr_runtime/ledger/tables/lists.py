"""Lists and single objects from the projected tables, as JSON-typed dicts that fit `helmr.models`.

Each function runs on a reader's cursor, after what it shows was projected. Lists are keyset pages: an object that
changes between two pages is neither skipped nor shown twice unless its sort key changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from helmr.errors import BadCursor, BadId
from helmr.models import ListQuery, RunsQuery, SessionsQuery, WaitsQuery, WaitStatus
from helmr.models.queries import SESSION_IDS
from helmr.wire.people import list_key, person_key
from helmr_runtime.core import jsontext
from helmr_runtime.core.delegations import DeputyFilter
from helmr_runtime.core.entries import Entry, iso
from helmr_runtime.core.nouns import RunRow, SessionRow, WaitRow
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.projection import Known
from helmr_runtime.ledger.index.views import FAR_FUTURE_US
from helmr_runtime.ledger.tables import engine, reads
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ledger.tables.table import RUNS, SESSIONS, WAITS

How = tuple[str, Callable[[Any], Any]]
"""A condition with `{0}` where its value stands, and what the value is in SQL."""


@dataclass(slots=True)
class Conditions:
    """Conditions that must all hold, and their parameters.

    Attributes:
        values: The parameters, from `$1` on; others may be added for other parts of the statement.
    """

    terms: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, term: str, value: Any) -> None:
        """One more, with `{0}` where the value stands."""
        self.terms.append(term.format(self.value(value)))

    def value(self, value: Any) -> str:
        """A parameter, as it stands in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"

    def __str__(self) -> str:
        return " AND ".join(self.terms) if self.terms else "true"


def wanted(
    query: ListQuery, special: Mapping[str, How], by_deputy: Sequence[DeputyFilter] = ()
) -> Conditions:
    """The conditions of a query's filters: equal to the column of its name, but for what is `special`."""
    found = Conditions()
    for name, value in query.filters().items():
        if name in special:
            term, made = special[name]
            found.add(term, made(value))
            if name in _BY_DEPUTY and by_deputy:
                others = [_by_deputy(name, one, found) for one in by_deputy]
                found.terms.append(f"({' OR '.join((found.terms.pop(), *others))})")
        elif name in SESSION_IDS:
            found.add(f"{COLUMNS.get(name, name)} = {{0}}::UUID", engine.uuid_of(value))
        else:
            found.add(f"{name}::VARCHAR = {{0}}", value)
    return found


COLUMNS = {"session_id": "session", "forked_from": "origin"}
"""Filters by session whose column has another name."""


def tagged(*columns: str) -> How:
    """A tag's JSON text stands in the list's text only as an element of it."""
    return "(" + " OR ".join(
        f"contains({column}, {{0}})" for column in columns
    ) + ")", jsontext.encode


Json = dict[str, Any]

# --- sessions -------------------------------------------------------------------------------------


def session(
    reader: Reader,
    session_id: str,
    known: Known[SessionRow],
    known_wait: Known[WaitRow] | None,
    known_run: Known[RunRow] | None,
) -> Json | None:
    """One session with its active wait in full; what memory knows of it goes before the tables."""
    found = reader.execute(
        "SELECT * FROM session_rows WHERE session = $1", [engine.uuid_of(session_id)]
    ).fetchall()
    row = known.over(SESSIONS.read(found[0]) if found else None)
    if row is None:
        return None
    active = None
    if row.wait_id is not None:
        active = _wait(reader, row.wait_id, known_wait, strict=False)
    run = None
    if views.needs_run(row):
        run = known_run.whole if known_run is not None else None
        if run is None:
            run = _newest_run(reader, row)
            run = known_run.over(run) if known_run is not None else run
    bodies, problems = _outcomes(reader, [run])
    return _session(row, active, run, bodies, problems)


_SESSIONS: Mapping[str, How] = {
    "activity": ("(activity::VARCHAR = {0} AND (status = 'open' OR {0} <> 'idle'))", str),
    "tag": tagged("tags"),
    "run_status": ("run IN (SELECT run FROM runs WHERE status::VARCHAR = {0})", str),
}


def sessions(reader: Reader, query: SessionsQuery) -> Json:
    """Sessions, newest first."""
    where = wanted(query, _SESSIONS)
    key = views.decode_cursor("sessions", query.cursor, (int,))
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
    following = views.encode_cursor("sessions", [found[-1][1]]) if more else None
    return views.page(_sessions(reader, found), following)


def _sessions(reader: Reader, found: Sequence[Any]) -> list[Json]:
    """Rows of sessions, each with that of its newest run behind it."""
    shown = [SESSIONS.read(row) for row in found]
    wanted_ids = [one.wait_id for one in shown if one.wait_id is not None]
    waits = {wait["id"]: wait for wait in _waits_by_id(reader, wanted_ids, strict=False)}
    runs = {
        one.run_id: RUNS.read(row[len(SESSIONS.fields) :])
        for row, one in zip(found, shown, strict=True)
        if one.run_id is not None and views.needs_run(one)
    }
    bodies, problems = _outcomes(reader, runs.values())
    return [
        views.listed_session(
            _session(
                one, waits.get(one.wait_id or ""), runs.get(one.run_id or ""), bodies, problems
            )
        )
        for one in shown
    ]


def _session(
    row: SessionRow,
    wait: Json | None,
    run: RunRow | None,
    bodies: Mapping[int, Json],
    problems: dict[int, str],
) -> Json:
    offset = run.outcome_offset if run is not None and views.needs_outcome(run) else None
    return views.session_json(
        row,
        wait,
        run,
        bodies[offset] if offset is not None else None,
        problem=reads.problem_of(problems, offset),
    )


def _newest_run(reader: Reader, session: SessionRow) -> RunRow | None:
    found = reader.execute(
        "SELECT * FROM run_rows WHERE run = $1", [engine.uuid_or_none(session.run_id)]
    ).fetchall()
    return RUNS.read(found[0]) if found else None


def _outcomes(
    reader: Reader, runs: Iterable[RunRow | None]
) -> tuple[dict[int, Json], dict[int, str]]:
    """The bodies of the entries with their errors, by feed offset, and why some can't be read."""
    offsets = {
        run.outcome_offset
        for run in runs
        if run is not None and run.outcome_offset is not None and views.needs_outcome(run)
    }
    return reads.bodies_at(reader, offsets, strict=False)


# --- runs -----------------------------------------------------------------------------------------


def run(reader: Reader, run_id: str, known: Known[RunRow]) -> Json | None:
    """One run with payload and result; what memory knows of it goes before the table."""
    found = reader.execute(
        "SELECT * FROM run_rows WHERE run = $1", [engine.uuid_of(run_id)]
    ).fetchall()
    row = known.over(RUNS.read(found[0]) if found else None)
    return _runs(reader, [row], strict=True)[0] if row is not None else None


def runs(reader: Reader, query: RunsQuery) -> Json:
    """Runs, newest first."""
    where = wanted(query, {})
    key = views.decode_cursor("runs", query.cursor, (int,))
    if key is not None:
        where.add("created_offset < {0}", key[0])
    found = reader.execute(
        f"SELECT * FROM run_rows WHERE {where} "  # noqa: S608 - terms of our own
        f"ORDER BY created_offset DESC LIMIT {query.limit + 1}",
        where.values,
    ).fetchall()
    more = len(found) > query.limit
    found = found[: query.limit]
    following = views.encode_cursor("runs", [found[-1][2]]) if more else None
    return views.page(_runs(reader, [RUNS.read(row) for row in found], strict=False), following)


def _runs(reader: Reader, shown: Sequence[RunRow], *, strict: bool) -> list[Json]:
    offsets = {one.created_offset for one in shown}
    offsets |= {one.outcome_offset for one in shown if one.outcome_offset is not None}
    bodies, problems = reads.bodies_at(reader, offsets, strict=strict)
    return [
        views.run_json(
            one,
            bodies[one.created_offset],
            bodies[one.outcome_offset] if one.outcome_offset is not None else None,
            problem=reads.problem_of(problems, one.created_offset, one.outcome_offset),
        )
        for one in shown
    ]


# --- waits ----------------------------------------------------------------------------------------


def wait(reader: Reader, wait_id: str, known: Known[WaitRow]) -> Json | None:
    """One wait in full, but for its stream's schema; what memory knows of it goes before the table."""
    return _wait(reader, wait_id, known, strict=True)


def _wait(
    reader: Reader, wait_id: str, known: Known[WaitRow] | None, *, strict: bool
) -> Json | None:
    found = reader.execute(
        "SELECT * FROM wait_rows WHERE wait = $1", [engine.uuid_of(wait_id)]
    ).fetchall()
    row = WAITS.read(found[0]) if found else None
    row = known.over(row) if known is not None else row
    return _waits(reader, [row], in_full=True, strict=strict)[0] if row is not None else None


def _names(column: str) -> str:
    """The list in that column names one of the values."""
    return f"list_has_any(CAST({column}::JSON AS VARCHAR[]), {{0}}::VARCHAR[])"


def _keys(names: Iterable[str]) -> list[str]:
    return [list_key(name) for name in names]


_ASSIGNED = (
    "CASE WHEN starts_with(assignee, 'group:') THEN assignee "
    "ELSE lower(regexp_replace(assignee, '^person:', '')) END"
)
"""As `list_key`: an assignment has the name as someone wrote it."""

_WAITS: Mapping[str, How] = {
    "kind": ("list_contains({0}::VARCHAR[], kind::VARCHAR)", list),
    "tag": tagged("tags", "session_tags"),
    "resolved_since": ("resolved_us >= {0}", engine.micros_of),
    "concerns": (
        f"(list_contains({{0}}::VARCHAR[], {_ASSIGNED}) OR {_names('answerers')})",
        _keys,
    ),
    "answerable_by": (
        # Most waits say nothing here: their JSON is not parsed.
        f"((answerers = '[]' OR {_names('answerers')}) AND (not_by = '[]' OR NOT {_names('not_by')}) "
        "AND (votes = '{{}}' OR NOT list_has_any(json_keys(votes), {0}::VARCHAR[])))",
        _keys,
    ),
    "answered_by": (
        "(list_contains(json_keys(votes), {0}::VARCHAR) OR resolved_offset IN (SELECT feed_offset FROM entries "
        "WHERE starts_with(kind, 'wait.') AND json_extract_string(principal, '$.type') = 'person' "
        "AND {0}::VARCHAR IN (lower(json_extract_string(principal, '$.id')), "
        "lower(json_extract_string(principal, '$.on_behalf_of')))))",
        person_key,
    ),
    "voter": ("list_contains(json_keys(votes), {0}::VARCHAR)", person_key),
}


_BY_DEPUTY = frozenset({"concerns", "answerable_by"})
"""Filters that also hold for the people whose deputy asks (S-142)."""


def _by_deputy(name: str, by: DeputyFilter, found: Conditions) -> str:
    """The condition of such a filter for one delegation; its values become parameters of the conditions."""
    delegator = found.value(list(by.delegator))
    is_named = f"(answerers <> '[]' AND {_names('answerers').format(delegator)})"
    terms = []
    if name == "concerns":
        is_assigned = f"list_contains({delegator}::VARCHAR[], {_ASSIGNED})"
        terms.append(f"(coalesce({is_assigned}, false) OR {is_named})")
    else:
        both, people = found.value(list(by.both)), found.value(list(by.people))
        terms += [
            is_named,
            f"(not_by = '[]' OR NOT {_names('not_by').format(both)})",
            f"(votes = '{{}}' OR NOT list_has_any(json_keys(votes), {people}::VARCHAR[]))",
        ]
    if by.tasks:
        terms.append(f"list_contains({found.value(list(by.tasks))}::VARCHAR[], task)")
    if by.streams:
        streams = found.value(list(by.streams))
        terms.append(f"coalesce(list_contains({streams}::VARCHAR[], stream), false)")
    if by.tags:
        tags = found.value(list(by.tags))
        own, of_session = (_names(one).format(tags) for one in ("tags", "session_tags"))
        terms.append(f"({own} OR {of_session})")
    return f"({' AND '.join(terms)})"


def waits(
    reader: Reader,
    query: WaitsQuery,
    resolving: Collection[str],
    by_deputy: Sequence[DeputyFilter] = (),
) -> Json:
    """Waits: what time ends soonest first, what it never ends last, then by id."""
    where = _listed(query, resolving, by_deputy)
    where.terms.append(_is_behind(query, where))
    found = reader.execute(
        f"SELECT * EXCLUDE (sort_us) FROM {_SORTED} "  # noqa: S608 - terms of our own
        f"WHERE {where} ORDER BY sort_us, wait LIMIT {query.limit + 1}",
        where.values,
    ).fetchall()
    more = len(found) > query.limit
    shown = [WAITS.read(row) for row in found[: query.limit]]
    following = None
    if more:
        last = shown[-1]
        ends_us = engine.micros_or_none(last.default_at or last.deadline_at)
        sort_us = ends_us if ends_us is not None else FAR_FUTURE_US
        following = views.encode_cursor("waits", [sort_us, last.wait_id])
    return views.page(_waits(reader, shown, in_full=False, strict=False), following)


def waits_by_task(
    reader: Reader,
    query: WaitsQuery,
    resolving: Collection[str],
    by_deputy: Sequence[DeputyFilter] = (),
) -> list[Json]:
    """The waits of the list by task, without reading their entries; see `Rows.waits_by_task`."""
    where = _listed(query.model_copy(update={"task": None}), resolving, by_deputy)
    is_behind = _is_behind(query, where)
    found = reader.execute(
        f"SELECT task, count(*), count(*) FILTER (NOT {is_behind}) FROM {_SORTED} "  # noqa: S608 - terms of our own
        f"WHERE {where} GROUP BY task",
        where.values,
    ).fetchall()
    return [{"task": task, "count": count, "before": before} for task, count, before in found]


_SORTED = (
    f"(SELECT *, coalesce(default_us, deadline_us, {FAR_FUTURE_US}) AS sort_us FROM wait_rows)"  # noqa: S608 - a number
)


def _listed(
    query: WaitsQuery, resolving: Collection[str], by_deputy: Sequence[DeputyFilter]
) -> Conditions:
    """The conditions of a list of waits, wherever its page begins."""
    where = wanted(query, _WAITS, by_deputy)
    if query.status is WaitStatus.PENDING:
        where.add(
            "NOT list_contains({0}::UUID[], wait)", [engine.uuid_of(one) for one in resolving]
        )
    return where


def _is_behind(query: WaitsQuery, where: Conditions) -> str:
    """True of a wait behind the query's cursor, whose key becomes parameters of the conditions."""
    key = views.decode_cursor("waits", query.cursor, (int, str))
    if key is None:
        return "true"
    last_us, last_id = where.value(key[0]), where.value(_cursor_wait(key[1]))
    return f"(sort_us > {last_us} OR (sort_us = {last_us} AND wait > {last_id}::UUID))"


def wait_totals(reader: Reader, resolving: Collection[str]) -> list[Json]:
    """The pending waits by what they wait for; see `Rows.wait_totals`."""
    found = reader.execute(
        "SELECT kind::VARCHAR, stream, count(*), epoch_us(min(opened_at)) FROM waits "
        "WHERE status = 'pending' AND NOT is_backoff AND NOT list_contains($1::UUID[], wait) GROUP BY ALL",
        [[engine.uuid_of(wait_id) for wait_id in resolving]],
    ).fetchall()
    return [
        {
            "kind": kind,
            "stream": stream,
            "count": count,
            "oldest_at": iso(engine.time_of(oldest_us)),
        }
        for kind, stream, count, oldest_us in found
    ]


def _cursor_wait(wait_id: str) -> UUID:
    try:
        return engine.uuid_of(wait_id)
    except BadId as error:
        raise BadCursor("the cursor can't be read") from error


def _waits_by_id(reader: Reader, wait_ids: Sequence[str], *, strict: bool) -> list[Json]:
    if not wait_ids:
        return []
    found = reader.execute(
        "SELECT * FROM wait_rows WHERE wait IN (SELECT unnest($1::UUID[]))",
        [[engine.uuid_of(wait_id) for wait_id in wait_ids]],
    ).fetchall()
    return _waits(reader, [WAITS.read(row) for row in found], in_full=True, strict=strict)


def _waits(reader: Reader, shown: Sequence[WaitRow], *, in_full: bool, strict: bool) -> list[Json]:
    bodies, problems = reads.bodies_at(reader, {one.opened_offset for one in shown}, strict=strict)
    resolved, more_problems = _resolved(reader, shown, strict=strict)
    problems |= more_problems
    senders = _senders(reader, resolved)
    return [
        views.wait_json(
            one,
            bodies[one.opened_offset],
            senders.get(one.wait_id),
            in_full=in_full,
            outcome=resolved[one.wait_id].body if one.wait_id in resolved else None,
            problem=reads.problem_of(problems, one.opened_offset, one.resolved_offset),
        )
        for one in shown
    ]


def _resolved(
    reader: Reader, shown: Sequence[WaitRow], *, strict: bool
) -> tuple[dict[str, Entry], dict[int, str]]:
    """By wait, the entry that ended it, and the problems of those that can't be opened; strict raises the first."""
    offsets = {one.wait_id: one.resolved_offset for one in shown if one.resolved_offset is not None}
    problems: dict[int, str] = {}
    if strict:
        entries = reads.entries_at(reader, offsets.values())
    else:
        entries, problems = reads.listed_entries(reader, offsets.values())
    return {wait_id: entries[offset] for wait_id, offset in offsets.items()}, problems


def _senders(reader: Reader, resolved: Mapping[str, Entry]) -> dict[str, Json]:
    """Return the principal that resolved each wait.

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
            [[engine.uuid_of(s) for s in sessions_of], list(at_once)],
        ).fetchall()
        for record_id, principal in records:
            found[at_once[record_id]] = jsontext.decode(principal)
    return found
