"""Answers on their way out: none leaves before its time, the last one can be taken back until then."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helmr.person.review.sending import PendingSends


def test_an_answer_leaves_when_its_time_has_passed_and_not_before() -> None:
    held: PendingSends[str] = PendingSends(5.0)
    held.hold("a", 10.0)
    held.hold("b", 12.0)
    assert (held.leaves_in_s(12.0), held.left_s(12.0)) == (3.0, 5.0)
    assert held.take_due(14.9) is None
    assert (held.take_due(15.0), held.take_due(15.0)) == ("a", None)
    assert held.take_due(20.0) == "b"
    assert (held.leaves_in_s(20.0), held.left_s(20.0), len(held)) == (None, None, 0)


def test_the_last_one_is_taken_back_first_and_never_leaves() -> None:
    held: PendingSends[str] = PendingSends(5.0)
    held.hold("a", 0.0)
    held.hold("b", 1.0)
    assert held.take_back() == "b"
    assert [held.take_due(99.0), held.take_due(99.0)] == ["a", None]
    assert held.take_back() is None


def test_nothing_is_held_for_no_time_and_what_is_let_go_leaves_now() -> None:
    now: PendingSends[str] = PendingSends(0.0)
    now.hold("a", 3.0)
    assert now.take_due(3.0) == "a"
    held: PendingSends[str] = PendingSends(5.0)
    held.hold("a", 0.0)
    held.hold("b", 0.0)
    held.let_go()
    assert [held.take_due(0.0), held.take_due(0.0)] == ["a", "b"]


@given(st.lists(st.tuples(st.sampled_from(["hold", "back", "due"]), st.floats(0, 3)), max_size=60))
def test_each_leaves_once_or_is_taken_back_once_in_order(acts: list[tuple[str, float]]) -> None:
    held: PendingSends[int] = PendingSends(2.0)
    now_s, count, ended, sent, at = 0.0, 0, [], [], {}
    for act, later_s in acts:
        now_s += later_s
        if act == "hold":
            held.hold(count, now_s)
            at[count] = now_s
            count += 1
        elif act == "back":
            taken = held.take_back()
            ended += [] if taken is None else [taken]
        while act == "due" and (due := held.take_due(now_s)) is not None:
            assert now_s >= at[due] + 2.0
            sent.append(due)
    held.let_go()
    while (due := held.take_due(now_s)) is not None:
        sent.append(due)
    assert sorted(ended + sent) == [*range(count)]
    assert sent == sorted(sent)
