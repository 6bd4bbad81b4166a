"""What a send does and what its receipt says (S-20…S-28)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.errors import (
    BadRequest,
    IdempotencyConflict,
    IdleInputRejected,
    Overloaded,
    SessionTerminal,
    StreamNotFound,
    TooLarge,
)
from helmr.models import RECORD_BYTES_MAX, UNCONSUMED_RECORDS_MAX, RunStatus
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.jsontext import same_data_hash
from helmr_runtime.core.state import InputRecord
from tests.core.builder import ALICE, Story, of_kind, seconds


def running(**policy: Any) -> Story:
    return Story(**policy).execute()


def test_send_before_the_wait_is_buffered_and_the_wait_takes_it_at_once():
    story = running()
    receipt = story.send("early")
    assert receipt["outcome"] == "buffered"
    assert (receipt["seq"], receipt["wait_id"], receipt["run_id"]) == (1, None, None)
    entries = story.open_wait(1)
    assert [e.kind for e in entries] == [EntryKind.WAIT_OPENED, EntryKind.WAIT_FULFILLED]
    assert story.state.wait is None
    assert story.run.status is RunStatus.RUNNING
    assert story.state.unconsumed_count == 0


def test_send_after_the_wait_fulfils_it_in_the_same_decision():
    story = running()
    story.open_wait(1)
    wait = story.wait
    before = len(story.entries)
    receipt = story.send({"decision": "approve"})
    assert receipt["outcome"] == "fulfilled"
    assert receipt["wait_id"] == wait.id
    assert receipt["run_id"] == "run_1"
    accepted, fulfilled = story.entries[before:]
    assert accepted.kind is EntryKind.INPUT_ACCEPTED
    assert fulfilled.kind is EntryKind.WAIT_FULFILLED
    assert fulfilled.body["record_id"] == accepted.body["record_id"]
    assert accepted.principal == fulfilled.principal == ALICE


@pytest.mark.parametrize(("is_hot", "status"), [(True, "running"), (False, "queued")])
def test_a_parked_session_queues_the_run_and_a_slot_runs_it(is_hot: bool, status: str):
    story = running()
    story.open_wait(1)
    story.is_hot = is_hot
    story.send()
    assert story.run.status.value == status


def test_a_blocked_run_stays_blocked_when_its_wait_is_fulfilled():
    story = running()
    story.open_wait(1)
    story.block()
    receipt = story.send()
    assert receipt["outcome"] == "fulfilled"
    assert story.run.status is RunStatus.BLOCKED


def test_a_wait_without_a_correlation_id_takes_any_record():
    story = running()
    story.send("x", correlation_id="X")
    story.open_wait(1)
    [fulfilled] = of_kind(story, EntryKind.WAIT_FULFILLED)
    assert fulfilled.body["record_seq"] == 1


def test_wait_for_x_gets_none_then_y_then_x():
    story = running()
    story.open_wait(1, correlation_id="X")
    assert story.send("none")["outcome"] == "unmatched"
    assert story.send("y", correlation_id="Y")["outcome"] == "unmatched"
    receipt = story.send("x", correlation_id="X")
    assert receipt["outcome"] == "fulfilled"
    assert receipt["seq"] == 3
    assert [r.data for r in story.state.unconsumed["approval"]] == ["none", "y"]


def test_two_x_then_two_waits_take_them_in_order():
    story = running()
    story.send("first", correlation_id="X")
    story.send("second", correlation_id="X")
    story.open_wait(1, correlation_id="X")
    story.open_wait(2, correlation_id="X")
    taken = [e.body["record_seq"] for e in of_kind(story, EntryKind.WAIT_FULFILLED)]
    assert taken == [1, 2]
    assert story.state.record("approval", 2).data == "second"


def test_the_lowest_matching_sequence_is_taken_not_the_first_record():
    story = running()
    story.send("y", correlation_id="Y")
    story.send("x", correlation_id="X")
    story.open_wait(1, correlation_id="X")
    assert [r.data for r in story.state.unconsumed["approval"]] == ["y"]


@pytest.mark.parametrize("other", ["x", "X ", " X", "X\n"])
def test_correlation_ids_are_trimmed_and_case_sensitive(other: str):
    story = running()
    story.open_wait(1, correlation_id="X")
    outcome = story.send(correlation_id=other)["outcome"]
    assert outcome == ("unmatched" if other == "x" else "fulfilled")


@pytest.mark.parametrize("empty", [None, "", "   "])
def test_an_empty_correlation_id_is_none(empty: str | None):
    story = running()
    story.send(correlation_id=empty)
    assert "correlation_id" not in story.entries[-1].body


def test_a_correlation_id_has_a_longest_length():
    story = running()
    story.send(correlation_id="c" * 512 + " ")
    with pytest.raises(BadRequest):
        story.send(correlation_id="c" * 513)


def test_an_open_wait_on_another_stream_makes_a_record_buffered_not_unmatched():
    story = running()
    story.open_wait(1, "chat")
    assert story.send(stream="approval")["outcome"] == "buffered"


def test_each_stream_has_its_own_dense_sequence():
    story = running()
    seqs = [story.send(stream=s)["seq"] for s in ("approval", "chat", "approval", "chat")]
    assert seqs == [1, 1, 2, 2]


def test_late_says_that_the_newest_matching_wait_timed_out():
    story = running()
    story.open_wait(1, correlation_id="X", timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    assert story.send("x", correlation_id="X")["outcome"] == "late"
    assert story.send("y", correlation_id="Y")["outcome"] == "buffered"
    assert story.send("none")["outcome"] == "buffered"


def test_late_also_for_a_correlated_record_when_an_uncorrelated_wait_timed_out():
    story = running()
    story.open_wait(1, timeout_s=60)
    story.now += seconds(61)
    story.deadline()
    assert story.send(correlation_id="X")["outcome"] == "late"


def test_late_is_buffered_and_the_next_wait_takes_it():
    story = running()
    story.open_wait(1, timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    assert story.send("late")["outcome"] == "late"
    story.open_wait(2)
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["record_seq"] == 1


def test_not_late_when_a_newer_matching_wait_was_fulfilled():
    story = running()
    story.open_wait(1, timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    story.open_wait(2)
    story.send()
    assert story.send()["outcome"] == "buffered"


def test_fulfilled_wins_over_late_when_an_open_wait_takes_the_record():
    story = running()
    story.open_wait(1, timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    story.open_wait(2)
    assert story.send()["outcome"] == "fulfilled"


def test_late_wins_over_unmatched():
    story = running()
    story.open_wait(1, correlation_id="X", timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    story.open_wait(2, correlation_id="Y")
    assert story.send(correlation_id="X")["outcome"] == "late"
    assert story.send(correlation_id="Z")["outcome"] == "unmatched"


def timed_out(**policy) -> Story:
    """A run whose wait has timed out."""
    story = running(**policy)
    story.open_wait(1, timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    return story


@pytest.mark.parametrize("end", ["succeed", "fail", "cancel_run"])
def test_late_also_when_the_run_has_ended_since(end):
    """`.unwrap()` ends it by itself: the sender is too late all the same."""
    story = timed_out()
    getattr(story, end)()
    assert story.state.active_run is None
    assert story.send()["outcome"] == "late"


def test_late_while_the_next_attempt_is_to_come_and_not_once_it_asks_again():
    story = timed_out(retries=1)
    story.fail(failed_op=1)
    assert story.state.active_run is not None
    assert story.send(correlation_id="X")["outcome"] == "late"
    story.execute()
    story.open_wait(1, correlation_id="Y")
    assert story.send(correlation_id="Y")["outcome"] == "fulfilled"
    assert story.send(correlation_id="Y")["outcome"] == "buffered"


def test_late_is_about_the_newest_run_only():
    story = timed_out()
    story.succeed()
    story.start_run()
    assert story.send()["outcome"] == "buffered"


def test_a_record_that_starts_a_run_is_not_late():
    story = timed_out(on_idle_input="run")
    story.succeed()
    receipt = story.send()
    assert receipt["outcome"] == "buffered"
    assert story.entries[-1].body["started_by"]["id"] == receipt["record_id"]


def test_a_wait_that_the_code_cancelled_makes_nothing_late():
    story = running()
    story.open_wait(1, timeout_s=60)
    story.give_up(1)
    assert story.send()["outcome"] == "buffered"


def test_an_unknown_stream_is_refused_and_lists_those_there_are():
    story = running()
    with pytest.raises(StreamNotFound) as caught:
        story.send(stream="nope")
    assert caught.value.facts["streams"] == ["approval", "chat"]
    assert "approval, chat" in caught.value.message


@pytest.mark.parametrize("end", ["close", "cancel_session"])
def test_sending_to_a_final_session_is_refused(end: str):
    story = running()
    story.succeed()
    getattr(story, end)()
    with pytest.raises(SessionTerminal):
        story.send()


def test_a_refused_send_leaves_nothing():
    story = running()
    before = story.state.seq
    for bad in (
        {"stream": "nope"},
        {"data": "x" * RECORD_BYTES_MAX},
        {"correlation_id": "c" * 513},
    ):
        with pytest.raises((StreamNotFound, TooLarge, BadRequest)):
            story.send(**bad)
    assert story.state.seq == before


# --- idempotency ------------------------------------------------------------------------------------


def test_an_idempotency_key_gives_the_first_receipt_again():
    story = running()
    story.open_wait(1)
    first = story.send({"a": 1, "b": 2}, idempotency_key="k")
    again = story.send({"b": 2, "a": 1}, idempotency_key="k")
    assert again == {**first, "duplicate": True}
    assert first["outcome"] == "fulfilled"
    assert story.state.input_seqs == {"approval": 1}


def test_an_idempotency_key_with_other_data_conflicts():
    story = running()
    story.send(1, idempotency_key="k")
    for other in (2, "1", True, [1]):
        with pytest.raises(IdempotencyConflict):
            story.send(other, idempotency_key="k")


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), ({"a": [2.0, 0.5]}, {"a": [2, 0.5]})])
def test_a_number_is_the_same_data_however_it_is_written(one: Any, other: Any):
    for first, again in ((one, other), (other, one)):
        story = running()
        receipt = story.send(first, idempotency_key="k")
        assert story.send(again, idempotency_key="k") == {**receipt, "duplicate": True}
        assert story.state.unconsumed["approval"][0].data is first


def test_a_key_of_an_earlier_release_knows_its_data_as_it_was_sent():
    story = running()
    story.send(1.0, idempotency_key="k")
    (_, receipt) = story.state.send_keys["approval", key_hash("k")]
    story.state.send_keys["approval", key_hash("k")] = same_data_hash(1.0), receipt
    assert story.send(1.0, idempotency_key="k")["duplicate"]
    with pytest.raises(IdempotencyConflict):
        story.send(2.0, idempotency_key="k")


def test_idempotency_keys_are_scoped_to_the_stream():
    story = running()
    story.send("a", stream="approval", idempotency_key="k")
    assert story.send("b", stream="chat", idempotency_key="k")["duplicate"] is False


def test_an_idempotent_repeat_succeeds_also_after_the_session_closed():
    story = running()
    first = story.send(idempotency_key="k")
    story.succeed()
    story.close()
    assert story.send(idempotency_key="k")["record_id"] == first["record_id"]


def test_twenty_sends_with_one_key_make_one_record():
    story = running()
    receipts = [story.send("same", idempotency_key="k") for _ in range(20)]
    assert len({r["record_id"] for r in receipts}) == 1
    assert [r["duplicate"] for r in receipts] == [False] + [True] * 19
    assert story.state.unconsumed_count == 1


# --- limits -----------------------------------------------------------------------------------------


def test_a_record_of_exactly_the_limit_is_taken_and_one_more_byte_is_not():
    story = running()
    story.send("x" * (RECORD_BYTES_MAX - 2))
    with pytest.raises(TooLarge):
        story.send("x" * (RECORD_BYTES_MAX - 1))
    with pytest.raises(TooLarge):
        story.send("é" * (RECORD_BYTES_MAX // 2))


def full_of_x(story: Story) -> None:
    """Fill the buffer up to its count with records that nothing waits for."""
    records = [
        InputRecord(f"rec_{n}", "approval", n, "x", "X", 60, n, None)
        for n in range(1, UNCONSUMED_RECORDS_MAX + 1)
    ]
    story.state.unconsumed["approval"] = records
    story.state.unconsumed_count = len(records)
    story.state.input_seqs["approval"] = len(records)


def test_a_full_buffer_refuses_what_it_would_have_to_keep():
    story = running()
    full_of_x(story)
    with pytest.raises(Overloaded) as caught:
        story.send()
    assert caught.value.status == 429
    assert caught.value.retry_after_s is not None


def test_a_full_buffer_takes_what_a_wait_takes_at_once():
    story = running()
    full_of_x(story)
    story.open_wait(1, correlation_id="Y")
    assert story.send("y", correlation_id="Y")["outcome"] == "fulfilled"
    story.open_wait(2, correlation_id="Y")
    assert story.answer("y")["outcome"] == "fulfilled"
    assert story.state.unconsumed_count == UNCONSUMED_RECORDS_MAX


def test_unconsumed_bytes_are_bytes_not_characters():
    story = running()
    text = "日" * 80_000  # 240,000 bytes of UTF-8
    story.send(text)
    assert story.state.unconsumed_bytes >= 240_000
    room = 32 * 1024 * 1024 // story.state.unconsumed_bytes
    for _ in range(room - 1):
        story.send(text)
    with pytest.raises(Overloaded):
        story.send(text)


def test_consuming_frees_room():
    story = running()
    story.send("x" * 1000)
    story.open_wait(1)
    assert (story.state.unconsumed_count, story.state.unconsumed_bytes) == (0, 0)


# --- input without an active run (S-7) --------------------------------------------------------------


def test_keep_buffers_input_for_the_next_run():
    story = running()
    story.succeed()
    assert story.send()["outcome"] == "buffered"
    assert story.state.active_run is None
    story.start_run()
    story.execute()
    story.open_wait(1)
    assert story.state.unconsumed_count == 0


def test_reject_refuses_input_without_an_active_run():
    story = running(on_idle_input="reject")
    story.send()
    story.succeed()
    with pytest.raises(IdleInputRejected):
        story.send()


def test_run_starts_a_run_with_the_newest_payload_that_takes_the_record():
    story = running(on_idle_input="run")
    story.succeed()
    receipt = story.send("hello")
    assert receipt["outcome"] == "buffered"
    assert story.run.id != "run_1"
    assert story.run.payload == {"n": 1}
    assert story.entries[-1].body["started_by"] == {"type": "record", "id": receipt["record_id"]}
    story.execute()
    story.open_wait(1)
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["record_id"] == receipt["record_id"]


def test_a_record_starts_at_most_one_run():
    story = running(on_idle_input="run")
    story.succeed()
    story.send("hello")
    started = story.run.id
    story.execute()
    story.succeed()  # without taking the record
    assert story.run.id == started
    assert story.state.active_run is None


def test_a_run_that_ends_starts_the_next_for_a_record_accepted_meanwhile():
    story = running(on_idle_input="run")
    receipt = story.send("meanwhile")
    story.succeed()
    assert story.run.id != "run_1"
    assert story.entries[-1].body["started_by"]["id"] == receipt["record_id"]


def test_each_run_that_takes_one_record_leaves_the_rest_to_the_next():
    """Of three messages, two of which came while the first one's run was at it, none is left."""
    story = running(on_idle_input="run")
    story.succeed()
    for text in ("one", "two", "three"):
        story.send(text)
    runs = 0
    while story.state.active_run is not None:
        runs += 1
        story.execute()
        story.open_wait(1)
        story.succeed()
    assert runs == 3
    assert story.state.unconsumed_count == 0


def test_a_record_from_before_the_run_starts_the_next_at_its_end():
    story = running(on_idle_input="keep")
    story.succeed()
    receipt = story.send("before")
    story.start_run()
    story.policy = type(story.policy)(inputs=story.policy.inputs, on_idle_input="run")
    story.execute()
    story.succeed()
    assert story.entries[-1].body["started_by"]["id"] == receipt["record_id"]


def test_records_that_no_run_takes_start_one_run_each():
    story = running(on_idle_input="run")
    for _ in range(3):
        story.send()
    ended = 0
    while story.state.active_run is not None:
        ended += 1
        story.execute()
        story.succeed()
    assert ended == 1 + 3
    assert story.state.unconsumed_count == 3


def test_a_consumed_record_starts_no_run():
    story = running(on_idle_input="run")
    story.open_wait(1)
    story.send()
    story.succeed()
    assert story.state.active_run is None


def test_no_run_starts_in_a_blocked_session():
    story = running(on_idle_input="run")
    story.block()
    assert story.send()["outcome"] == "buffered"
    assert story.run.id == "run_1"
