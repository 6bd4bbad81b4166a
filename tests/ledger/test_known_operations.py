"""The operation ids that are kept in memory."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from helmr_runtime.ledger.index import ledger_index
from helmr_runtime.ledger.index.ledger_index import OPERATION_AGE, KnownOperations

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(ledger_index, "GROUP_MAX", 3)
    monkeypatch.setattr(ledger_index, "GROUPS_MAX", 2)


def known(*numbers: int) -> KnownOperations:
    """One operation for each of these seconds, whose feed offset is its number."""
    found = KnownOperations()
    for number in numbers:
        found.remember(f"op-{number}", number, T0 + number * SECOND)
    return found


def offsets(operations: KnownOperations, *numbers: int) -> list[int | None]:
    return [operations.offset_of(f"op-{number}") for number in numbers]


def test_an_operation_is_known_for_a_day_to_the_microsecond():
    operations = known(1, 2, 3, 4)
    operations.forget_old(T0 + 2 * SECOND + OPERATION_AGE)
    assert offsets(operations, 0, 1, 2, 3, 4) == [None, None, 2, 3, 4]
    assert [offset for _, offset in operations] == [2, 3, 4]
    operations.forget_old(T0 + 2 * SECOND + timedelta(microseconds=1) + OPERATION_AGE)
    assert offsets(operations, 2, 3) == [None, 3]


def test_a_group_whose_newest_is_a_day_old_takes_no_memory():
    operations = known(1, 2, 3, 4, 5)
    operations.forget_old(T0 + 4 * SECOND + OPERATION_AGE)
    assert sum(len(group.places) for group in operations._groups) == 2
    assert operations.is_complete


def test_what_comes_out_of_order_is_kept_as_long_as_anything_else():
    operations = known(5, 1, 2, 3)
    operations.forget_old(T0 + 4 * SECOND + OPERATION_AGE)
    assert offsets(operations, 5, 1, 2, 3) == [5, None, None, None]


def test_an_operation_done_anew_after_its_day_has_its_new_place():
    operations = known(1, 2, 3)
    later = T0 + SECOND * 10 + OPERATION_AGE
    operations.remember("op-1", 7, later)
    operations.forget_old(later)
    assert offsets(operations, 1, 2) == [7, None]


def test_of_too_many_the_oldest_go_and_that_is_told_until_they_are_a_day_old():
    operations = known(*range(1, 7))
    now = T0 + 6 * SECOND
    operations.forget_old(now)
    assert operations.is_complete
    operations.remember("op-7", 7, now + SECOND)
    operations.forget_old(now + SECOND)
    assert offsets(operations, 3, 4, 7) == [None, 4, 7]
    assert not operations.is_complete
    operations.forget_old(T0 + 3 * SECOND + OPERATION_AGE)
    assert not operations.is_complete
    operations.forget_old(T0 + 3 * SECOND + OPERATION_AGE + timedelta(microseconds=1))
    assert operations.is_complete


def test_an_operation_takes_less_than_150_bytes(monkeypatch):
    monkeypatch.setattr(ledger_index, "GROUP_MAX", 43_690)
    count = 43_690
    tracemalloc.start()
    try:
        operations = known(*range(count))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert offsets(operations, count - 1) == [count - 1]
    assert taken / count < 150
