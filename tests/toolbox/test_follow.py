"""A follower has what its primary had at one offset, whatever ends either of them, and can take its place (S-68)."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from helmr.errors import LedgerDamaged, LedgerDiverged, LedgerSuperseded, RuntimeHeld, UsageError
from helmr.models import CopyPage, CopyQuery
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import Prune
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tools.audit import Audit, audit
from helmr_runtime.ledger.tools.followed import (
    FollowedLedger,
    difference,
    followed_ledger,
    lost_entries,
    promote,
)
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.private_files import make_stamp, proven_generation
from helmr_runtime.service.exports import Copies
from helmr_runtime.service.health import DegradedState, Followers
from tests.ledger.facts import create_token
from tests.ledger.sessions import ALICE, SMALL, START_AT, begin, running, start_of

pytestmark = pytest.mark.allows_blocking

MONTH = timedelta(days=30)


@pytest.fixture
async def primary(path: Path, keys: LedgerKeys, now: datetime) -> AsyncIterator[DuckLedger]:
    """A real ledger, plain and sealed, at work."""
    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    yield ledger
    await ledger.close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where its follower's file is to be."""
    return tmp_path / "copy" / "ledger.duckdb"


async def next_page(primary: DuckLedger, followed: FollowedLedger) -> CopyPage:
    copies = Copies(cast(LedgerClient, primary), FakeClock())
    at = followed.position
    query = CopyQuery(
        after=at.offset, hash=at.hash, system_offset=at.system_offset, system_hash=at.system_hash
    )
    return CopyPage.model_validate(json.loads(await copies.page(query)))


async def catch_up(primary: DuckLedger, followed: FollowedLedger) -> int:
    """Apply pages to the end; returns how many there were."""
    count = 0
    while (page := await next_page(primary, followed)).rows:
        followed.apply(page)
        count += 1
    return count


async def followed_to_the_end(primary: DuckLedger, copy: Path) -> None:
    with followed_ledger(copy, makes=True) as followed:
        await catch_up(primary, followed)


def verified(path: Path, keys: LedgerKeys, now: datetime) -> Audit:
    with stored_ledger(path) as stored:
        return audit(stored, keys, now)


def entries_of(path: Path) -> list[Any]:
    with stored_ledger(path) as stored:
        return [row for chunk in stored.entries() for row in chunk]


# --- following ------------------------------------------------------------------------------------


async def test_a_follower_has_every_entry_as_it_is_stored(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    with followed_ledger(copy, makes=True) as followed:
        await catch_up(primary, followed)
        await primary.start(start_of())
        assert await catch_up(primary, followed) == 1, "from where it was"
        assert followed.position.offset == primary.index.head_offset
        assert followed.is_whole
    await primary.close()
    assert entries_of(copy) == entries_of(path)
    found = verified(copy, keys, now)
    assert found.entries == found.through == primary.index.head_offset
    assert found.checkpoints > 10


async def test_it_goes_on_from_any_offset_after_a_kill(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime, tmp_path: Path
) -> None:
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(reads, "PAGE_ENTRIES", 37)
        with followed_ledger(copy, makes=True) as followed:
            count = 0
            while (page := await next_page(primary, followed)).rows:
                followed.apply(page)
                count += 1
                killed = tmp_path / f"killed-{count}"
                shutil.copytree(copy.parent, killed)  # what a kill at this moment would leave
                with followed_ledger(killed / copy.name) as again:
                    assert again.position == followed.position
                    await catch_up(primary, again)
                verified(killed / copy.name, keys, now)
    assert count > 5


@pytest.mark.parametrize(
    "page_entries", [2, 50, *(pytest.param(size, marks=pytest.mark.long) for size in (3, 7))]
)
async def test_no_page_ends_within_what_was_written_into_a_session_at_once(
    tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, page_entries: int
) -> None:
    chance = random.Random(page_entries)
    clock = FakeClock(now)
    ledger = await open_ledger(tmp_path / "ledger.duckdb", clock=clock, settings=SMALL)
    hands = [await running(ledger, clock) for _ in range(3)]
    ends = [ledger.index.head_offset]
    for _ in range(40):
        hand = chance.choice(hands)
        await hand.stored(*(hand.output(n, hand.seq) for n in range(chance.randint(1, 9))))
        ends.append(ledger.index.head_offset)
    monkeypatch.setattr(reads, "PAGE_ENTRIES", page_entries)
    reached, head = ends[0], ends[-1]
    while reached < head:
        page = await ledger.copied_rows(reached, head)
        assert page.through in ends
        assert len(page.rows) == page.through - reached > 0
        reached = page.through
    await ledger.close()


async def test_one_page_is_stored_whole_or_not(primary: DuckLedger, copy: Path) -> None:
    with followed_ledger(copy, makes=True) as followed:
        page = await next_page(primary, followed)
        for bad in (
            page.rows[:3] + page.rows[4:],  # one lacks
            [page.rows[0], *page.rows],  # one comes twice
            [*page.rows[:-1], ["e", 1]],  # one is none
        ):
            with pytest.raises(LedgerDamaged):
                followed.apply(page.model_copy(update={"rows": bad}))
            assert followed.position.offset == 0
        followed.apply(page)
        with pytest.raises(LedgerDamaged):
            followed.apply(page)


async def test_another_ledger_is_not_followed(
    primary: DuckLedger, copy: Path, tmp_path: Path
) -> None:
    await followed_to_the_end(primary, copy)
    other = await open_ledger(tmp_path / "other.duckdb", clock=FakeClock(START_AT), settings=SMALL)
    for _ in range(400):
        await other.start(start_of())
    with followed_ledger(copy) as followed, pytest.raises(LedgerDiverged):
        await next_page(other, followed)
    await other.close()


async def test_a_primary_that_lacks_what_it_had_is_not_followed(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(path.parent, before)
    await primary.start(start_of())
    await followed_to_the_end(primary, copy)
    older = await open_ledger(
        before / path.name, clock=FakeClock(now), settings=SMALL, ring=keys.ring
    )
    with followed_ledger(copy) as followed, pytest.raises(LedgerDiverged):
        await next_page(older, followed)
    await older.close()


async def test_only_a_followers_directory_is_followed_into(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    await followed_to_the_end(primary, copy)
    with followed_ledger(copy), pytest.raises(RuntimeHeld):
        await open_ledger(copy, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    with pytest.raises(UsageError, match="follows another"):
        await open_ledger(copy, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    await primary.close()
    with pytest.raises(UsageError, match="follows no other"), followed_ledger(path, makes=True):
        pass
    with pytest.raises(UsageError, match="holds no ledger"), followed_ledger(copy / "none"):
        pass


async def test_pruned_sessions_leave_a_follower_too(copy: Path, tmp_path: Path) -> None:
    clock = FakeClock(START_AT)
    primary = await open_ledger(tmp_path / "ledger.duckdb", clock=clock, settings=SMALL)
    await primary.fact(create_token())
    going = await running(primary, clock)
    with followed_ledger(copy, makes=True) as followed:
        await catch_up(primary, followed)
        half = tmp_path / "half"
        shutil.copytree(copy.parent, half)
        await going.stored(going.succeeded(), going.closed(), release=True)
        stays = await begin(primary, clock)
        clock.move_to(clock.now() + MONTH + timedelta(seconds=1))
        page = await primary.prune(Prune(principal=ALICE, age_s=MONTH.total_seconds()))
        assert page.sessions == 1
        await begin(primary, clock)
        await catch_up(primary, followed)
        assert followed.is_whole
    there = {row[1] for row in entries_of(copy)}
    assert len(there) == 3, "the system stream and those that stay"
    verified(copy, LedgerKeys(None), clock.now())
    # One that was away meanwhile has the beginning of what went, until it gets to the entry that says so.
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched, followed_ledger(half / copy.name) as late:
        patched.setattr(reads, "PAGE_ENTRIES", 1)
        late.apply(await next_page(primary, late))
        assert not late.is_whole
    with pytest.raises(UsageError, match="in the middle of sessions"):
        await promote(half / copy.name, LedgerKeys(None), clock, None)
    with followed_ledger(half / copy.name) as late:
        await catch_up(primary, late)
        assert late.is_whole
    await primary.close()
    assert entries_of(half / copy.name) == entries_of(copy)
    assert stays.session_id


# --- promotion ------------------------------------------------------------------------------------


async def test_a_promoted_follower_goes_on_as_the_ledger(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    await followed_to_the_end(primary, copy)
    sessions = (await primary.list_sessions(limit=200))["items"]
    after = primary.index.head_offset
    await primary.close()
    shutil.rmtree(path.parent)
    clock = FakeClock(now)
    done = await promote(copy, keys, clock, "its disk is gone")
    assert (done.after, done.generation) == (after, 2)
    verified(copy, keys, now)
    ledger = await open_ledger(copy, clock=clock, settings=SMALL, ring=keys.ring)
    assert (await ledger.list_sessions(limit=200))["items"] == sessions
    said = next(e for e in await ledger.entries_after(after, 100) if e.kind == "ledger.promoted")
    assert said.body == {"generation": 2, "after": after, "reason": "its disk is gone"}
    assert (await ledger.start(start_of())).created
    await ledger.close()
    with pytest.raises(UsageError, match="follows no other"), followed_ledger(copy, makes=True):
        pass


async def test_a_promotion_that_was_ended_is_done_again(
    primary: DuckLedger, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    await followed_to_the_end(primary, copy)
    monkey = pytest.MonkeyPatch()
    for place in ("open_ledger", "end_following"):
        with monkey.context() as patched:
            patched.setattr(f"helmr_runtime.ledger.tools.followed.{place}", None)
            with pytest.raises(TypeError):
                await promote(copy, keys, FakeClock(now), None)
        with pytest.raises(UsageError, match="follows another"):
            await open_ledger(copy, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    done = await promote(copy, keys, FakeClock(now), None)
    assert done.generation == 2
    verified(copy, keys, now)


async def test_a_changed_entry_is_not_promoted(
    primary: DuckLedger, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    await followed_to_the_end(primary, copy)
    with duckdb.connect(str(copy)) as connection:
        connection.execute("UPDATE entries SET body = '{}' WHERE feed_offset = 20")
    with pytest.raises(LedgerDamaged, match="feed offset 20"):
        await promote(copy, keys, FakeClock(now), None)


async def test_the_old_primary_stops_when_it_meets_its_successor(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    await followed_to_the_end(primary, copy)
    await promote(copy, keys, FakeClock(now), None)
    ledger = await open_ledger(copy, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    stamp = await ledger.stamp()
    assert stamp is not None
    await ledger.meet([stamp])  # its own
    await ledger.close()
    assert await primary.stamp() is None
    kept = await primary.start(start_of())
    # What nobody can have met changes nothing.
    for forged in (
        stamp.replace(".2.", ".3."),
        stamp[:-1] + ("0" if stamp[-1] != "0" else "1"),
        "x",
        "",
    ):
        await primary.meet([forged])
    assert (await primary.start(start_of())).created
    with pytest.raises(LedgerSuperseded):
        await primary.meet(["x", stamp])
    head = primary.index.head_offset
    for refused in (
        primary.start(start_of()),
        primary.load(kept.session_id, "slot-1"),
        primary.fact(create_token()),
        primary.stamp(),
    ):
        with pytest.raises(LedgerSuperseded):
            await refused
    assert primary.index.head_offset == head
    assert (await primary.get_session(kept.session_id))["id"] == kept.session_id
    assert "superseded" in (await primary.stats())["failure"]
    await primary.close()
    again = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    with pytest.raises(LedgerSuperseded):
        await again.start(start_of())
    await again.close()


async def test_what_only_the_old_primary_has_is_named(
    primary: DuckLedger, path: Path, copy: Path, keys: LedgerKeys, now: datetime
) -> None:
    await followed_to_the_end(primary, copy)
    after = primary.index.head_offset
    started = await primary.start(start_of())
    await primary.close()
    await promote(copy, keys, FakeClock(now), None)
    with stored_ledger(copy) as promoted, stored_ledger(path) as old:
        found = difference(promoted, old)
        assert (found.after, found.is_same) == (after, True)
        lost = list(lost_entries(old, found.after))
        assert found.lost == len(lost) >= 2
        created = [entry for entry in lost if entry["kind"] == "session.created"]
        assert [entry["session_id"] for entry in created] == [started.session_id]
        with pytest.raises(UsageError, match="never promoted"):
            difference(old, promoted)


# --- stamps and states ----------------------------------------------------------------------------


def test_a_stamp_proves_one_generation_of_one_ledger() -> None:
    old = MasterKey("k1", b"1" * 32)
    ring = KeyRing((old, MasterKey("k2", b"2" * 32)))
    stamp = make_stamp(ring, "ab", 3)
    assert proven_generation(ring, "ab", stamp) == 3
    assert proven_generation(KeyRing((old, *ring.keys[1:])), "ab", stamp) == 3
    for other_ring, ledger_id in (
        (ring, "cd"),
        (KeyRing((MasterKey("k2", b"3" * 32), MasterKey("k1", b"3" * 32))), "ab"),
        (None, "ab"),
    ):
        assert proven_generation(other_ring, ledger_id, stamp) == 0
    for text in ("", "ab", "ab.3.k2", "ab.x.k2.00", f"ab.{'9' * 40}.k2.00", "ab.3.none.00"):
        assert proven_generation(ring, "ab", text) == 0


def test_a_follower_that_lags_or_is_silent_is_a_state() -> None:
    clock = FakeClock(START_AT)
    followers = Followers(clock)

    def later(seconds: float) -> list[str]:
        clock.move_to(clock.now() + timedelta(seconds=seconds))
        return [trouble.text for trouble in followers.troubles()]

    followers.seen("one", 10, 10)
    assert later(50) == []
    assert "was not heard of" in later(20)[0]
    texts: list[str] = []
    for _ in range(3):
        followers.seen("one", 11, 20)
        texts = later(30)
    assert texts == ["follower one is 9 entries behind, for 160 s"]
    assert {trouble.state for trouble in followers.troubles()} == {DegradedState.FOLLOWER_BEHIND}
    followers.seen("one", 20, 20)
    assert later(0) == []
    later(2 * 86_400)
    assert followers.all() == {}
    for number in range(30):
        followers.seen(f"f{number}", 0, 0)
    assert len(followers.all()) == 20


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_what_is_no_folder_is_not_followed_into(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / place / "ledger.duckdb"
    with pytest.raises(UsageError, match="can't be used"), followed_ledger(path, makes=True):
        pass
    assert (tmp_path / "file").read_text() == "mine"


async def test_a_copy_that_never_got_an_entry_is_not_promoted(
    tmp_path: Path, keys: LedgerKeys, now: datetime
) -> None:
    copy = tmp_path / "copy" / "ledger.duckdb"
    with followed_ledger(copy, makes=True):
        pass
    with pytest.raises(UsageError, match="is empty"):
        await promote(copy, keys, FakeClock(now), None)
    with followed_ledger(copy):  # it still follows
        pass
