"""Steps in classes bind as functions do, and replay with the object that the code has made again (S-32)."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from helmr import step, streams, task
from helmr.errors import BadDefinition
from helmr.testing import Harness

made: list[str] = []
yes = streams.input("yes", schema=bool)


class Service:
    """Has steps of every kind."""

    def __init__(self, name: str) -> None:
        self.name = name

    @step
    async def charge(self, amount: int, *, note: str = "") -> str:
        made.append(self.name)
        return f"{self.name} {amount} {note}"

    @step(retries=1, backoff=0)
    def refund(self, amount: int) -> int:
        return -amount

    @staticmethod
    @step
    async def check(amount: int) -> int:
        return amount

    @classmethod
    @step
    async def open(cls, name: str) -> str:
        return f"{cls.__name__} {name}"


class Shop(Service):
    """Inherits them."""


@task(id="charges")
async def charges(name: str) -> list[Any]:
    """Calls them through objects and classes."""
    service = Shop(name)
    # Type checkers see one descriptor at a time: not the step below another one.
    untyped: Any = service
    untyped_class: Any = Service
    first = await service.charge(3, note="x")
    await yes.wait(subject="Go on?")
    return [
        first,
        await Service.charge(service, 4),
        await service.refund(5),
        await untyped.check(6),
        await Service.check(7),
        await untyped.open("a"),
        await untyped_class.open("b"),
    ]


async def test_methods_are_steps_with_their_object() -> None:
    made.clear()
    async with Harness(charges, replay_always=True) as harness:
        session = await harness.start(charges, "ada")
        await session.park()
        await session.send("yes", True)
        assert await session.result() == [
            *("ada 3 x", "ada 4 ", -5, 6, 7),
            *("Shop a", "Service b"),
        ]
        started = [e.body for e in await session.transcript() if e.kind == "step.started"]
    assert made == ["ada", "ada"], "once each, however often it was replayed"
    assert [one["name"] for one in started][:3] == ["charge", "charge", "refund"]
    recorded = [{**one, "step_key": ""} for one in started]  # hexadecimal digits may spell it
    assert not any("ada" in str(one) for one in recorded), "the object is not recorded"


async def test_outside_a_run_they_just_run() -> None:
    assert await Service("bob").charge(1) == "bob 1 "
    assert await Service("bob").refund(1) == -1
    untyped: Any = Service
    assert await untyped.open("c") == "Service c"


def test_a_bound_step_is_like_a_bound_method() -> None:
    service = Service("ada")
    assert Service.charge.name == service.charge.name == "charge"
    assert list(inspect.signature(service.charge).parameters) == ["amount", "note"]
    assert list(inspect.signature(Service.charge).parameters) == ["self", "amount", "note"]
    assert service.refund.codec is Service.refund.codec


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_a_step_around_a_static_or_class_method_is_refused(kind: Any) -> None:
    with pytest.raises(BadDefinition, match=f"around a {kind.__name__}") as refused:
        step(kind(lambda: None))
    assert refused.value.hint == f"Write @{kind.__name__} above @step."
