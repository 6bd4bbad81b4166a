"""What is told of the work list: what has changed, and all of it to whoever knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from helmr.wire.ids import SESSION, new_id
from helmr_runtime.core.children import Parent
from helmr_runtime.ledger.index import work_list
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.tokens import TokenHead, TokenIndex
from helmr_runtime.ledger.index.work_list import WorkList
from helmr_runtime.ports.ledger import FROM_START, WorkChanges, WorkItem
from helmr_runtime.rpc.frames import FrameKind, encode

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Listed:
    """A work list, and its sessions by number."""

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.work = WorkList(self.heads, TokenIndex())
        self.there: set[str] = set()
        self._ids: list[str] = []

    def add(self, *numbers: int) -> None:
        """Their runs can go on."""
        for number in numbers:
            while len(self._ids) <= number:
                session_id = new_id(SESSION)
                self._ids.append(session_id)
                queued_at = NOW + timedelta(seconds=len(self._ids))
                self.heads[session_id] = Head(session_id=session_id, queued_at=queued_at)
            self.there.add(self._ids[number])
            self.work.set_ready(self.heads[self._ids[number]], is_ready=True)

    def take(self, *numbers: int) -> None:
        """Somebody has taken their runs up."""
        for number in numbers:
            self.there.discard(self._ids[number])
            self.work.set_ready(self.heads[self._ids[number]], is_ready=False)

    def numbers(self, keys: Sequence[str]) -> list[int]:
        return [self._ids.index(key) for key in keys]

    def added(self, changes: WorkChanges) -> list[int]:
        return self.numbers([item.key for item in changes.added])


@pytest.fixture
def listed() -> Listed:
    return Listed()


def test_who_knows_nothing_is_told_all(listed: Listed) -> None:
    listed.add(0, 1, 2)
    listed.take(1)
    changes = listed.work.since(FROM_START)
    assert (listed.added(changes), changes.gone, changes.is_whole) == ([0, 2], (), True)


def test_then_only_what_has_changed_is_told(listed: Listed) -> None:
    listed.add(*range(5))
    known = listed.work.since(FROM_START).position
    assert not listed.work.has_news(known)
    listed.take(0, 3)
    assert not listed.work.has_news(known)  # nobody waits for what has left the list
    listed.add(7, 3)
    assert listed.work.has_news(known)
    changes = listed.work.since(known)
    assert listed.added(changes) == [3, 7]  # oldest first
    assert listed.numbers(changes.gone) == [0]
    assert not changes.is_whole
    again = listed.work.since(changes.position)
    assert (again.added, again.gone) == ((), ())


def test_adding_to_a_long_list_costs_as_much_as_adding_to_an_empty_one(listed: Listed) -> None:
    """What crosses to the directory, counted in items and bytes."""
    sizes = []
    for count in (0, 500, 5000):
        listed.add(*range(count))
        known = listed.work.since(FROM_START).position
        while (more := listed.work.since(known)).has_more:
            known = more.position
        listed.add(count)
        changes = listed.work.since(more.position)
        assert len(changes.added) == 1
        sizes.append(len(encode(FrameKind.ANSWER, 1, 1, changes)))
        listed.take(count)
    assert max(sizes) - min(sizes) < 20
    assert max(sizes) < 400


def test_a_long_list_is_told_in_pieces(listed: Listed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_list, "WORK_ITEMS_MAX", 3)
    listed.add(*range(7))
    first = listed.work.since(FROM_START)
    assert (listed.added(first), first.has_more) == ([0, 1, 2], True)
    listed.take(1, 4)
    second = listed.work.since(first.position)
    assert (listed.added(second), listed.numbers(second.gone)) == ([3, 5, 6], [1, 4])
    assert (second.is_whole, second.has_more) == (False, False)


def test_who_knows_what_is_forgotten_is_told_all(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_list, "GONE_MAX", 3)
    listed.add(*range(6))
    known = listed.work.since(FROM_START).position
    listed.take(0, 1, 2)
    assert not listed.work.since(known).is_whole
    listed.take(3)
    changes = listed.work.since(known)
    assert (listed.added(changes), changes.gone, changes.is_whole) == ([4, 5], (), True)


def test_who_knows_a_later_version_is_told_all(listed: Listed) -> None:
    """It had it of a ledger that has ended."""
    listed.add(0)
    assert listed.work.has_news((1000, 1000))
    assert listed.work.since((1000, 1000)).is_whole


def test_following_the_changes_gives_the_list(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_list, "WORK_ITEMS_MAX", 4)
    monkeypatch.setattr(work_list, "GONE_MAX", 5)
    known, seen = FROM_START, dict[str, WorkItem]()
    state = 1
    listed.add(31)
    for _ in range(2000):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF  # any order, the same each time
        (listed.add if state >> 16 & 1 else listed.take)(0)
        listed.add(state >> 8 & 31)
        listed.take(state >> 20 & 31)
        if state >> 12 & 3:
            continue
        while True:
            changes = listed.work.since(known)
            known = changes.position
            seen = {} if changes.is_whole else seen
            for key in changes.gone:
                seen.pop(key, None)
            seen |= {item.key: item for item in changes.added}
            if not changes.has_more:
                break
        assert set(seen) == listed.there


def test_the_work_of_a_child_names_the_session_that_it_descends_from() -> None:
    tokens = TokenIndex()
    top, child, grandchild = (new_id(SESSION) for _ in range(3))
    for one, parent in ((child, top), (grandchild, child)):
        tokens.admit(
            TokenHead(
                id=one,
                session_id=one,
                created_offset=1,
                created_at=NOW,
                expires_at=NOW,
                callback_hash="",
                parent=Parent(session_id=parent, run_id="run_1", op=1, attempt=1, leaves=False),
            )
        )
    heads = {one: Head(session_id=one, queued_at=NOW) for one in (top, child, grandchild)}
    work = WorkList(heads, tokens)
    for head in heads.values():
        work.set_ready(head, is_ready=True)
    found = {item.session_id: item.family for item in work.since(FROM_START).added}
    assert found == {top: None, child: top, grandchild: top}
