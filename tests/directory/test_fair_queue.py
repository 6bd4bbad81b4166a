"""Work goes round between families of sessions, and in the order of asking within each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from helmr_runtime.directory.work import FairQueue
from helmr_runtime.ports.ledger import WorkItem

AT = datetime(2026, 11, 28, tzinfo=UTC)


def item(session_id: str, family: str | None = None, at: int = 0) -> WorkItem:
    return WorkItem(
        kind="run", session_id=session_id, queued_at=AT + timedelta(seconds=at), family=family
    )


def taken(queue: FairQueue, count: int, at_once: int = 1) -> list[str]:
    """What comes if so many are looked at and taken at a time."""
    found: list[str] = []
    while len(found) < count and len(queue):
        for key in list(islice(queue, at_once)):
            queue.pop(key)
            found.append(key)
    return found[:count]


def test_sessions_that_no_task_started_come_in_the_order_of_asking() -> None:
    queue = FairQueue()
    for n in range(5):
        queue.add(item(f"s{n}"))
    assert list(queue) == ["s0", "s1", "s2", "s3", "s4"]
    assert taken(queue, 5) == ["s0", "s1", "s2", "s3", "s4"]


def test_who_comes_behind_four_thousand_children_waits_for_one_of_them() -> None:
    queue = FairQueue()
    for n in range(4_095):
        queue.add(item(f"child{n}", "tree"))
    taken(queue, 100)
    queue.add(item("other"))
    assert taken(queue, 2) in (["child100", "other"], ["other", "child100"])


def test_of_two_trees_each_gets_half_whatever_their_sizes() -> None:
    queue = FairQueue()
    for n in range(1_000):
        queue.add(item(f"a{n}", "a"))
    for n in range(50):
        queue.add(item(f"b{n}", "b"))
    found = taken(queue, 80, at_once=8)
    assert abs(sum(one.startswith("a") for one in found) - 40) <= 8
    of_a = [one for one in found if one.startswith("a")]
    assert of_a == [f"a{n}" for n in range(len(of_a))]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4), st.booleans()), max_size=80),
)
def test_it_holds_what_was_added_and_not_taken(
    steps: list[tuple[int, int, bool]],
) -> None:
    queue, held = FairQueue(), set[str]()
    for number, family, adds in steps:
        key = f"s{number}-{family}"
        if adds:
            queue.add(item(key, f"f{family}" if family else None, at=number))
            held.add(key)
        else:
            queue.pop(key)
            held.discard(key)
        assert set(queue) == held == {one.session_id for one in queue.items()}
        assert len(queue) == len(held)
    queue.sort()
    assert set(queue) == held
    times = [one.queued_at for one in queue.items()]
    assert times == sorted(times)
