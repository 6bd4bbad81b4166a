"""What is there after a restart: exactly what was, and the tables are the fold of the entries (S-53, S-63)."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helmr.errors import DataError, Moved
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.core.nouns import changed
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.projection import Projection, session_changes
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import engine, recovery
from helmr_runtime.ledger.tables import table as tables
from helmr_runtime.ledger.tables.tokens import Touched
from helmr_runtime.ports import Committed, Refused
from helmr_runtime.ports.ledger import FROM_START
from tests.budget import examples
from tests.ledger.sessions import SMALL, START_AT, Hand, begin, facts_of, parked, running, start_of


def killed(path: Path, to: Path) -> Path:
    """The files as a kill -9 of their ledger would leave them now."""
    to.mkdir()
    for file in path.parent.glob(path.name + "*"):
        if file.is_file() and not file.name.endswith(".lock"):
            shutil.copy(file, to / file.name)
    return to / path.name


async def tables_of(ledger: DuckLedger) -> dict[str, set[object]]:
    """Every row of the projected tables."""

    parts = [part.table for part, _ in ledger.index.features]
    of_features = [tables.table_of(one) for one in parts if one is not None]

    def read(connection):
        found = {
            table.name: {table.read(r) for r in connection.execute(f"FROM {table.view}").fetchall()}
            for table in (*tables.NOUNS, *of_features)
        }
        keys = connection.execute("SELECT session, stream, key_hash, record_offset FROM send_keys")
        found["send_keys"] = set(keys.fetchall())
        operations = connection.execute("SELECT id, feed_offset FROM operations")
        found["operations"] = set(operations.fetchall())
        return found

    return await ledger.read_tables(read)


async def folded(ledger: DuckLedger, clock: FakeClock) -> dict[str, set[object]]:
    """The same rows, folded from all entries at once."""
    features = FEATURES if ledger.index.features.parts else ()
    index, projection = LedgerIndex(features), Projection()
    offset = 0
    while found := await ledger.entries_after(offset, 1000):
        for entry in found:
            projection.fold(entry, index.apply(entry, clock.now()))
            offset += 1
            assert entry.feed_offset == offset
    sessions = []
    for session_id in projection.new_sessions:
        head, known = index.heads[session_id], await ledger.head(session_id)
        assert known is not None
        # Who holds, and up to where a checkpoint covers, are not facts of the entries.
        head.epoch, head.checkpoint_offset, head.tail = (
            known.epoch,
            known.checkpoint_offset,
            known.tail,
        )
        sessions.append(changed(projection.new_sessions[session_id], session_changes(head)))
    facts = Touched(index).rows(projection.token_tags, projection.chains)
    return {
        "sessions": set(sessions),
        "runs": {projection.run(run_id) for run_id in projection.new_runs},
        "waits": {projection.wait(wait_id) for wait_id in projection.new_waits},
        "send_keys": {
            (engine.uuid_of(k.session_id), k.stream, k.key_hash, k.record_offset)
            for k in projection.send_keys.values()
        },
        "operations": {(o.operation_id, o.feed_offset) for o in projection.operations},
        "tokens": set(facts.tokens),
        "public_tokens": set(facts.public_tokens),
        "api_keys": set(facts.api_keys),
        "people": set(facts.people),
        **{part.table.name: set() for part, _ in index.features if part.table is not None},
        **{table.name: set(rows) for table, _, rows in facts.features},
    }


def memory_of(ledger: DuckLedger) -> dict[str, object]:
    """What of the index must survive; order of the work list included."""
    index = ledger.index
    heads = {
        session_id: {**facts_of(head), "counted_as": None, "unconsumed": None}
        for session_id, head in index.heads.items()
        if head.status == "open" or head.is_held
    }
    return {
        "heads": heads,
        "offset": index.head_offset,
        "operations": dict(index.operations),
        "external_ids": dict(index.names.items()),
        "work": {item.session_id for item in index.work.since(FROM_START).added},
        "next_due": index.next_due_at(),
        "counts": index.counts(),
        "catalog": index.catalog_offset,
        "notices": index.notices_offset,
    }


class History:
    """Random moves of a few sessions against a ledger."""

    def __init__(self, ledger: DuckLedger, clock: FakeClock, rand: random.Random) -> None:
        self.ledger, self.clock, self.rand = ledger, clock, rand
        self.hands: list[Hand] = []
        self.waits: dict[str, Draft] = {}
        self.steps: dict[str, list[int]] = {}
        self.sent = 0

    async def move(self) -> None:
        """One more thing happens."""
        self.clock.move_to(self.clock.now() + timedelta(seconds=self.rand.randint(0, 3)))
        if not self.hands or self.rand.random() < 0.15:
            self.sent += 1
            hand = await begin(
                self.ledger,
                self.clock,
                external_id=f"x{self.sent}" if self.rand.random() < 0.5 else None,
                operation=OperationKey(id=f"start-{self.sent}", request_hash="h"),
            )
            self.hands.append(hand)
            return
        hand = self.rand.choice(self.hands)
        await self.moves(hand)

    async def moves(self, hand: Hand) -> None:
        """One thing happens to this session."""
        head = self.ledger.index.heads[hand.session_id]
        if not head.is_held:
            await hand.adopt(f"slot-{self.rand.randint(1, 3)}")
            return
        drafts = []
        choice = self.rand.randint(0, 9)
        open_steps = self.steps.setdefault(hand.session_id, [])
        wait = self.waits.get(hand.session_id) if head.wait is not None else None
        if choice == 0 and wait is None and head.has_active_run:
            timeout = timedelta(seconds=self.rand.randint(1, 9))
            deadline = self.clock.now() + timeout if self.rand.random() < 0.7 else None
            self.waits[hand.session_id] = wait = hand.wait(deadline_at=deadline)
            drafts.append(wait)
        elif choice == 1 and wait is not None:
            self.sent += 1
            drafts.append(hand.accepted(self.sent, key=f"k{self.sent}"))
            drafts.append(hand.fulfilled(wait, following=self.rand.choice(["running", "queued"])))
        elif choice == 2 and head.has_active_run:
            drafts.append(hand.step())
            open_steps.append(hand.op)
        elif choice == 3 and open_steps:
            drafts.append(hand.step_done(open_steps.pop()))
        elif choice == 4 and wait is None and head.has_active_run:
            drafts.append(hand.started())
        elif choice == 5 and wait is None and not open_steps and head.has_active_run:
            drafts.append(
                hand.succeeded()
                if self.rand.random() < 0.5
                else hand.attempt_failed(
                    self.clock.now() + timedelta(seconds=self.rand.randint(0, 5))
                )
            )
        elif choice == 6 and not head.has_active_run:
            drafts.append(hand.closed())
            self.hands.remove(hand)
        else:
            self.sent += 1
            drafts.append(
                hand.accepted(
                    self.sent, operation=OperationKey(id=f"o{self.sent}", request_hash="h")
                )
            )
        await hand.stored(
            *drafts,
            checkpoint=self.rand.random() < 0.3,
            release=self.rand.random() < 0.3,
        )


@pytest.mark.slow
@settings(
    max_examples=examples(8),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_tables_and_memory_are_the_fold_of_the_entries_over_restarts(tmp_path_factory, seed):
    asyncio.run(_tell(tmp_path_factory.mktemp("history"), seed))


async def _tell(folder: Path, seed: int) -> None:
    clock = FakeClock(START_AT)
    path = folder / "ledger.duckdb"
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    history = History(ledger, clock, random.Random(seed))
    for life in range(3):
        for _ in range(history.rand.randint(5, 60)):
            await history.move()
        # Adoptions are in memory until a write carries them to disk.
        await begin(ledger, clock)
        before = memory_of(ledger)
        copied = killed(path, folder / f"killed-{life}")
        restored = await open_ledger(copied, clock=clock, settings=SMALL)
        _same_memory(memory_of(restored), before)
        assert await tables_of(restored) == await folded(restored, clock)
        await restored.close()
        assert await tables_of(ledger) == await folded(ledger, clock)
        before = memory_of(ledger)
        await ledger.close()
        ledger = history.ledger = await open_ledger(path, clock=clock, settings=SMALL)
        for hand in history.hands:
            hand.ledger = ledger
        _same_memory(memory_of(ledger), before)
    await ledger.close()


def _same_memory(after: dict[str, object], before: dict[str, object]) -> None:
    for name, value in before.items():
        assert after[name] == value, name


async def test_everything_parked_is_there_after_a_kill(duck, path, clock, tmp_path):
    hand, wait = await parked(duck, clock, timeout_s=60, external_id="pr-1", idempotency_key="k")
    ready = await begin(duck, clock)
    killed_path = killed(path, tmp_path / "killed")
    clock.move_to(clock.now() + timedelta(seconds=61))
    actor = LedgerActor(killed_path, clock=clock, settings=SMALL)
    found_ready = set[str]()
    async with asyncio.timeout(5):
        known = FROM_START
        while len(found_ready) < 2:
            changes = await actor.work(known, 1)
            known = changes.position
            found_ready |= {item.session_id for item in changes.added}
    assert found_ready == {hand.session_id, ready.session_id}
    found = await actor.get_wait(wait.body["wait_id"])
    assert (found["status"], found["resolved_at"]) == ("timed_out", "2026-03-01T12:01:01.000000Z")
    again = await actor.start(start_of(idempotency_key="k"))
    assert (again.session_id, again.created) == (hand.session_id, False)
    await actor.close()


async def test_a_release_is_there_after_a_kill_at_once(duck, path, clock, tmp_path):
    hand, _ = await parked(duck, clock)
    again = await open_ledger(killed(path, tmp_path / "killed"), clock=clock, settings=SMALL)
    assert await again.held() == []
    loaded = await again.load(hand.session_id, "slot-1")
    assert loaded.checkpoint is not None
    await again.close()


async def test_a_checkpoint_written_after_the_tables_is_used_after_a_kill(
    duck, path, clock, tmp_path
):
    """Its session's entries stood in the tables already; none of them is read again."""
    hand = await running(duck, clock)
    await hand.stored(*[hand.draft(EntryKind.NOTE_ADDED, note_id="note_1") for _ in range(20)])
    await duck.read_tables(lambda _: None)
    await hand.stored(checkpoint=True, release=True)
    again = await open_ledger(killed(path, tmp_path / "killed"), clock=clock, settings=SMALL)
    assert await tables_of(again) == await folded(again, clock)
    loaded = await again.load(hand.session_id, "slot-2")
    assert (loaded.checkpoint, loaded.entries) == (hand.checkpoint(), ())
    await again.close()


async def test_an_adoption_forgotten_by_a_crash_never_shares_its_epoch(duck, path, clock, tmp_path):
    hand = await begin(duck, clock)
    killed_path = killed(path, tmp_path / "killed")
    forgotten = await hand.adopt("slot-1")
    again = await open_ledger(killed_path, clock=clock, settings=SMALL)
    loaded = await again.load(hand.session_id, "slot-2")
    assert loaded.epoch > forgotten.epoch
    hand.ledger = again
    assert isinstance(await hand.commit(hand.started()), Refused)
    await again.close()


async def test_a_ledger_that_is_back_takes_no_adoption_that_was_sent_before(
    duck, path, clock, tmp_path
):
    """Its host may have been given up, which nobody knows any more."""
    hand, _ = await parked(duck, clock)
    before = await duck.lead("directory")
    again = await open_ledger(killed(path, tmp_path / "killed"), clock=clock, settings=SMALL)
    with pytest.raises(Moved):
        await again.load(hand.session_id, "slot-1", term=before)
    term = await again.lead("directory")
    with pytest.raises(Moved):
        await again.load(hand.session_id, "slot-1", term=before)
    assert (await again.load(hand.session_id, "slot-1", term=term)).checkpoint is not None
    await again.close()


async def test_the_actor_of_a_forgotten_adoption_is_refused(duck, path, clock, tmp_path):
    """It may have been given up meanwhile, by somebody who was told that nothing is held there."""
    hand = await begin(duck, clock)
    killed_path = killed(path, tmp_path / "killed")
    forgotten = await hand.adopt("slot-1")
    again = await open_ledger(killed_path, clock=clock, settings=SMALL)
    hand.ledger = again
    assert isinstance(await hand.commit(hand.started()), Refused)
    assert await again.held() == []
    assert [item.session_id for item in (await again.work()).added] == [hand.session_id]
    await again.abandon(hand.session_id, forgotten.epoch)
    assert (await again.load(hand.session_id, "slot-2")).epoch > forgotten.epoch
    await again.close()


async def test_an_abandoned_session_stays_so_after_a_kill(duck, path, clock, tmp_path):
    hand = await running(duck, clock)
    await duck.abandon(hand.session_id, hand.epoch)
    again = await open_ledger(killed(path, tmp_path / "killed"), clock=clock, settings=SMALL)
    assert await again.held() == []
    hand.ledger = again
    assert isinstance(await hand.commit(hand.step()), Refused)
    await again.close()


async def test_a_flush_sent_again_after_the_ledgers_crash_is_done(duck, path, clock, tmp_path):
    hand = await running(duck, clock)
    flush = hand.flush(hand.step(), hand.step_done())
    stored = await duck.commit(flush)
    again = await open_ledger(killed(path, tmp_path / "killed"), clock=clock, settings=SMALL)
    assert await again.commit(flush) == stored
    hand.ledger = again
    await hand.stored(hand.wait())
    later = await again.commit(flush)
    assert isinstance(later, Committed)
    assert isinstance(stored, Committed)
    assert later.first_feed_offset == stored.first_feed_offset
    await again.close()


async def test_records_that_no_wait_has_taken_are_counted_also_after_a_restart(opener, clock):
    duck = await opener()
    hand = await running(duck, clock)
    await hand.stored(hand.accepted("a"), hand.accepted("b"), release=True)
    assert (await duck.get_session(hand.session_id))["unconsumed"] == 2
    again = await opener()
    assert again.index.heads[hand.session_id].unconsumed is None
    assert (await again.get_session(hand.session_id))["unconsumed"] == 2
    assert again.index.heads[hand.session_id].unconsumed == 2
    hand.ledger = again
    await hand.adopt()
    await hand.stored(hand.accepted("c"))
    assert (await again.get_session(hand.session_id))["unconsumed"] == 3


async def test_an_ended_session_out_of_memory_is_read_again(opener, clock):
    duck = await opener()
    hand = await running(duck, clock, idempotency_key="k")
    sent = hand.accepted(1, key="s")
    await hand.stored(sent, hand.succeeded(3), hand.closed())
    await hand.stored(checkpoint=True, release=True)
    duck = await opener()
    assert hand.session_id not in duck.index.heads
    again = await duck.start(start_of(idempotency_key="k"))
    assert (again.session_id, again.created) == (hand.session_id, False)
    loaded = await duck.load(hand.session_id, "claims-1", key=("approval", key_hash("s")))
    assert loaded.known_key is not None
    hand.ledger = duck
    hand.epoch = loaded.epoch
    await hand.stored(hand.draft(EntryKind.NOTE_ADDED, note_id="n", text="later"), release=True)
    assert await duck.verify_chain(hand.session_id) == hand.seq


async def test_a_catalog_survives(opener):
    duck = await opener()
    await duck.write_catalog({"code_hash": "a"}, start_of().principal)
    duck = await opener()
    assert await duck.catalog() == {"code_hash": "a"}
    assert await duck.write_catalog({"code_hash": "b"}, start_of().principal)
    assert duck.index.system.next_seq == 3


async def test_opening_meets_no_entry_but_the_last_of_each_open_session(duck: DuckLedger) -> None:
    """Joined to all entries, what an engine needs to open a file would grow with everything that ever happened."""

    def plan(reader):
        return str(
            reader.execute(f"EXPLAIN {recovery._HEADS.format(which=recovery._OPEN)}").fetchall()
        )

    assert "main.entries" not in await duck.read(plan)


async def test_a_session_without_its_last_entry_is_damage(
    opener: Callable[[], Awaitable[DuckLedger]], clock: FakeClock
) -> None:
    ledger = await opener()
    hand, _ = await parked(ledger, clock)
    await parked(ledger, clock)
    await ledger._group.project()
    last = ledger.index.heads[hand.session_id].last_offset
    statement = f"DELETE FROM entries WHERE feed_offset = {last}"
    await ledger._group.run_in_writer(ledger._database.writer.execute, statement)
    with pytest.raises(DataError, match=f"{hand.session_id}: the tables and the entries disagree"):
        await opener()
