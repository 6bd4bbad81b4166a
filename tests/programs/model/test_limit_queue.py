"""Permits against their naive model, over random sequences of what hosts say."""

from __future__ import annotations

from collections import Counter
from itertools import count
from random import Random

import pytest

from helmr import Limit
from helmr_runtime.core.limits import Ask, Permits, TurnQueue
from tests.programs.model.limit_queue import LimitQueue

SEQUENCES = 150
SEQUENCES_LONG = 20_000
COMMANDS = 60
SECOND_MS = 1_000
LIMITS = (
    Limit("one", at_once=1),
    Limit("few", at_once=3),
    Limit("counted", per=5, within="2s"),
    Limit("both", at_once=2, per=100, within="10s"),
)


def play(seed: int, reached: Counter[str]) -> None:
    """One sequence through both."""
    random = Random(seed)
    limit = random.choice(LIMITS)
    permits = Permits(limit, 0.0)
    naive = LimitQueue(limit.at_once, limit.per, round(limit.within_s * SECOND_MS))
    names = count()
    left: list[str] = []
    for _ in range(COMMANDS):
        there = [*naive.held, *(one.ticket for one in naive.waiting)]
        ticket = random.choice(there) if there else "none"
        ready = [one.ticket for one in naive.waiting if one.is_ready]
        draw = random.random()
        if draw < 0.4:
            ticket, key, goes_on = f"t{next(names)}", random.choice("aab"), random.random() < 0.2
            permits.ask(Ask(ticket, key, goes_on))
            naive.ask(ticket, key, goes_on=goes_on)
        elif draw < 0.58:
            permits.withdraw(ticket)
            naive.end(ticket)
        elif draw < 0.66 and (ready or naive.held):
            ticket = random.choice([*ready, *naive.held])
            permits.leave(ticket)
            naive.leave(ticket)
            left += [ticket] if naive.asks(ticket) else []
        elif draw < 0.74 and any(naive.asks(one) for one in left):
            ticket = random.choice([one for one in left if naive.asks(one)])
            left.remove(ticket)
            again = f"t{next(names)}"
            permits.come_back(ticket, again)
            naive.come_back(ticket, again)
        elif draw < 0.77:
            ticket = f"t{next(names)}"
            permits.is_held(ticket)
            naive.is_held(ticket)
        elif draw < 0.8:
            until_ms = naive.now_ms + random.choice((10, SECOND_MS))
            permits.close(until_ms / SECOND_MS)
            naive.close(until_ms)
        else:
            naive.now_ms += random.choice((0, 1, 200, SECOND_MS, 20 * SECOND_MS))
        now_s = naive.now_ms / SECOND_MS
        given = permits.give(now_s)
        assert naive.give(len(given)) == given
        assert not naive.could_give or limit.per is not None
        if naive.could_give:
            reached["too many began"] += 1
            assert permits.next_s(now_s) is not None  # time alone will bring one
        reached.update({"given": len(given), "out of memory": len(left)})
        assert permits.places() == naive.places()
        assert set(permits.held) == set(naive.held)
        assert permits.counts() == Counter(one.key for one in naive.waiting)


def play_all(seeds: range) -> Counter[str]:
    """Many; what was reached."""
    reached: Counter[str] = Counter()
    for seed in seeds:
        play(seed, reached)
    return reached


def test_permits_go_as_the_contract_says() -> None:
    reached = play_all(range(SEQUENCES))
    assert all(reached[what] for what in ("given", "too many began", "out of memory"))


def test_a_key_that_is_next_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TurnQueue, "take", TurnQueue.remove)
    with pytest.raises(AssertionError):
        play_all(range(SEQUENCES))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_permits_do_so_for_long() -> None:
    reached = play_all(range(SEQUENCES, SEQUENCES + SEQUENCES_LONG))
    assert reached["given"] > SEQUENCES_LONG
