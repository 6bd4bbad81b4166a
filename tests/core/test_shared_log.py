"""The rules of a log that several machines reach: what a writer believes, what is garbage, who tries, when to copy."""

from __future__ import annotations

import json
import random

import pytest

from helmr.errors import LedgerDamaged, LogNewer
from helmr_runtime.core.shared_log import (
    LEASE_S,
    LOOK_CALLED_S,
    PRUNED_GONE_S,
    RENEW_S,
    SNAPSHOT_BYTES,
    SNAPSHOT_RECORDS,
    Appended,
    LeaseSeen,
    LogRecord,
    LogRoot,
    SnapshotPlace,
    StoreLease,
    after_append,
    deletable,
    epoch_floor,
    follows,
    fresh_s,
    has_opened,
    is_snapshot_due,
    lease_bytes,
    lease_of,
    newest_of,
    raised,
    record_bytes,
    record_of,
    root_bytes,
    root_of,
    with_snapshot,
)

RECORD = LogRecord(7, "one", "n1", False, b"[[],[],[]]")


def place(number: int, size_bytes: int = 100, pruned_offset: int = 0) -> SnapshotPlace:
    return SnapshotPlace(number, f"{number}-one", 1, size_bytes, "ab" * 32, pruned_offset)


def test_records_roots_and_leases_come_back_as_they_were() -> None:
    for text in (b"", b"[]", b"[\n\n]", bytes(range(256))):
        record = LogRecord(2**40, "one", "n1", True, text)
        assert record_of(2**40, record_bytes(record)) == record
    for moved in (False, True):
        root = LogRoot(2**62, 5, (place(5), place(9, pruned_offset=2)), moved)
        assert root_of(root_bytes(root)) == root
    lease = StoreLease("one", 3, 8, 12, True)
    assert lease_of(lease_bytes(lease)) == lease


def test_every_changed_byte_of_a_record_is_found() -> None:
    data = record_bytes(RECORD)
    chance = random.Random(1)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << chance.randrange(8)
        try:
            found = record_of(7, bytes(changed))
        except (LedgerDamaged, LogNewer):
            continue
        # What the checksum does not cover names its writer; it never stands for what was committed.
        assert (found.number, found.text) == (7, RECORD.text)
        assert after_append(data, bytes(changed)) is Appended.SUPERSEDED


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"[]", b"{}\n", b'{"format":"1"}\n', b'{"format":1}\n', b"[" * 40_000]
)
def test_what_is_nothing_that_was_written_is_damage(data: bytes) -> None:
    for read in (lambda: record_of(7, data), lambda: root_of(data), lambda: lease_of(data)):
        with pytest.raises(LedgerDamaged):
            read()


def test_a_record_under_another_number_is_damage() -> None:
    with pytest.raises(LedgerDamaged, match="commit 8"):
        record_of(8, record_bytes(RECORD))


def test_a_later_format_stops_the_reader() -> None:
    line, _, text = record_bytes(RECORD).partition(b"\n")
    newer = json.dumps({**json.loads(line), "format": 2}).encode() + b"\n"
    with pytest.raises(LogNewer, match="format 2"):
        record_of(7, newer + text)
    for read in (root_of, lease_of):
        with pytest.raises(LogNewer, match="format 2"):
            read(newer)


def test_only_its_own_bytes_make_an_append_durable() -> None:
    mine = record_bytes(RECORD)
    theirs = record_bytes(LogRecord(7, "two", "n2", False, RECORD.text))
    # The same text by another writer, or by the same in another opening, is another's.
    assert after_append(mine, mine) is Appended.DURABLE
    assert after_append(mine, theirs) is Appended.SUPERSEDED
    assert after_append(mine, None) is Appended.UNKNOWN


def test_an_opening_below_the_floor_is_garbage() -> None:
    assert has_opened(8, floor=7)
    assert not has_opened(7, floor=7)
    assert not has_opened(6, floor=7)


def test_what_was_read_behind_a_number_counts_only_while_the_floor_has_not_passed_it() -> None:
    assert follows(7, floor=7)
    assert not follows(6, floor=7)


def test_records_that_open_the_log_are_never_deleted() -> None:
    found = [(1, True), (2, False), (3, False), (4, True), (5, False)]
    assert deletable(found, floor=4) == [2, 3]


def test_the_floor_only_rises_and_follows_the_older_of_two_snapshots() -> None:
    root = LogRoot(1)
    root = with_snapshot(root, place(10))
    assert (root.floor, root.newest) == (0, place(10))
    root = with_snapshot(root, place(30))
    assert (root.floor, root.snapshots) == (10, (place(10), place(30)))
    root = with_snapshot(root, place(50))
    assert (root.floor, root.snapshots) == (30, (place(30), place(50)))
    # A writer that was paused comes with an older one.
    assert with_snapshot(root, place(40)) == root
    assert raised(root, 20) == root
    assert raised(root, 45).floor == 45


def test_a_snapshot_is_due_by_bytes_by_records_and_after_a_prune() -> None:
    assert not is_snapshot_due(0, 0, None, pruned_s=PRUNED_GONE_S)
    assert is_snapshot_due(1, 1, None)
    assert not is_snapshot_due(1, SNAPSHOT_BYTES - 1, place(1))
    assert is_snapshot_due(1, SNAPSHOT_BYTES, place(1))
    large = place(1, size_bytes=4 * SNAPSHOT_BYTES)
    assert not is_snapshot_due(1, SNAPSHOT_BYTES, large)
    assert is_snapshot_due(1, 2 * SNAPSHOT_BYTES, large)
    assert is_snapshot_due(SNAPSHOT_RECORDS, 1, large)
    assert not is_snapshot_due(1, 1, large, pruned_s=PRUNED_GONE_S / 2 - 1)
    assert is_snapshot_due(1, 1, large, pruned_s=PRUNED_GONE_S / 2)


def test_a_standby_tries_when_the_lease_stands_still_by_its_own_clock() -> None:
    lease = StoreLease("one", 1)
    seen = LeaseSeen(lease, since_s=100.0)
    assert not seen.may_try(100.0 + LEASE_S - 0.1)
    assert seen.may_try(100.0 + LEASE_S)
    seen = seen.seen(lease.renewed(newest=3), 103.0)
    assert not seen.may_try(103.0 + LEASE_S - 0.1)
    seen = seen.seen(lease.renewed(newest=3), 108.0)
    assert seen.may_try(109.0)
    seen = seen.seen(lease.renewed(newest=3).renewed(newest=4), 109.0)
    assert not seen.may_try(109.0)
    assert seen.lease == StoreLease("one", 1, counter=2, newest=4)


def test_a_lease_that_is_gone_is_one_that_is_not_renewed() -> None:
    seen = LeaseSeen(StoreLease("one", 1), 100.0).seen(None, 105.0)
    assert not seen.may_try(105.0)
    assert seen.may_try(106.0)


def test_a_lease_that_no_one_could_renew_has_not_lapsed() -> None:
    """When a store is back after a while, the primary has the time of a lease to say that it is there."""
    seen = LeaseSeen(StoreLease("one", 1), 100.0).unseen(104.0).unseen(160.0)
    seen = seen.seen(StoreLease("one", 1), 161.0)
    assert not seen.may_try(160.0 + LEASE_S - 0.1)
    assert seen.may_try(160.0 + LEASE_S)


def test_a_goodbye_is_followed_at_once() -> None:
    lease = StoreLease("one", 1)
    assert LeaseSeen(lease, 0.0).seen(lease.goodbye(7), 1.0).may_try(1.0)
    assert lease.goodbye(7) == StoreLease("one", 1, counter=1, newest=7, released=True)


def test_no_one_is_waited_for_who_never_was_at_work_or_is_known_to_have_ended() -> None:
    assert LeaseSeen(None, 0.0).may_try(0.0)
    lease = StoreLease("one", 1)
    assert LeaseSeen(lease, 0.0, own_writer="one").may_try(0.0)
    assert not LeaseSeen(lease, 0.0, own_writer="two").may_try(0.0)


def test_a_standby_looks_when_the_lease_may_have_lapsed_and_else_no_more_often_than_it_may() -> (
    None
):
    seen = LeaseSeen(StoreLease("one", 1), 100.0)
    assert seen.next_look_s(100.0) == RENEW_S
    assert seen.next_look_s(100.0 + LEASE_S - 0.5) == 0.5
    assert seen.next_look_s(100.0 + 2 * LEASE_S) == RENEW_S
    assert seen.next_look_s(100.0, is_called=True) == LOOK_CALLED_S
    assert seen.next_look_s(100.0 + LEASE_S - 0.1, is_called=True) == pytest.approx(0.1)
    assert seen.next_look_s(100.0 + 2 * LEASE_S, is_called=True) == LOOK_CALLED_S


def test_only_a_later_opening_supersedes() -> None:
    lease = StoreLease("one", 2)
    assert lease.is_superseded_by(StoreLease("two", 3))
    for found in (None, StoreLease("two", 2), StoreLease("zero", 1), lease.renewed(1)):
        assert not lease.is_superseded_by(found)


def test_a_primary_knows_when_its_own_lease_has_run_out() -> None:
    assert fresh_s(10.0, 10.0 + LEASE_S - 0.5) == 0.5
    assert fresh_s(10.0, 10.0 + LEASE_S) == 0.0


def test_epochs_of_generations_are_apart() -> None:
    assert epoch_floor(2) - epoch_floor(1) == 1_000_000


def test_a_late_list_is_where_the_search_for_the_end_begins() -> None:
    assert newest_of([], 4) == 4
    assert newest_of([3, 9, 7], 4) == 9
    assert newest_of([1, 2], 4) == 4
