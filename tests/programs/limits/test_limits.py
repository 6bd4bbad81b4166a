"""What counts calls counts them right, and a short run of it over crashes uses no permit too many."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.programs.limits.__main__ import Plan, Seen, run
from tests.programs.limits.beside import Arrived, Asked, arrived
from tests.programs.limits.counting import Call, Provider, most_at_once, most_within
from tests.programs.limits.tenants import Tenants, TenantsRun, Times, is_fair, shares


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


def test_each_tenant_is_counted_in_whole_slices_until_the_last_of_the_small_one() -> None:
    small = [Call(f"small {n}", at_s, at_s) for n, at_s in enumerate((1.0, 3.0, 11.0, 19.0, 25.0))]
    large = [Call(f"large {n}", at_s, at_s) for n, at_s in enumerate((0.5, 2.0, 4.0, 12.0, 40.0))]
    assert shares([*large, *small], 1.0) == [(2, 2), (2, 1)]
    assert shares(large, 1.0) == []
    assert is_fair([(2, 2), (3, 2)])
    assert not is_fair([(2, 2), (3, 1)])
    assert not is_fair([(2, 2), (0, 0)])
    assert not is_fair([])


def test_a_small_tenant_that_took_three_times_as_long_was_kept_waiting() -> None:
    assert Times(alone_s=1.0, beside_s=2.5, begun_before=9).is_fine()
    assert not Times(alone_s=1.0, beside_s=3.0, begun_before=9).is_fine()


@pytest.mark.allows_blocking
def test_what_a_provider_saw_is_told_by_its_own_clock() -> None:
    provider = Provider(hold_s=0.0)
    provider.calls = [Call("a", 0.0, 1.0), Call("b", 0.5, 1.5), Call("c", 10.0, 11.0)]
    provider.stop()
    asked = Asked(sessions=3, at_once=2, per=2, within_s=10.0)
    seen = Arrived(at_once=2, within=2, calls=3, seconds=11.0, share=1.0)
    assert arrived(provider, asked) == seen


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.allows_blocking
def test_a_small_tenant_is_done_in_the_middle_of_a_large_one(tmp_path: Path) -> None:
    plan = Tenants(large=60, small=4, at_once=2, hold_s=0.3, in_process=True)
    run = TenantsRun(plan, tmp_path)
    times = run.times()
    assert times.begun_before < plan.large / 2, "too late to tell"
    large = sum(one.name.startswith("large") for one in run.provider.calls)
    assert large - times.begun_before <= 3 * plan.small, "the small one had fewer turns than it has"


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.allows_blocking
def test_two_tenants_begin_as_many_in_a_time(tmp_path: Path) -> None:
    plan = Tenants(large=60, small=20, at_once=4, per=20, within_s=4.0, hold_s=0.0, in_process=True)
    run = TenantsRun(plan, tmp_path)
    run.begun()
    small = [one.began_s for one in run.provider.calls if one.name.startswith("small")]
    assert is_fair(shares(run.provider.calls, min(small), 2.0))


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
