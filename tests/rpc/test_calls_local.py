"""Calls between actors: values cross as between processes, and a lost actor is told from its error."""

from __future__ import annotations

import asyncio

import pytest

from helmr.errors import HelmrError, Unavailable, WaitResolved
from helmr_runtime.ports import Crash
from helmr_runtime.rpc.calls import (
    ActorDied,
    ActorNotFound,
    CallError,
    CallFailure,
    is_of_runtime,
    kind_of,
    serve,
)
from tests.rpc.local_calls import LocalCalls


class Echo:
    """An actor that returns, fails, or waits."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.entered = asyncio.Event()

    async def echo(self, value: object, *, twice: bool = False) -> object:
        self.seen.append(value)
        return [value, value] if twice else value

    async def refuse(self) -> None:
        raise WaitResolved("wait_1 is over", hint="Look again.", by="ada")

    async def stumble(self) -> None:
        raise ZeroDivisionError("secret free text")

    async def wait(self) -> None:
        self.entered.set()
        await asyncio.Event().wait()

    async def lose(self) -> None:
        raise ActorDied(actor="helmr-ledger", method="commit", cause="killed")

    async def _hidden(self) -> None:
        raise AssertionError


@pytest.fixture
def calls() -> LocalCalls:
    calls = LocalCalls()
    calls.register("helmr-host-a", Echo())
    return calls


async def test_arguments_and_answers_are_copies(calls: LocalCalls) -> None:
    value = {"a": [1]}
    answer = await calls.call("helmr-host-a", "echo", value, twice=True)
    assert answer == [value, value]
    assert answer[0] is not value


async def test_our_frozen_values_cross(calls: LocalCalls) -> None:
    crash = Crash(cause="signal 9", executing=True, op=3)
    assert await calls.call("helmr-host-a", "echo", crash) == crash


async def test_an_error_crosses_with_its_facts(calls: LocalCalls) -> None:
    with pytest.raises(WaitResolved) as caught:
        await calls.call("helmr-host-a", "refuse")
    assert caught.value.facts == {"by": "ada"}
    assert caught.value.hint == "Look again."


async def test_a_bug_is_an_internal_error_and_the_actor_goes_on(
    calls: LocalCalls, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HelmrError) as caught:
        await calls.call("helmr-host-a", "stumble")
    assert caught.value.code == "internal"
    assert "ZeroDivisionError" in caplog.text
    assert await calls.call("helmr-host-a", "echo", 1) == 1


async def test_losing_the_called_actor_fails_pending_and_later_calls(calls: LocalCalls) -> None:
    echo = Echo()
    calls.register("helmr-host-b", echo)
    pending = asyncio.create_task(calls.call("helmr-host-b", "wait"))
    await echo.entered.wait()
    calls.kill("helmr-host-b", "signal 9")
    with pytest.raises(ActorDied) as caught:
        await pending
    assert caught.value.cause == "signal 9"
    with pytest.raises(ActorDied):
        await calls.call("helmr-host-b", "echo", 1)


async def test_an_actor_that_lost_another_is_not_lost_itself(calls: LocalCalls) -> None:
    with pytest.raises(Unavailable) as caught:
        await calls.call("helmr-host-a", "lose")
    assert not isinstance(caught.value, CallError)
    assert caught.value.facts["actor"] == "helmr-ledger"


async def test_an_unknown_name_says_that_nothing_ran(calls: LocalCalls) -> None:
    with pytest.raises(ActorNotFound):
        await calls.call("helmr-host-z", "echo", 1)


async def test_private_methods_are_not_called(calls: LocalCalls) -> None:
    with pytest.raises(HelmrError, match="not a method"):
        await calls.call("helmr-host-a", "_hidden")


async def test_a_stopped_actor_answers_nothing_until_it_goes_on(calls: LocalCalls) -> None:
    calls.stop("helmr-host-a")
    pending = asyncio.create_task(calls.call("helmr-host-a", "echo", 1))
    done, _ = await asyncio.wait({pending}, timeout=0.02)
    assert not done
    calls.resume("helmr-host-a")
    assert await pending == 1


async def test_calls_are_counted_by_kind_of_actor(calls: LocalCalls) -> None:
    await calls.call("helmr-host-a", "echo", 1)
    await calls.call("helmr-host-a", "echo", 2)
    assert calls.counter == {("host", "echo"): 2}
    assert [kind_of(n) for n in ("helmr-ledger", "helmr-directory", "helmr-host-own-1")] == [
        "ledger",
        "directory",
        "host",
    ]


async def test_serve_returns_failures_as_values() -> None:
    failure = await serve(Echo(), "refuse", (), {})
    assert isinstance(failure, CallFailure)
    assert isinstance(failure.error(), WaitResolved)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("helmr-ledger", True),
        ("helmr-directory", True),
        ("helmr-gateway", True),
        ("helmr-host-01jq", True),
        ("helmr-host-own-01jq", True),
        ("trainer", False),
        ("helmr-ledger-of-somebody", False),
        ("my-helmr-host-1", False),
    ],
)
def test_a_runtime_that_leaves_a_cluster_knows_its_own_actors(name: str, is_ours: bool) -> None:
    assert is_of_runtime(name) is is_ours
