"""A key that confirms counts once; its repeats while it is held down are nothing, read in time or late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helmr.person.review.sending import REPEAT_S, REPEATS_WITHIN_S, ConfirmPress, HeldKey

EVERY_S = 0.033
LATE_S = 30.0


def read(held: HeldKey, *at_s: float, key: str = "ctrl+s") -> list[ConfirmPress | None]:
    return [held.reads(key, one, confirms=key == "ctrl+s") for one in at_s]


def test_a_press_after_another_key_is_no_repeat() -> None:
    held = HeldKey()
    assert read(held, 1.0) == [ConfirmPress(1.0)]
    assert read(held, 1.02, key="j") == [ConfirmPress(1.02)]
    assert read(held, 1.05) == [ConfirmPress(1.05)], "however soon"


def test_a_key_is_up_when_nothing_is_unread_after_the_time_in_which_it_would_repeat() -> None:
    held = HeldKey()
    read(held, 1.0)
    assert held.looks_at_s == 1.0 + REPEATS_WITHIN_S
    held.quiet(1.0 + REPEATS_WITHIN_S / 2)
    assert held.looks_at_s is not None, "it may be down"
    held.quiet(2.0)
    assert held.looks_at_s is None
    assert read(held, 2.0) == [ConfirmPress(2.0, is_again=True)]


def test_that_much_time_has_passed_does_not_tell_that_the_key_came_up() -> None:
    """Nothing looked: this machine was busy, and what it reads now may have been typed at any time since."""
    held = HeldKey()
    read(held, 1.0)
    assert read(held, 1.0 + LATE_S) == [
        ConfirmPress(1.0 + LATE_S, is_again=True, may_be_repeat=True)
    ]


def test_what_was_read_before_the_look_is_in_doubt() -> None:
    """Its turn comes later than the look, which tells nothing of it."""
    held = HeldKey()
    read(held, 1.0)
    held.quiet(3.0)
    (press,) = read(held, 2.9)
    assert press is not None
    assert press.may_be_repeat


def test_whether_a_press_was_held_is_told_by_repeats_that_follow_it() -> None:
    held = HeldKey()
    read(held, 1.0)
    held.quiet(2.0)
    (press,) = read(held, 5.0)
    assert press is not None
    assert not held.was_held(press)
    assert read(held, 5.0 + EVERY_S) == [None]
    assert held.was_held(press)


@given(
    first_s=st.floats(EVERY_S, REPEATS_WITHIN_S - 0.01),
    count=st.integers(1, 30),
    stall=st.tuples(st.floats(0, 2), st.floats(0, 3)),
    looks_every_s=st.floats(0.01, 0.3),
)
def test_a_machine_that_stands_still_takes_no_repeat_for_a_press_beyond_doubt(
    first_s: float, count: int, stall: tuple[float, float], looks_every_s: float
) -> None:
    """Keys are typed as a terminal repeats them; while the machine stands still it neither reads nor looks."""
    begins_s, ends_s = 1.0 + stall[0], 1.0 + stall[0] + stall[1]

    def done_s(at_s: float) -> float:
        return ends_s if begins_s <= at_s < ends_s else at_s

    typed = [1.0, *(1.0 + first_s + n * EVERY_S for n in range(count))]
    held, presses = HeldKey(), []
    reads = [(done_s(at_s), n, at_s) for n, at_s in enumerate(typed)]
    looks = [(1.0 + n * looks_every_s, len(typed)) for n in range(round(6 / looks_every_s))]
    for at_s, number, *_ in sorted([*reads, *((done_s(at_s), n) for at_s, n in looks)]):
        if number < len(typed):
            presses.append(held.reads("ctrl+s", at_s, confirms=True))
        elif held.looks_at_s is not None and at_s >= held.looks_at_s:
            held.quiet(at_s)
    anew = [one for one in presses[1:] if one is not None]
    assert all(one.may_be_repeat for one in anew)
    assert REPEAT_S > EVERY_S
