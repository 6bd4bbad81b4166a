"""What both ledgers promise: starting, flushing, fencing, holding, work and deadlines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from helmr.errors import (
    ExternalIdConflict,
    IdempotencyConflict,
    Moved,
    OperationConflict,
    SessionNotFound,
)
from helmr.wire import ids
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import EntryKind, Watermark
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.index.work_list import ENDS_TEXT_MAX
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import (
    Committed,
    Declined,
    OperationUnused,
    Refused,
    TokenNotCompleted,
    TokenOpen,
)
from helmr_runtime.ports.ledger import FROM_START, WorkItem
from tests.ledger.facts import complete_token, create_token
from tests.ledger.sessions import begin, parked, running, start_of

AnyLedger = MemoryLedger | LedgerActor


async def work(ledger: AnyLedger) -> list[WorkItem]:
    """The work list now."""
    return list((await ledger.work()).added)


async def until_work(ledger: AnyLedger, count: int) -> list[WorkItem]:
    """The work list once it has that many items."""
    async with asyncio.timeout(5):
        known, items = FROM_START, dict[str, WorkItem]()
        while len(items) < count:
            changes = await ledger.work(known, 1)
            known = changes.position
            items |= {item.key: item for item in changes.added}
    return list(items.values())


# --- starting (S-2, S-61) ---------------------------------------------------------------------------


async def test_start_creates_a_session_that_is_ready_to_run(ledger, clock):
    start = start_of(payload={"n": 1})
    started = await ledger.start(start)
    assert (started.session_id, started.created) == (start.session_id, True)
    loaded = await ledger.load(start.session_id, "slot-1")
    assert [entry.kind for entry in loaded.entries] == ["session.created", "run.created"]
    assert loaded.entries[1].body["payload"] == {"n": 1}


async def test_start_again_with_an_open_external_id_returns_the_session(ledger):
    first = await ledger.start(start_of(external_id="pr-1", payload=1))
    again = await ledger.start(start_of(external_id="pr-1", payload=1))
    assert (again.session_id, again.run_id, again.created) == (
        first.session_id,
        first.run_id,
        False,
    )


async def test_start_again_with_other_parameters_is_a_conflict(ledger):
    first = await ledger.start(start_of(external_id="pr-1", payload=1))
    with pytest.raises(ExternalIdConflict) as caught:
        await ledger.start(start_of(external_id="pr-1", payload=2))
    assert caught.value.facts["session_id"] == first.session_id


async def test_an_external_id_is_free_again_when_its_session_has_ended(ledger, clock):
    hand = await running(ledger, clock, external_id="pr-1")
    await hand.stored(hand.succeeded(), hand.closed())
    again = await ledger.start(start_of(external_id="pr-1", payload="other"))
    assert again.created


async def test_an_idempotency_key_wins_over_the_external_id(ledger):
    first = await ledger.start(start_of(idempotency_key="k", external_id="a"))
    await ledger.start(start_of(external_id="b"))
    again = await ledger.start(start_of(idempotency_key="k", external_id="b"))
    assert (again.session_id, again.created) == (first.session_id, False)


async def test_an_idempotency_key_with_another_payload_is_a_conflict(ledger):
    await ledger.start(start_of(idempotency_key="k", payload=1))
    with pytest.raises(IdempotencyConflict):
        await ledger.start(start_of(idempotency_key="k", payload=2))


async def test_a_repeated_operation_gets_the_first_receipt(ledger):
    operation = OperationKey(id="op-1", request_hash="h")
    first = await ledger.start(start_of(operation=operation, external_id="a"))
    again = await ledger.start(start_of(operation=operation, external_id="a"))
    assert again == first
    assert again.created


async def test_an_operation_id_with_another_request_is_a_conflict(ledger):
    await ledger.start(start_of(operation=OperationKey(id="op-1", request_hash="h")))
    with pytest.raises(OperationConflict):
        await ledger.start(start_of(operation=OperationKey(id="op-1", request_hash="other")))


async def test_fifty_concurrent_starts_with_one_external_id_make_one_session(ledger):
    starts = [start_of(external_id="pr-1") for _ in range(50)]
    replies = await asyncio.gather(*(ledger.start(start) for start in starts))
    assert len({reply.session_id for reply in replies}) == 1
    assert sum(reply.created for reply in replies) == 1


# --- flushing and fencing (S-60, S-62) --------------------------------------------------------------


async def test_a_flush_gets_consecutive_feed_offsets(ledger, clock):
    hand = await running(ledger, clock)
    reply = await hand.stored(hand.step(), hand.step_done(), hand.wait())
    following = await hand.stored(hand.accepted(1))
    assert following.first_feed_offset == reply.first_feed_offset + 3


async def test_a_flush_that_is_held_is_answered_as_done(ledger, clock):
    hand = await running(ledger, clock)
    flush = hand.flush(hand.step(), hand.step_done())
    first = await ledger.commit(flush)
    assert await ledger.commit(flush) == first
    await hand.stored(hand.wait())
    later = await ledger.commit(flush)
    assert isinstance(later, Committed)
    assert later.first_feed_offset == first.first_feed_offset


async def test_one_flush_sent_twice_at_once_is_stored_once(ledger, clock):
    hand = await running(ledger, clock)
    flush = hand.flush(hand.step())
    first, second = await asyncio.gather(ledger.commit(flush), ledger.commit(flush))
    assert first == second
    loaded = await ledger.load(hand.session_id, "slot-2")
    assert [entry.seq for entry in loaded.entries] == list(range(1, hand.seq + 1))


async def test_a_flush_of_an_older_epoch_is_refused(ledger, clock):
    zombie = await running(ledger, clock)
    held = await ledger.load(zombie.session_id, "slot-2")
    refused = await zombie.commit(zombie.step())
    assert refused == Refused(epoch=held.epoch, seq=4)


async def test_other_entries_at_that_seq_are_refused(ledger, clock):
    hand = await running(ledger, clock)
    before = (hand.seq, hand.last_hash)
    await hand.stored(hand.step("one"))
    hand.seq, hand.last_hash = before
    assert isinstance(await hand.commit(hand.step("other")), Refused)


async def test_a_flush_with_another_previous_hash_is_refused(ledger, clock):
    hand = await running(ledger, clock)
    hand.last_hash = b"x" * 32
    assert isinstance(await hand.commit(hand.step()), Refused)


async def test_a_park_commit_sent_again_after_the_timeout_was_written_is_done(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.wait(deadline_at=clock.now() + timedelta(seconds=5)))
    park = hand.flush(checkpoint=True, release=True)
    assert isinstance(await ledger.commit(park), Committed)
    clock.move_to(clock.now() + timedelta(seconds=6))
    await until_work(ledger, 1)
    assert isinstance(await ledger.commit(park), Committed)
    assert await ledger.held() == []


async def test_a_commit_to_no_session_says_so(ledger, clock):
    hand = await running(ledger, clock)
    hand.session_id = ids.new_id(ids.SESSION)
    hand.seq = 0
    with pytest.raises(SessionNotFound):
        await hand.commit(hand.started())


async def test_the_system_session_takes_no_flush_and_no_adoption(ledger, clock):
    hand = await running(ledger, clock)
    with pytest.raises(SessionNotFound):
        await ledger.load(ids.SYSTEM_STREAM, "slot-1")
    hand.session_id = ids.SYSTEM_STREAM
    hand.seq = 0
    assert isinstance(await hand.commit(hand.started()), Refused)


async def test_an_adoption_is_told_whether_the_state_that_the_caller_has_is_the_newest(
    ledger, clock
):
    hand = await running(ledger, clock)
    await hand.stored(hand.wait(), checkpoint=True, release=True)
    newest = hand.seq, hand.last_hash
    first = await ledger.load(hand.session_id, "slot-2", known=newest)
    assert first.is_known
    assert first.checkpoint_offset is not None
    for other in ((hand.seq, b"x" * 32), (hand.seq - 1, hand.last_hash), None):
        loaded = await ledger.load(hand.session_id, "slot-2", known=other)
        assert not loaded.is_known
        assert loaded.checkpoint is not None
        assert loaded.epoch > first.epoch


# --- preconditions ----------------------------------------------------------------------------------


async def test_a_used_operation_is_declined_with_the_entry_of_its_receipt(ledger, clock):
    operation = OperationKey(id="op-1", request_hash="h")
    one, other = await running(ledger, clock), await running(ledger, clock)
    sent = one.accepted(1, operation=operation)
    await one.stored(sent, preconditions=(OperationUnused(operation),))
    declined = await other.commit(
        other.accepted(1, operation=operation), preconditions=(OperationUnused(operation),)
    )
    assert isinstance(declined, Declined)
    assert declined.facts["entry"].body["record_id"] == sent.body["record_id"]
    loaded = await ledger.load(other.session_id, "slot-9", operation_id="op-1")
    assert loaded.known_operation.receipt["record_id"] == sent.body["record_id"]
    assert loaded.entries[-1].kind is EntryKind.RUN_STARTED


async def test_an_operation_is_looked_up_with_its_receipt_and_who_got_it(ledger, clock):
    operation = OperationKey(id="op-1", request_hash="h")
    assert await ledger.known_operation("op-1") is None
    start = start_of(operation=operation)
    started = await ledger.start(start)
    known = await ledger.known_operation("op-1")
    assert (known.operation, known.principal) == (operation, start.principal)
    assert known.receipt["run_id"] == started.run_id
    clock.move_to(clock.now() + timedelta(hours=23))
    await ledger.start(start_of(operation=OperationKey(id="op-2", request_hash="h")))
    assert await ledger.known_operation("op-1") == known
    clock.move_to(clock.now() + timedelta(hours=1, seconds=1))
    await ledger.start(start_of(operation=OperationKey(id="op-3", request_hash="h")))
    assert await ledger.known_operation("op-1") is None
    assert await ledger.known_operation("op-2") is not None


async def test_two_sessions_with_one_operation_at_once_have_one_winner(ledger, clock):
    operation = OperationKey(id="op-1", request_hash="h")
    hands = [await running(ledger, clock) for _ in range(8)]
    replies = await asyncio.gather(
        *(
            hand.commit(
                hand.accepted(1, operation=operation),
                preconditions=(OperationUnused(operation),),
            )
            for hand in hands
        )
    )
    assert sum(isinstance(reply, Committed) for reply in replies) == 1
    assert sum(isinstance(reply, Declined) for reply in replies) == 7


async def test_an_operation_is_forgotten_after_a_day(ledger, clock):
    operation = OperationKey(id="op-1", request_hash="h")
    await ledger.start(start_of(operation=operation))
    clock.move_to(clock.now() + timedelta(hours=25))
    await ledger.start(start_of(operation=OperationKey(id="op-2", request_hash="h")))
    again = await ledger.start(start_of(operation=operation))
    assert again.created


async def test_a_wait_on_an_unknown_token_is_declined(ledger, clock):
    hand = await running(ledger, clock)
    token_id, wait = ids.new_id(ids.TOKEN), hand.wait(kind="token")
    declined = await hand.commit(
        wait, preconditions=(TokenOpen((token_id,), wait.body["wait_id"]),)
    )
    assert isinstance(declined, Declined)
    assert declined.facts["status"] == "unknown"


async def test_a_delivery_carries_its_end_as_far_as_there_is_room(ledger, clock):
    ends = {}
    for size in (ENDS_TEXT_MAX // 2, ENDS_TEXT_MAX // 2, 10):
        made = await ledger.fact(create_token())
        waiting = await begin(ledger, clock)
        await waiting.adopt()
        await waiting.stored(
            waiting.started(), waiting.wait(kind="token", token_id=made["token_id"])
        )
        await ledger.fact(complete_token(made["token_id"], "x" * size))
        ends[made["token_id"]] = await ledger.token_end(made["token_id"])
    first, second, third = await work(ledger)
    assert (first.end, third.end) == (ends[first.token_id], ends[third.token_id])
    assert second.end is None


async def test_a_token_that_was_never_completed_may_time_out(ledger, clock):
    hand = await running(ledger, clock)
    token_id = ids.new_id(ids.TOKEN)
    await hand.stored(hand.step(), preconditions=(TokenNotCompleted((token_id,), clock.now()),))


# --- holding and work (S-63) ------------------------------------------------------------------------


async def test_a_started_session_is_work_until_it_is_adopted(ledger, clock):
    hand = await begin(ledger, clock)
    (item,) = await work(ledger)
    assert (item.kind, item.session_id, item.run_id) == ("run", hand.session_id, hand.run_id)
    await hand.adopt("slot-7")
    assert await work(ledger) == []
    (held,) = await ledger.held()
    assert (held.session_id, held.holder, held.epoch) == (hand.session_id, "slot-7", hand.epoch)


async def test_a_parked_session_is_no_work_and_unheld(ledger, clock):
    hand, _ = await parked(ledger, clock)
    assert await work(ledger) == []
    assert await ledger.held() == []
    loaded = await hand.adopt()
    assert loaded.checkpoint is not None
    assert loaded.entries == ()


async def test_an_abandoned_run_is_work_again_and_its_actor_fenced(ledger, clock):
    hand = await running(ledger, clock)
    await ledger.abandon(hand.session_id, hand.epoch)
    (item,) = await work(ledger)
    assert item.session_id == hand.session_id
    assert isinstance(await hand.commit(hand.step()), Refused)


async def test_a_holder_that_was_given_up_loads_nothing_more(ledger, clock):
    hand = await running(ledger, clock)
    (held,) = await ledger.held()
    await ledger.abandon_all(held.holder)
    with pytest.raises(Moved):
        await ledger.load(hand.session_id, held.holder)
    assert await ledger.held() == []
    assert [item.session_id for item in await work(ledger)] == [hand.session_id]
    await ledger.load(hand.session_id, "another")


async def test_what_was_sent_in_an_earlier_term_adopts_nothing(ledger, clock):
    hand = await running(ledger, clock)
    first = await ledger.lead("one")
    assert await ledger.lead("one") == first
    second = await ledger.lead("another")
    with pytest.raises(Moved):
        await ledger.load(hand.session_id, "late", term=first)
    assert [held.holder for held in await ledger.held()] == ["slot-1"]
    loaded = await ledger.load(hand.session_id, "slot-2", term=second)
    assert loaded.epoch > hand.epoch


async def test_abandoning_an_older_epoch_does_nothing(ledger, clock):
    hand = await running(ledger, clock)
    old = hand.epoch
    await hand.adopt("slot-2")
    await ledger.abandon(hand.session_id, old)
    assert [held.holder for held in await ledger.held()] == ["slot-2"]


async def test_a_waiting_session_with_a_lost_step_is_work(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.step(), hand.wait())
    await ledger.abandon(hand.session_id, hand.epoch)
    assert [item.session_id for item in await work(ledger)] == [hand.session_id]


async def test_an_answer_to_a_parked_session_queues_the_run(ledger, clock):
    hand, wait = await parked(ledger, clock)
    await hand.adopt("claims-1")
    await hand.stored(hand.accepted(1), hand.fulfilled(wait, following="queued"))
    await hand.stored(release=True)
    assert [item.session_id for item in await work(ledger)] == [hand.session_id]
    loaded = await hand.adopt("slot-1")
    assert [entry.kind for entry in loaded.entries] == ["input.accepted", "wait.fulfilled"]


async def test_work_returns_when_something_is_added(ledger, clock):
    first = await begin(ledger, clock)
    known = (await ledger.work()).position
    asking = asyncio.create_task(ledger.work(known, 5))
    await first.adopt()
    second = await begin(ledger, clock)
    changes = await asyncio.wait_for(asking, 5)
    assert [item.session_id for item in changes.added] == [second.session_id]
    assert changes.gone == (first.session_id,)
    assert not changes.is_whole


async def test_work_is_oldest_first(ledger, clock):
    hands = []
    for _ in range(5):
        hands.append(await begin(ledger, clock))
        clock.move_to(clock.now() + timedelta(seconds=1))
    assert [item.session_id for item in await work(ledger)] == [h.session_id for h in hands]


async def test_a_retry_is_work_when_its_time_comes(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.attempt_failed(clock.now() + timedelta(seconds=30)))
    reply = await hand.stored(checkpoint=True, release=True)
    assert reply.next_deadline_at == clock.now() + timedelta(seconds=30)
    assert await work(ledger) == []
    clock.move_to(clock.now() + timedelta(seconds=31))
    (item,) = await until_work(ledger, 1)
    assert item.session_id == hand.session_id


# --- deadlines (S-14) -------------------------------------------------------------------------------


async def test_the_wait_of_an_unheld_session_times_out(ledger, clock):
    hand, wait = await parked(ledger, clock, timeout_s=60)
    clock.move_to(clock.now() + timedelta(seconds=60))
    await until_work(ledger, 1)
    (entry,) = (await hand.adopt()).entries
    assert entry.kind is EntryKind.WAIT_TIMED_OUT
    assert entry.body == {"wait_id": wait.body["wait_id"], "next": "queued"}
    await hand.stored(hand.draft(EntryKind.RUN_RESUMED, attempt=1, code_hash="abc"))


async def test_a_timer_of_an_unheld_session_is_fulfilled(ledger, clock):
    hand = await running(ledger, clock)
    await hand.stored(hand.wait(kind="timer", deadline_at=clock.now() + timedelta(hours=2)))
    await hand.stored(checkpoint=True, release=True)
    clock.move_to(clock.now() + timedelta(hours=2))
    await until_work(ledger, 1)
    assert [e.kind for e in (await hand.adopt()).entries] == [EntryKind.WAIT_FULFILLED]


async def test_the_wait_of_a_held_session_is_its_actors_to_time_out(ledger, clock):
    hand, _ = await parked(ledger, clock, timeout_s=60)
    await hand.adopt()
    clock.move_to(clock.now() + timedelta(seconds=90))
    await hand.stored(hand.accepted(1))
    assert await work(ledger) == []
    await ledger.abandon(hand.session_id, hand.epoch)
    await until_work(ledger, 1)


async def test_a_deadline_that_was_answered_in_time_does_nothing(ledger, clock):
    hand, wait = await parked(ledger, clock, timeout_s=60)
    await hand.adopt()
    await hand.stored(hand.fulfilled(wait), hand.succeeded("done"))
    await hand.stored(checkpoint=True, release=True)
    clock.move_to(clock.now() + timedelta(seconds=90))
    await begin(ledger, clock)
    assert len(await work(ledger)) == 1


# --- keys and records (S-26) ------------------------------------------------------------------------


async def test_an_idempotency_key_is_known_at_once_and_at_adoption(ledger, clock):
    hand = await running(ledger, clock)
    sent = hand.accepted({"a": 1}, key="k")
    assert await ledger.known_key(hand.session_id, "approval", key_hash("k")) is None
    await hand.stored(sent)
    known = await ledger.known_key(hand.session_id, "approval", key_hash("k"))
    assert known is not None
    assert known.entry.body["record_id"] == sent.body["record_id"]
    assert known.data_hash == sent.body["data_hash"]
    assert await ledger.known_key(hand.session_id, "other", key_hash("k")) is None
    loaded = await ledger.load(hand.session_id, "slot-2", key=("approval", key_hash("k")))
    assert loaded.known_key == known
    assert loaded.has_older_keys


async def test_records_gives_a_streams_history_in_order(ledger, clock):
    hand = await running(ledger, clock)
    for seq in range(1, 5):
        await hand.stored(hand.accepted(seq, stream_seq=seq), hand.accepted(0, stream="other"))
    bodies = await ledger.records(hand.session_id, Watermark("approval", "input", 1, 3))
    assert [body["data"] for body in bodies] == [1, 2, 3]


async def test_records_of_an_output_are_read_from_a_seq_without_those_set_aside(ledger, clock):
    hand = await running(ledger, clock)
    for seq in range(1, 6):
        await hand.stored(hand.output(seq, seq, "said"), hand.accepted(0, stream="said"))
    seen = Watermark("said", "output", 2, 4, frozenset({3}))
    assert [body["data"] for body in await ledger.records(hand.session_id, seen)] == [2, 4]


async def test_a_checkpoint_brings_the_entries_it_names(ledger, clock):
    hand = await running(ledger, clock)
    reply = await hand.stored(hand.accepted("x" * 10_000))
    await hand.stored(hand.wait())
    flush = hand.flush(release=True)
    text = hand.checkpoint([reply.first_feed_offset])
    await ledger.commit(replace(flush, checkpoint=text))
    loaded = await ledger.load(hand.session_id, "slot-2")
    assert loaded.checkpoint == text
    assert loaded.referenced[reply.first_feed_offset].body["data"] == "x" * 10_000


async def test_a_checkpoint_brings_the_earlier_ones_it_names_with_their_entries(ledger, clock):
    hand = await running(ledger, clock)
    large = await hand.stored(hand.accepted("x" * 10_000))
    parked = await hand.stored(hand.wait())
    first = hand.checkpoint([large.first_feed_offset])
    await ledger.commit(replace(hand.flush(release=True), checkpoint=first))
    await hand.adopt("slot-2")
    await hand.stored(hand.accepted("y"))
    second = hand.checkpoint(pieces=[[parked.first_feed_offset, 0, 0, 0, 0]])
    await ledger.commit(replace(hand.flush(release=True), checkpoint=second))
    loaded = await ledger.load(hand.session_id, "slot-3")
    assert (loaded.checkpoint, loaded.pieces) == (second, {parked.first_feed_offset: first})
    assert loaded.checkpoint_offset not in (None, parked.first_feed_offset)
    assert loaded.referenced[large.first_feed_offset].body["data"] == "x" * 10_000


async def test_the_catalog_is_written_once_per_code_hash(ledger):
    assert await ledger.catalog() is None
    runtime = start_of().principal
    assert await ledger.write_catalog({"code_hash": "a", "tasks": []}, runtime)
    assert not await ledger.write_catalog({"code_hash": "a", "tasks": [{"id": "other"}]}, runtime)
    assert await ledger.write_catalog({"code_hash": "b", "tasks": []}, runtime)
    assert (await ledger.catalog())["code_hash"] == "b"
