"""The SQL page: its views have exactly the columns that it says, and its queries run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from helmr.models import QUERY_ROWS_DEFAULT
from helmr.models.common import AnswerMode, WaitKind
from helmr.wire.query import QueryResult
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.entries import LINK, PERSON, RUNTIME, EntryKind, Principal
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.tables.public_views import VIEWS, columns_of, make_views
from tests.ledger.sessions import ALICE, SMALL, Hand, parked, running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sql.md"
HOW_TO = PAGE.read_text("utf-8").split("\n## How to\n")[1]
FOR_AUDITORS = (PAGE.parent / "auditors.md").read_text("utf-8")
SECTION = re.compile(r"^###? ([^\n]+)$(?:(?!^##).)*?^```sql\n(.*?)^```$", re.M | re.S)
TYPE = re.compile(r'\bPrincipal\(\s*"(\w+)"')
QUERIES = [found for text in (HOW_TO, FOR_AUDITORS) for found in SECTION.findall(text)]


async def test_every_view_has_the_columns_that_the_page_says(tmp_path: Path) -> None:
    actor = LedgerActor(tmp_path / "helmr.duckdb", clock=SystemClock(), settings=SMALL)
    ledger = await actor._open()

    def columns(connection):
        make_views(connection)
        return {view: columns_of(connection, view) for view in VIEWS}

    found = ledger._database.querying(columns)
    await actor.close()
    text = PAGE.read_text("utf-8")
    told = {}
    for view in VIEWS:
        section = re.split(r"^##", text.split(f"\n### {view}\n")[1], flags=re.M)[0]
        told[view] = re.findall(r"^\| `(\w+)` \| `([A-Z ]+)` \|", section, flags=re.M)
    assert told == found


def named(view: str, column: str) -> set[str]:
    """The words that a column of a view may hold, by the page."""
    section = PAGE.read_text("utf-8").split(f"\n### {view}\n")[1].split("\n### ")[0]
    [row] = re.findall(rf"^\| `{column}` \| `VARCHAR` \| (.+) \|$", section, flags=re.M)
    return set(re.findall(r"`(\w+)`", row))


def test_the_words_of_a_column_are_those_of_the_code(project_root: Path) -> None:
    sources = (project_root / "runtime" / "helmr_runtime").rglob("*.py")
    made = {one for path in sources for one in TYPE.findall(path.read_text("utf-8"))}
    assert named("entries", "principal_type") == made | {PERSON, LINK}
    assert named("waits", "kind") == set(WaitKind)
    assert named("waits", "mode") == set(AnswerMode)


def test_the_page_has_a_query_for_each_question() -> None:
    assert len(QUERIES) >= 6


async def test_the_queries_of_other_pages_run(tmp_path: Path) -> None:
    pages = [path.read_text("utf-8") for path in PAGE.parent.rglob("*.md") if path != PAGE]
    queries = [
        sql for text in pages for sql in re.findall(r"^```sql\n(.*?)^```$", text, re.M | re.S)
    ]
    assert queries
    actor = LedgerActor(tmp_path / "helmr.duckdb", clock=SystemClock(), settings=SMALL)
    await parked(actor, SystemClock())
    for sql in queries:
        QueryResult.from_arrow(await actor.query(sql, limit=QUERY_ROWS_DEFAULT))
    await actor.close()


async def answered(actor: LedgerActor, clock: SystemClock, principal: Principal) -> Hand:
    """A session that waited for an answer, which this principal gave."""
    hand, wait = await parked(actor, clock, timeout_s=600)
    await hand.adopt("desk-1")
    given = replace(hand.accepted({"decision": "approve"}), principal=principal)
    # By the runtime, as where a rewind kept the answer.
    taken = replace(hand.fulfilled(wait, record_id=given.body["record_id"]), principal=RUNTIME)
    await hand.stored(given, taken)
    return hand


@pytest.mark.parametrize(("heading", "sql"), QUERIES, ids=[heading for heading, _ in QUERIES])
async def test_a_query_of_the_page_runs_and_finds_something(
    tmp_path: Path, heading: str, sql: str
) -> None:
    clock = SystemClock()
    actor = LedgerActor(tmp_path / "helmr.duckdb", clock=clock, settings=SMALL)
    hands = [
        await answered(actor, clock, principal)
        for principal in (Principal(PERSON, "ada", via="key_ada"), ALICE)
    ]
    failed = await running(actor, clock)
    await failed.stored(
        failed.draft(
            EntryKind.RUN_FAILED,
            error={"code": "error", "type": "ValueError", "message": "no", "traceback": ""},
        )
    )
    await parked(actor, clock)
    # The page's own session and moment are examples.
    sql = sql.replace("ses_01k0000000e008000000000000", hands[0].session_id)
    moment = clock.now().strftime("%Y-%m-%d %H:%M:%S.%f+00")
    sql = sql.replace("2026-03-01 14:00:00+00", moment)
    found = QueryResult.from_arrow(await actor.query(sql, limit=QUERY_ROWS_DEFAULT))
    await actor.close()
    assert found.rows(), heading
    if "who" in sql and "records" in sql:
        assert {row["who"] for row in found.rows()} == {"ada", "alice"}, "not the runtime"
    assert not found.truncated
