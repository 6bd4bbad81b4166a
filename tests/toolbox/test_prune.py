"""Old sessions leave the ledger whole, nothing that stays notices, and an entry says so (S-69)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from helmr.errors import (
    BadRequest,
    LedgerDamaged,
    SessionNotFound,
    StoreUnavailable,
    TokenNotFound,
)
from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.children import Parent
from helmr_runtime.core.commands import Prune, Pruned, Retention
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.core.session_file import BackupReader
from helmr_runtime.ledger import memory, pruning
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.pruning import BETWEEN_PAGES, FIRST_AFTER
from helmr_runtime.ledger.tools.audit import Audit, audit
from helmr_runtime.ledger.tools.prune import prune_stored
from helmr_runtime.ledger.tools.restore import build
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.service.exports import Backups
from helmr_runtime.service.feed import FeedHub, FeedItem
from helmr_runtime.service.following import PAGE_ITEMS, FollowedEntries
from tests.ledger.facts import complete_token, create_token
from tests.ledger.sessions import ALICE, SMALL, START_AT, Hand, begin, running, start_of
from tests.longer import long_but
from tests.toolbox.conftest import EARLIER

pytestmark = pytest.mark.allows_blocking

AnyLedger = DuckLedger | MemoryLedger
MONTH = timedelta(days=30)
OLD = Prune(principal=ALICE, age_s=MONTH.total_seconds(), reason="a month is enough")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_AT)


@pytest.fixture
async def ledger(tmp_path: Path, clock: FakeClock) -> AsyncIterator[DuckLedger]:
    opened = await open_ledger(tmp_path / "ledger.duckdb", clock=clock, settings=SMALL)
    yield opened
    await opened.close()


@pytest.fixture(params=["tables", "memory"])
async def either(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[AnyLedger]:
    """What stays, both ledgers decide alike."""
    if request.param == "memory":
        yield MemoryLedger(clock)
        return
    opened = await open_ledger(tmp_path / "either.duckdb", clock=clock, settings=SMALL)
    yield opened
    await opened.close()


async def ended(ledger: AnyLedger, clock: FakeClock, **more: Any) -> Hand:
    """A session that has run, is closed, and that nobody holds."""
    hand = await running(ledger, clock, **more)
    await hand.stored(hand.succeeded(), hand.closed(), release=True)
    return hand


async def pruned(ledger: AnyLedger, prune: Prune = OLD) -> list[Pruned]:
    pages: list[Pruned] = []
    while not (page := await ledger.prune(prune)).is_last:
        pages.append(page)
    return pages


async def offsets(ledger: DuckLedger, after: int = 0) -> list[int]:
    return [e.feed_offset or 0 for e in await ledger.entries_after(after, 100_000)]


def verified(path: Path, now: datetime, keys: LedgerKeys | None = None) -> Audit:
    with stored_ledger(path) as stored:
        return audit(stored, keys or LedgerKeys(None), now)


# --- what goes ------------------------------------------------------------------------------------


async def test_a_real_ledger_is_whole_without_them(path: Path, keys: LedgerKeys) -> None:
    clock = FakeClock(EARLIER.made_at + timedelta(days=100))
    ledger = await open_ledger(path, clock=clock, settings=SMALL, ring=keys.ring)
    while await ledger.changed(0.5):  # what fell due meanwhile is written
        pass
    head = ledger.index.head_offset
    wanted = await ledger.prune(replace(OLD, is_dry_run=True))
    assert (wanted.sessions > 1, ledger.index.head_offset, wanted.is_last) == (True, head, True)
    before = {e.feed_offset: e for e in await ledger.entries_after(0, 100_000)}
    pages = await pruned(ledger)
    assert (sum(p.sessions for p in pages), sum(p.entries for p in pages)) == (
        wanted.sessions,
        wanted.entries,
    )
    after = {e.feed_offset: e for e in await ledger.entries_after(0, 100_000)}
    said = [after.pop(offset) for offset in range(head + 1, ledger.index.head_offset + 1)]
    gone = {session for entry in said for session in entry.body["sessions"]}
    assert after == {o: e for o, e in before.items() if e.session_id not in gone}
    assert {e.principal for e in said} == {ALICE}
    assert {e.body["reason"] for e in said} == {"a month is enough"}
    for session_id in gone:
        with pytest.raises(SessionNotFound):
            await ledger.get_session(session_id)
    await ledger.close()
    found = verified(path, clock.now(), keys)
    assert (found.entries, found.through) == (len(after) + len(said), head + len(said))
    again = await open_ledger(path, clock=clock, settings=SMALL, ring=keys.ring)
    assert await pruned(again) == []
    for entry in after.values():
        assert await again.entry(entry.feed_offset or 0) == entry
    await again.close()


async def test_parquet_files_have_what_went(
    ledger: DuckLedger, clock: FakeClock, tmp_path: Path
) -> None:
    hand = await ended(ledger, clock, payload={"n": 1})
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    (page,) = await pruned(ledger)
    archive = tmp_path / "pruned" / (page.archive or "")
    assert archive.stat().st_mode & 0o777 == 0o600
    rows = duckdb.connect().execute(f"SELECT * FROM '{archive}' ORDER BY seq").fetchall()
    assert (rows[0][1], rows[0][2], rows[0][4]) == (hand.session_id, 1, "session.created")
    assert rows[-1][9] == hand.entries[-1].hash.hex().upper()
    assert len(rows) == page.entries


async def test_none_are_written_if_told_so(
    ledger: DuckLedger, clock: FakeClock, tmp_path: Path
) -> None:
    await ended(ledger, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    (page,) = await pruned(ledger, replace(OLD, is_archived=False))
    assert (page.sessions, page.archive) == (1, None)
    assert not (tmp_path / "pruned").exists()


async def test_nothing_goes_where_the_archive_cannot_be_written(
    ledger: DuckLedger, clock: FakeClock, tmp_path: Path
) -> None:
    await ended(ledger, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    (tmp_path / "pruned").write_text("in the way")
    before = await offsets(ledger)
    with pytest.raises(StoreUnavailable, match="archive"):
        await ledger.prune(OLD)
    assert await offsets(ledger) == before


@pytest.mark.long
async def test_many_go_in_pages(ledger: DuckLedger, clock: FakeClock) -> None:
    for _ in range(7):
        await ended(ledger, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(pruning, "SESSIONS_MAX", 3)
        patched.setattr(pruning, "AT_ONCE", 2)
        pages = await pruned(ledger)
    assert [page.sessions for page in pages] == [3, 3, 1]
    said = [e for e in await ledger.entries_after(0, 1_000) if e.kind == "sessions.pruned"]
    assert [len(entry.body["sessions"]) for entry in said] == [2, 1, 2, 1, 1]
    assert len({entry.body["archive"] for entry in said}) == 3


# --- what stays -----------------------------------------------------------------------------------


async def test_two_who_prune_at_once_remove_each_session_once(
    ledger: DuckLedger, clock: FakeClock, tmp_path: Path
) -> None:
    """An operator beside the runtime's own retention."""
    gone = {(await ended(ledger, clock)).session_id for _ in range(5)}
    clock.move_to(clock.now() + MONTH * 2)
    pages = [page for some in await asyncio.gather(pruned(ledger), pruned(ledger)) for page in some]
    assert sorted(one for page in pages for one in page.gone) == sorted(gone)
    said = [e for e in await ledger.entries_after(0, 1_000) if e.kind is EntryKind.SESSIONS_PRUNED]
    assert sorted(one for entry in said for one in entry.body["sessions"]) == sorted(gone)
    await ledger.close()
    assert verified(tmp_path / "ledger.duckdb", clock.now()).sessions == 0


async def test_open_and_young_sessions_stay(either: AnyLedger, clock: FakeClock) -> None:
    still = await running(either, clock)
    clock.move_to(clock.now() + timedelta(seconds=2))
    young = await ended(either, clock)
    clock.move_to(clock.now() + MONTH - timedelta(seconds=1))
    assert await pruned(either) == []
    for hand in (still, young):
        assert (await either.get_session(hand.session_id))["id"] == hand.session_id


async def test_families_go_together(either: AnyLedger, clock: FakeClock) -> None:
    parents = [await running(either, clock) for _ in range(2)]
    children = []
    for parent in parents:
        made_by = Parent(session_id=parent.session_id, run_id=parent.run_id, op=1, attempt=1)
        start = replace(start_of(), parent=made_by)
        await either.start(start)
        child = Hand(either, clock, start.session_id, start.run_id)
        await child.adopt()
        await child.stored(child.started(), child.succeeded(), child.closed(), release=True)
        children.append(child)
    over = parents[0]
    await over.stored(over.succeeded(), over.closed(), release=True)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(pruning, "SESSIONS_MAX", 1)
        patched.setattr(memory, "AT_ONCE", 1)
        assert [page.sessions for page in await pruned(either)] == [1, 1]
    assert (await either.get_session(children[1].session_id))["status"] == "closed"
    assert await either.token_end(children[1].session_id) is not None
    for gone in (over, children[0]):
        with pytest.raises(SessionNotFound):
            await either.get_session(gone.session_id)
    assert either.index.tokens.get(children[0].session_id) is None


async def test_of_those_that_are_named_a_family_goes_only_whole(
    either: AnyLedger, clock: FakeClock
) -> None:
    parent, other = await running(either, clock), await ended(either, clock)
    made_by = Parent(session_id=parent.session_id, run_id=parent.run_id, op=1, attempt=1)
    start = replace(start_of(), parent=made_by)
    await either.start(start)
    child = Hand(either, clock, start.session_id, start.run_id)
    await child.adopt()
    await child.stored(child.started(), child.succeeded(), child.closed(), release=True)
    await parent.stored(parent.succeeded(), parent.closed(), release=True)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))

    async def gone(*named: Hand) -> list[str]:
        only = replace(OLD, session_ids=tuple(one.session_id for one in named))
        counted = await either.prune(replace(only, is_dry_run=True))
        pages = await pruned(either, only)
        assert (counted.sessions, counted.gone) == (sum(one.sessions for one in pages), ())
        return [one for page in pages for one in page.gone]

    assert await gone(child) == []
    assert await gone(parent) == []
    assert await gone(parent, child) == [child.session_id, parent.session_id]
    assert (await either.get_session(other.session_id))["status"] == "closed"


async def test_a_wait_that_gave_a_token_its_schema_stays(
    either: AnyLedger, clock: FakeClock
) -> None:
    asked, token = await running(either, clock), create_token(timeout_s=90 * 86_400)
    await either.fact(token)
    wait = asked.wait(
        kind="token", token_id=token.new.token_id, stream=None, schema={"type": "integer"}
    )
    await asked.stored(wait)
    checked = (either.index.head_offset,)
    await either.fact(replace(complete_token(token.new.token_id, 1), checked=checked))
    await asked.stored(asked.fulfilled(wait), asked.succeeded(), asked.closed(), release=True)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    assert await pruned(either) == []
    assert (await either.get_token(token.new.token_id))["status"] == "completed"


async def test_a_wait_that_gave_its_sessions_own_token_a_schema_keeps_nothing(
    either: AnyLedger, clock: FakeClock
) -> None:
    hand, new = await running(either, clock), create_token().new
    await hand.stored(hand.draft(EntryKind.TOKEN_CREATED, **new.to_body(clock.now())))
    wait = hand.wait(kind="token", token_id=new.token_id, stream=None, schema={"type": "integer"})
    await hand.stored(wait)
    checked = (either.index.head_offset,)
    await either.fact(replace(complete_token(new.token_id, 1), checked=checked))
    await hand.stored(hand.fulfilled(wait), hand.succeeded(), hand.closed(), release=True)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    assert [page.sessions for page in await pruned(either)] == [1]
    with pytest.raises(TokenNotFound):
        await either.get_token(new.token_id)


async def test_a_session_that_is_held_again_stays(either: AnyLedger, clock: FakeClock) -> None:
    hand = await ended(either, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    await hand.adopt()
    page = await either.prune(OLD)
    assert page.sessions == 0
    await hand.stored(release=True)
    assert [page.sessions for page in await pruned(either)] == [1]


async def test_what_has_gone_on_since_the_tables_were_written_stays(
    ledger: DuckLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "SESSIONS_MAX", 1)
    oldest, goes_on, _ = [await ended(ledger, clock) for _ in range(3)]
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    assert (await ledger.prune(OLD)).sessions == 1
    shown = (await ledger.stats())["projected_offset"]
    await goes_on.adopt()
    note = Draft(EntryKind.NOTE_ADDED, {"text": "look once more"}, principal=ALICE)
    await goes_on.stored(note, release=True)
    page = await ledger.prune(OLD)
    assert (page.sessions, page.is_last) == (0, False)
    assert (await ledger.stats())["projected_offset"] == shown, "no commit has waited for tables"
    assert [page.sessions for page in await pruned(ledger)] == [1]
    assert (await ledger.get_session(goes_on.session_id))["id"] == goes_on.session_id
    with pytest.raises(SessionNotFound):
        await ledger.get_session(oldest.session_id)


def test_a_day_is_the_least() -> None:
    with pytest.raises(BadRequest, match="a day"):
        replace(OLD, age_s=23 * 3600.0)
    with pytest.raises(BadRequest, match="reason"):
        replace(OLD, reason="x" * 501)


def backups_of(ledger: DuckLedger) -> Backups:
    return Backups(cast(LedgerClient, ledger), "1")


# --- who reads the feed ---------------------------------------------------------------------------


async def with_gaps(ledger: DuckLedger, clock: FakeClock) -> None:
    """Sessions that stay and sessions that go, several of each behind the other."""
    for number in range(12):
        if number % 4 == 0:
            await begin(ledger, clock)
        else:
            await ended(ledger, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    await pruned(ledger)
    for _ in range(3):
        await begin(ledger, clock)


@long_but(1, "is_reopened", [False, True])
async def test_every_position_goes_on_behind_the_gap(
    tmp_path: Path, clock: FakeClock, is_reopened: bool
) -> None:
    path = tmp_path / "ledger.duckdb"
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    await with_gaps(ledger, clock)
    if is_reopened:
        await ledger.close()
        ledger = await open_ledger(path, clock=clock, settings=SMALL)
    there = await offsets(ledger)
    assert len(there) < ledger.index.head_offset
    for after in range(ledger.index.head_offset + 1):
        behind = [offset for offset in there if offset > after]
        for limit in (1, 2, 5, 100):
            found = await ledger.entries_after(after, limit)
            assert [e.feed_offset for e in found] == behind[:limit], (after, limit)
    await ledger.close()


@pytest.mark.long
async def test_a_follower_that_was_away_gets_all_that_is_there(
    ledger: DuckLedger, clock: FakeClock
) -> None:
    await with_gaps(ledger, clock)
    hub = FeedHub(ledger, on_entries=lambda items: None)
    hub.start()
    await hub.ready()

    async def older(after: int) -> list[FeedItem]:
        return [FeedItem(entry) for entry in await ledger.feed(after, PAGE_ITEMS, 0.0)]

    try:
        for after in range(ledger.index.head_offset):
            following = FollowedEntries(hub, None, after, older)
            expected = await offsets(ledger, after)
            seen: list[int] = []
            while seen != expected:
                taken = await following.take_items(10.0)
                assert taken, (after, seen)
                seen += [item.offset for item in taken]
            following.close()
    finally:
        await hub.stop()


@pytest.mark.long
async def test_a_backup_that_sessions_were_taken_from_is_none(
    tmp_path: Path, ledger: DuckLedger, clock: FakeClock
) -> None:
    for _ in range(300):
        await ended(ledger, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    pieces = await backups_of(ledger).stream()
    await anext(pieces)  # the header
    await anext(pieces)  # and a page of entries
    with pytest.raises(StoreUnavailable, match="a backup is being read"):
        await ledger.prune(OLD)
    clock.move_to(
        clock.now() + timedelta(seconds=pruning.COPY_PATIENCE_S + 1)
    )  # its reader is gone, or slow
    assert sum(page.sessions for page in await pruned(ledger)) == 300
    with pytest.raises(StoreUnavailable, match="begin the backup again"):
        await anext(pieces)
    clock.move_to(clock.now() + timedelta(seconds=pruning.COPY_PATIENCE_S + 1))
    whole = b"".join([piece async for piece in await backups_of(ledger).stream()])
    lines = (line + b"\n" for line in whole.splitlines())
    assert BackupReader(iter(whole.splitlines(keepends=True))).header.through == (
        ledger.index.head_offset
    )
    made = build(tmp_path / "copy.duckdb", lines, LedgerKeys(None), clock.now())
    assert made.checked.through == ledger.index.head_offset


# --- what it does not hide ------------------------------------------------------------------------


async def test_sessions_that_went_another_way_are_damage(
    tmp_path: Path, ledger: DuckLedger, clock: FakeClock
) -> None:
    hand = await ended(ledger, clock)
    await ended(ledger, clock)
    await ledger.close()
    with duckdb.connect(str(tmp_path / "ledger.duckdb")) as connection:
        session = [ids.to_uuid(hand.session_id)]
        for table in ("entries", "checkpoints", "sessions", "runs", "waits"):
            connection.execute(f"DELETE FROM {table} WHERE session = $1", session)
        connection.execute("CHECKPOINT")
    with pytest.raises(LedgerDamaged, match="the feed lacks 5 entries, and 0 were pruned"):
        verified(tmp_path / "ledger.duckdb", clock.now())


async def test_what_was_theirs_is_not_found_any_more(either: AnyLedger, clock: FakeClock) -> None:
    ledger = either
    hand = await ended(ledger, clock, idempotency_key="k", external_id="x")
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    await pruned(ledger)
    with pytest.raises(SessionNotFound):
        await ledger.load(hand.session_id, "slot-2")
    with pytest.raises(TokenNotFound):
        await ledger.get_token(ids.new_id(ids.TOKEN))
    again = await ledger.start(start_of(idempotency_key="k", external_id="x"))
    assert again.created


# --- by itself, and at rest -----------------------------------------------------------------------


async def test_a_runtime_prunes_by_itself(
    tmp_path: Path, ledger: DuckLedger, clock: FakeClock
) -> None:
    await ended(ledger, clock)
    await ledger.close()
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    actor = LedgerActor(
        tmp_path / "ledger.duckdb",
        clock=clock,
        settings=SMALL,
        retention=Retention(closed_after_s=MONTH.total_seconds()),
    )
    await actor.stats()
    async with asyncio.timeout(60):
        while (await actor.list_sessions())["items"]:
            clock.move_to(clock.now() + max(FIRST_AFTER, BETWEEN_PAGES))
            await asyncio.sleep(0.01)
    said = (await actor.feed(0, 1_000, 0.0))[-1]
    assert (said["kind"], said["principal"]["type"]) == ("sessions.pruned", "runtime")
    assert said["body"]["reason"] == "retention"
    await actor.close()


async def test_a_ledger_at_rest_is_pruned(path: Path, keys: LedgerKeys) -> None:
    clock = FakeClock(EARLIER.made_at + timedelta(days=100))
    pages = [page async for page in prune_stored(path, keys, clock, OLD)]
    assert pages[-1].is_last
    assert sum(page.sessions for page in pages) > 1
    verified(path, clock.now(), keys)


def copied(path: Path, folder: Path) -> Path:
    shutil.copytree(path.parent, folder, dirs_exist_ok=True)
    return folder / path.name


@pytest.mark.long  # tests/ledger/test_kill.py kills too
async def test_a_kill_leaves_all_or_nothing(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "data" / "ledger.duckdb"
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    for _ in range(3):
        await ended(ledger, clock)
    clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
    seen: list[Audit] = []
    database = ledger._group.database
    original: Callable[..., None] = database.store

    def writing(appends: Any) -> None:
        # What a kill would leave, before and after the one transaction.
        seen.append(verified(copied(path, tmp_path / "before"), clock.now()))
        original(appends)
        seen.append(verified(copied(path, tmp_path / "after"), clock.now()))

    await ledger._group.project()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(database, "store", writing)
        assert (await ledger.prune(OLD)).sessions == 3
    await ledger.close()
    before, after = seen
    assert (before.sessions, after.sessions) == (3, 0)
