"""Adoption goes by feed offset: it costs the same however much others wrote in between."""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta

import pytest

from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.index.projection import FeedTail
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.reads import RecentCheckpoints
from tests.ledger.sessions import SMALL, START_AT, Hand, begin

SESSIONS = 60
PIECES = 12

_SCATTER = """
INSERT INTO entries
SELECT $1 + i, md5((hash(i) % 250000)::VARCHAR)::UUID, 1 + i // 250000,
    make_timestamptz(1772366400000000 + i), 'input.accepted', NULL, NULL, '{"type":"runtime"}',
    '{"record_id":"r' || i || '","stream":"s","stream_seq":1,"data":"' || repeat('abc ', 25) || '"}',
    encode(md5(i::VARCHAR))
FROM range(1, $2 + 1) t(i)
"""


async def build(path, clock: FakeClock, total: int) -> tuple[DuckLedger, list[Hand]]:
    """A ledger of about `total` entries, among which some sessions' entries lie scattered."""
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    hands = [await begin(ledger, clock) for _ in range(SESSIONS)]
    for hand in hands:
        await hand.adopt()
        await hand.stored(hand.started())
    for _ in range(PIECES):
        for hand in hands:
            await hand.stored(hand.step(), hand.step_done())
        await scatter(ledger, total // PIECES)
    for hand in hands:
        await hand.stored(
            hand.wait(deadline_at=clock.now() + timedelta(days=9)), checkpoint=True, release=True
        )
    for hand in hands:
        await hand.adopt("claims-1")
        await hand.stored(hand.accepted(1), release=True)
    await scatter(ledger, 5_000)
    return ledger, hands


async def scatter(ledger: DuckLedger, count: int) -> None:
    """Entries of a quarter million other sessions, straight into the table."""
    group = ledger._group
    await group.project()
    offset = ledger.index.head_offset
    await group.run_in_writer(ledger._database.writer.execute, _SCATTER, [offset, count])
    ledger.index.head_offset = offset + count
    group.projector.projection.through = offset + count
    group.recent = FeedTail()
    group.checkpoints = RecentCheckpoints()


async def adoption_ms(ledger: DuckLedger, hands: list[Hand]) -> float:
    """Median time of a load."""
    times = []
    for hand in hands:
        began = time.perf_counter()
        loaded = await ledger.load(hand.session_id, "slot-1")
        times.append((time.perf_counter() - began) * 1000)
        assert loaded.checkpoint is not None
        assert [entry.kind for entry in loaded.entries] == ["input.accepted"]
    return statistics.median(times)


@pytest.mark.perf
@pytest.mark.timeout(600)
async def test_adoption_among_three_million_costs_at_most_twice(tmp_path, capsys):
    clock = FakeClock(START_AT)
    small, few = await build(tmp_path / "small.duckdb", clock, 30_000)
    large, many = await build(tmp_path / "large.duckdb", clock, 3_000_000)
    # Side by side, so that both meet the machine in the same mood.
    among_few = [await adoption_ms(small, few) for _ in range(3)]
    among_many = [await adoption_ms(large, many) for _ in range(3)]
    ratio = min(among_many) / min(among_few)

    def count(connection):
        return connection.execute("SELECT count(*) FROM entries").fetchone()[0]

    with capsys.disabled():
        sys.stdout.write(
            f"\nadoption among {await small.read(count):,}: {min(among_few):.2f} ms, "
            f"among {await large.read(count):,}: {min(among_many):.2f} ms, {ratio:.2f} times\n"
        )
    assert await large.read(count) >= 3_000_000
    assert ratio <= 2
    assert engine.id_of(ids.SESSION, engine.uuid_of(many[0].session_id)) == many[0].session_id
    await small.close()
    await large.close()


async def test_adoption_reads_no_session_by_scan(duck, clock, monkeypatch):
    """The claim behind the measurement: a load asks for offsets, never for a session's entries."""
    from helmr_runtime.ledger.tables import reads

    hand = await begin(duck, clock)
    await hand.adopt()
    await hand.stored(hand.started(), hand.wait(), checkpoint=True, release=True)
    duck._group.recent = FeedTail()
    duck._group.checkpoints = RecentCheckpoints()

    def scanning(*_args, **_kwargs):
        raise AssertionError("a session was read by scan")

    for name in ("session_entries", "stream_entries", "hash_at"):
        monkeypatch.setattr(reads, name, scanning)
    assert (await hand.adopt()).checkpoint is not None
