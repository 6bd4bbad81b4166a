"""Chunks on their way: kept within bounds, numbered, ended once, and what is missing is counted (S-90)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_runtime.core.chunks import (
    ENDS_MAX,
    Chunk,
    ChunkQueue,
    Emitted,
    EndedChunks,
    LossCount,
    SessionEmissions,
)
from helmr_runtime.core.entries import RUNTIME, Draft, Entry, EntryKind, stamp


def chunk(number: int, op: int | None = 1, data: str = '"x"') -> Chunk:
    return Chunk("out", op, number, data)


def entry(kind: EntryKind, op: int | None) -> Entry:
    draft = Draft(kind, {}, run_id="run_1", op=op, principal=RUNTIME)
    return stamp(
        draft,
        session_id="ses_1",
        seq=1,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        previous=b"",
        key=None,
    )


def test_a_reader_gets_what_is_behind_its_position_in_order():
    queue = ChunkQueue()
    for number in range(1, 6):
        queue.put(chunk(number))
    found, position = queue.after(2)
    assert [one.number for one in found] == [3, 4, 5]
    assert (position, queue.after(position)) == (5, ([], 5))


def test_a_read_is_bounded_and_goes_on_where_it_ended():
    queue = ChunkQueue()
    for number in range(1, 6):
        queue.put(chunk(number, data="x" * 10))
    seen, position = queue.after(0, chars_max=15)
    assert [one.number for one in seen] == [1, 2]
    rest, _ = queue.after(position)
    assert [one.number for one in rest] == [3, 4, 5]


@pytest.mark.parametrize("bounds", [{"chunks_max": 3}, {"chars_max": 9}])
def test_the_oldest_chunk_makes_room_and_an_end_stays(bounds: dict[str, int]):
    queue = ChunkQueue(**bounds)
    queue.put(EndedChunks("out", 1, 0, "succeeded"))
    for number in range(1, 6):
        queue.put(chunk(number, op=2))
    found, _ = queue.after(0)
    assert [(type(one), one.number) for one in found] == [
        (EndedChunks, 0),
        (Chunk, 3),
        (Chunk, 4),
        (Chunk, 5),
    ]


def test_ends_are_bounded_too():
    queue = ChunkQueue()
    for op in range(ENDS_MAX + 5):
        queue.put(EndedChunks("out", op, 1, "succeeded"))
    found, _ = queue.after(0)
    assert len(found) == len(queue) == ENDS_MAX
    assert found[0].op == 5


@given(st.lists(st.sampled_from(["chunk", "end", "read"]), max_size=60), st.integers(1, 5))
def test_what_is_missing_is_counted_exactly(doings: list[str], chunks_max: int):
    """However slow a reader is: what it got and what it was told is lost are all there was."""
    queue, losses = ChunkQueue(chunks_max=chunks_max), LossCount(has_followed=True)
    number = position = got = lost = 0

    def read() -> None:
        nonlocal position, got, lost
        found, position = queue.after(position)
        lost += sum(losses.lost_before(one) for one in found)
        got += sum(isinstance(one, Chunk) for one in found)

    for doing in doings:
        if doing == "chunk":
            number += 1
            queue.put(chunk(number))
        elif doing == "end":
            queue.put(EndedChunks("out", 1, number, "retried"))
        else:
            read()
    queue.put(EndedChunks("out", 1, number, "succeeded"))
    read()
    assert got + lost == number


def test_who_comes_in_the_middle_has_lost_nothing():
    losses = LossCount(has_followed=False)
    assert [losses.lost_before(chunk(number)) for number in (7, 8, 11)] == [0, 0, 2]


def test_each_stream_has_its_own_numbers_and_ends():
    emitted = SessionEmissions()
    made = [
        emitted.emit(stream, op, "1", is_kept=True)
        for stream, op in (("a", 1), ("b", 1), ("a", 2), ("a", None))
    ]
    assert [(one.stream, one.number) for one in made] == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    ends = emitted.ended_by(entry(EntryKind.STEP_SUCCEEDED, 1))
    assert ends == [
        EndedChunks("a", 1, 1, "succeeded"),
        EndedChunks("b", 1, 1, "succeeded"),
        EndedChunks("a", None, 3, "next_entry"),
    ]
    assert emitted.ended_by(entry(EntryKind.STEP_FAILED, 1)) == []
    assert emitted.ended_by(entry(EntryKind.STEP_TRY_FAILED, 2)) == [
        EndedChunks("a", 2, 2, "retried")
    ]
    assert not emitted.has_open


def test_an_entry_of_another_op_ends_no_step():
    emitted = SessionEmissions()
    emitted.emit("a", 1, "1", is_kept=True)
    assert emitted.ended_by(entry(EntryKind.STEP_STARTED, 2)) == []
    assert emitted.ended_by(entry(EntryKind.INPUT_ACCEPTED, None)) == []
    assert emitted.has_open


def test_what_nobody_is_there_for_is_counted_and_not_kept():
    emitted = SessionEmissions()
    for is_kept in (True, False, False, True):
        emitted.emit("a", 1, "1", is_kept=is_kept)
    found: list[Emitted]
    found, _ = emitted.queue.after(0)
    assert [one.number for one in found] == [4]
