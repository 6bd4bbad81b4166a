"""One by one: what another is at is asked at the end, and what was not sent comes back."""

from __future__ import annotations

from collections.abc import Callable

from helmr.person.review.queue import ReviewQueue


def asked(round_: ReviewQueue, open_ids: set[str], count: int) -> list[str | None]:
    return [round_.next(open_ids) for _ in range(count)]


def test_what_another_is_at_is_left_out_and_asked_at_the_end() -> None:
    claimed = {"b", "c"}
    round_ = ReviewQueue(["a", "b", "c", "d"], is_claimed=claimed.__contains__)
    open_ids = {"a", "b", "c", "d"}
    assert asked(round_, open_ids, 2) == ["a", "d"]
    assert (round_.asked, round_.count) == (2, 4)
    claimed.remove("c")
    assert round_.coming(open_ids) == "c"
    assert asked(round_, open_ids, 3) == ["c", "b", None]


def test_two_at_one_inbox_turn_no_page_by_hand() -> None:
    """Each says at what they are; neither is shown what the other has in front, until nothing else is left."""
    waits = [f"w{number}" for number in range(16)]
    open_ids, at = set(waits), dict.fromkeys((0, 1), "")

    def claimed(who: int) -> Callable[[str], bool]:
        return lambda wait_id: at[1 - who] == wait_id

    rounds = [ReviewQueue(waits, is_claimed=claimed(who)) for who in (0, 1)]
    answered: list[str] = []
    turned = 0
    while open_ids:
        for who in (0, 1):
            wait_id = rounds[who].next(open_ids)
            turned += wait_id is not None and at[1 - who] == wait_id
            at[who] = wait_id or ""
        for who in (0, 1):
            if at[who]:
                answered.append(at[who])
                open_ids.discard(at[who])
    assert sorted(set(answered)) == sorted(waits)
    assert turned == 0


def test_what_was_not_sent_comes_back_behind_the_rest() -> None:
    returned: list[str] = []
    round_ = ReviewQueue(["a", "b", "c"], returned=lambda: returned)
    open_ids = {"a", "b", "c"}
    assert round_.next(open_ids) == "a"
    returned.append("a")
    assert asked(round_, open_ids, 2) == ["b", "c"]
    assert round_.next(open_ids) == "a"
    returned.clear()  # it was looked at
    assert round_.next(open_ids) is None


def test_what_is_over_is_passed_by_and_what_comes_is_asked_behind_the_rest() -> None:
    listed = ["a", "b"]
    round_ = ReviewQueue(["a", "b"], lambda: listed)
    listed.append("c")
    assert asked(round_, {"b", "c"}, 3) == ["b", "c", None]
    round_.again("b", "c")
    assert asked(round_, {"b", "c"}, 2) == ["b", "c"]
