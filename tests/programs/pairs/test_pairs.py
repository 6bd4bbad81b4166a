"""A short history of a pair over each store; `make pairs` takes long ones. And how its times are told."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.programs.histories import checker
from tests.programs.histories.history import Kind, Outcome
from tests.programs.histories.test_checker import call, log, send
from tests.programs.pairs.taking import NoStore, Plan, Taken, take
from tests.programs.pairs.times import (
    Happened,
    answered_ns,
    answers_per_s,
    by_kind,
    next_answer_s,
    said_by_kind,
)

S = 1_000_000_000
NEXT_ANSWER_MAX_S = 60.0
"""A hang guard: what is measured is on docs/high-availability.md."""


def taken(plan: Plan) -> Taken:
    """A history; Ray's sockets need a shorter path than pytest's folders have."""
    with tempfile.TemporaryDirectory(prefix="hp-") as folder:
        try:
            return take(Path(folder), plan)
        except NoStore as error:
            pytest.skip(f"{error} is not installed")


def as_promised(found: Taken, *kinds: str) -> None:
    """Nothing is lost, nothing is there twice, and each of these was done."""
    assert checker.check(found.calls) == []
    assert found.unfinished == 0
    counts = Counter(one.kind for one in found.happened)
    assert set(kinds) <= set(counts)
    answers_ns = answered_ns(found.calls)
    times = by_kind(found.happened, answers_ns)
    assert all(max(times[kind]) < NEXT_ANSWER_MAX_S for kind in kinds)


@pytest.mark.long
@pytest.mark.allows_blocking
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["postgres", "seaweed"])
def test_a_pair_keeps_its_promises_whatever_its_primary_and_its_store_suffer(store: str) -> None:
    found = taken(Plan(store=store, takeovers=7, seconds=600, pause_s=15.0, sessions=12))
    as_promised(found, "kill", "down", "pause", "cut", "takeover", "store")
    assert set(said_by_kind(found.happened)) == {"cut", "takeover"}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.allows_blocking
@pytest.mark.timeout(900)
def test_a_pair_on_ray_keeps_its_promises() -> None:
    plan = Plan(
        store="folder", takeovers=3, seconds=600, pause_s=15.0, sessions=12, in_process=False,
        calls_per_s=30.0, kinds=frozenset({"kill", "down", "pause"}),
    )  # fmt: skip
    as_promised(taken(plan), "kill", "down", "pause")


# --- how times are told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers_s", "seen_s", "took_s"),
    [
        ([0.5, 1.5, 9.0, 9.1, 9.2], 8.9, 8.0),  # nothing until the next one
        ([0.5, 1.1, 1.3, 3.0, 3.1, 9.0], 3.0, 2.0),  # one that is ending has answered until then
        ([0.5, 1.0], 2.0, None),
    ],
)
def test_the_next_answer_ends_the_longest_silence_that_a_fault_began(
    answers_s: list[float], seen_s: float, took_s: float | None
) -> None:
    answers_ns = [round(one * S) for one in answers_s]
    assert next_answer_s(Happened("kill", S, round(seen_s * S)), answers_ns) == took_s


def test_times_are_told_by_kind_and_an_answer_is_one_that_was_acknowledged() -> None:
    calls = [
        send(1, 0, 3 * S, 1), send(2, 0, 4 * S, None), log(0, 5 * S, (1, None)),
        call(Kind.CREATE, "session", 0, 6 * S, {"id": "s"}, operation="op"),
        call(Kind.VOTE, "wait", 0, 7 * S, {}, operation="v", outcome=Outcome.REFUSED),
        send(3, 0, 9 * S, 2),
    ]  # fmt: skip
    answers_ns = answered_ns(calls)
    assert answers_ns == [3 * S, 9 * S]
    happened = [
        Happened("kill", 4 * S, 8 * S), Happened("kill", S, 2 * S), Happened("down", 9 * S, 9 * S + 1)
    ]  # fmt: skip
    assert by_kind(happened, answers_ns) == {"kill": [2.0, 5.0]}


def test_it_is_told_when_something_was_said() -> None:
    happened = [
        Happened("cut", S, 8 * S, said_ns=6 * S),
        Happened("cut", S, 8 * S, said_ns=3 * S),
        Happened("kill", S, 2 * S),
    ]
    assert said_by_kind(happened) == {"cut": [2.0, 5.0]}


def test_outages_are_left_out_of_how_many_answers_there_were_in_a_second() -> None:
    assert answers_per_s([0, S // 2, S, 9 * S, 9 * S + S // 2]) == 2.0
    assert answers_per_s([S]) == 0.0
