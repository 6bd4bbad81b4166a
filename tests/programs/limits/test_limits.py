"""What counts calls counts them right, and a short run of it over crashes uses no permit too many."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.programs.limits.__main__ import Plan, Seen, run
from tests.programs.limits.counting import Call, Provider, most_at_once, most_within


def test_calls_that_meet_are_counted_and_those_that_follow_each_other_are_not() -> None:
    assert most_at_once([]) == 0
    assert most_at_once([Call("a", 0.0, 1.0), Call("b", 1.0, 2.0)]) == 1
    assert most_at_once([Call("a", 0.0, 1.5), Call("b", 1.0, 2.0), Call("c", 1.4, 9.0)]) == 3


def test_a_time_ends_before_its_last_moment() -> None:
    assert most_within([], 5.0) == 0
    assert most_within([0.0, 5.0, 10.0], 5.0) == 1
    assert most_within([4.0, 0.0, 4.9, 9.5], 5.0) == 3


def test_one_permit_too_many_is_not_fine() -> None:
    plan = Plan(sessions=9, at_once=8, per=200, within_s=60.0)
    fine = Seen(at_once=8, begun=200, arrived=200, calls=9, share=0.96)
    assert fine.is_fine(plan)
    ninth = Seen(at_once=9, begun=200, arrived=200, calls=9, share=0.96)
    assert not ninth.is_fine(plan)
    assert not Seen(at_once=8, begun=201, arrived=200, calls=9, share=0.96).is_fine(plan)


@pytest.mark.allows_blocking
def test_the_provider_answers_and_a_caller_that_dies_ends_its_call() -> None:
    provider = Provider(hold_s=30.0)
    try:
        with socket.create_connection(("127.0.0.1", provider.port), timeout=5) as dead:
            dead.sendall(b"dead\n")
        provider.hold_s = 0.0
        with socket.create_connection(("127.0.0.1", provider.port), timeout=5) as caller:
            caller.sendall(b"caller\n")
            assert caller.makefile().readline() == "caller\n"
    finally:
        provider.stop()
    assert "caller" in {one.name for one in provider.calls}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.allows_blocking
@pytest.mark.parametrize(
    ("kills", "in_process"),
    [
        pytest.param(("all",), True, id="all-of-it"),
        pytest.param(("host", "directory"), False, id="host-and-directory", marks=pytest.mark.ray),
    ],
)
def test_over_crashes_no_permit_too_many_is_used(
    tmp_path: Path, kills: tuple[str, ...], in_process: bool
) -> None:
    plan = Plan(
        sessions=60, at_once=4, per=20, within_s=3.0, hold_s=0.1, kills=kills, in_process=in_process
    )
    seen = run(plan, tmp_path)
    assert seen.is_fine(plan), seen
    assert seen.calls >= plan.sessions
