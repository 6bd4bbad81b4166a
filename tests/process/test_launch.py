"""A start that has to wait says for what."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helmr.errors import Conflict, NotReady, StoreUnavailable, Unavailable
from helmr_runtime.launchers import runtime
from helmr_runtime.launchers.runtime import Launch
from helmr_runtime.rpc.calls import DIRECTORY, GATEWAY, LEDGER
from helmr_runtime.rpc.calls import Calls as AnyCalls


class Calls:
    """Actors that are not ready a few times."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def call(self, *_: Any) -> None:
        """Raise what is left to raise."""
        if self._errors:
            raise self._errors.pop(0)


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([NotReady("it starts")], []),
        ([StoreUnavailable("x.duckdb can't be opened: no")] * 3, ["x.duckdb can't be opened: no"]),
        (
            [StoreUnavailable("no room", hint="Make room.")] * 3,
            ["no room", "hint: Make room. The start waits for that."],
        ),
    ],
)
async def test_the_person_hears_once_of_a_file_that_can_not_be_opened(
    errors: list[Exception], said: list[str]
) -> None:
    heard: list[str] = []
    calls = cast("AnyCalls", Calls(*errors))
    launch = Launch(cast("Any", None), cast("Any", None), calls, on_up=print, say=heard.append)
    await launch._build_others()
    assert heard == said


async def test_gateway_and_directory_are_built_while_the_ledger_is_still_opening() -> None:
    """One after the other: with the ledger they are as many as there are processors."""
    heard: list[str] = []
    built: list[str] = []
    opened = asyncio.Event()

    class Opening:
        """A ledger that opens once the others are there."""

        async def call(self, actor: str, method: str, *_: Any) -> Any:
            if method == "write_catalog":
                await opened.wait()
            if method == "build":
                await asyncio.sleep(0)
                built.append(actor)
            if len(built) == 2:
                opened.set()
            hosts = {"total": 1, "starting": 0}
            return {"hosts": hosts, "ready": True, "queue": 0, "warnings": []}

    spec = cast("Any", SimpleNamespace(hosts=1, sessions_per_host=1, ensured=None))
    catalog = cast("Any", SimpleNamespace(model_dump=lambda **_: {}))
    calls = cast("AnyCalls", Opening())
    launch = Launch(spec, catalog, calls, on_up=heard.append, say=lambda _: None)
    async with asyncio.timeout(5):
        await launch.until_ready()
    assert built == [GATEWAY, DIRECTORY]
    assert heard == [LEDGER, DIRECTORY, GATEWAY]


async def test_a_gateway_that_can_not_be_built_ends_the_start() -> None:
    class Refusing:
        async def call(self, actor: str, *_: Any) -> Any:
            if actor == GATEWAY:
                raise Conflict("something listens there")
            return {"hosts": {"total": 1, "starting": 0}, "ready": True, "queue": 0, "warnings": []}

    catalog = cast("Any", SimpleNamespace(model_dump=lambda **_: {}))
    calls = cast("AnyCalls", Refusing())
    spec = cast("Any", SimpleNamespace(hosts=1, sessions_per_host=1, ensured=None))
    with pytest.raises(Conflict):
        await Launch(spec, catalog, calls, on_up=lambda _: None, say=lambda _: None).until_ready()


class Carrying:
    """A ledger that is carried over: done after so many answers, of which every one says more, or the same."""

    def __init__(self, answers: int, by: int) -> None:
        self.left, self._by, self._done = answers, by, 0

    async def call(self, actor: str, method: str, *_: Any) -> Any:
        """Not ready, or the catalog is written."""
        if method == "write_catalog" and self.left:
            self.left -= 1
            self._done += self._by
            facts: Any = {"entries_done": self._done, "entries": 100}
            raise NotReady(f"{self._done} of 100", retry_after_s=0.05, **facts)
        return {"hosts": {"total": 1, "starting": 0}, "ready": True, "queue": 0, "warnings": []}


def launch_over(calls: Any, heard: list[str]) -> Launch:
    spec = cast("Any", SimpleNamespace(hosts=1, sessions_per_host=1, ensured=None, logs_dir="logs"))
    catalog = cast("Any", SimpleNamespace(model_dump=lambda **_: {}))
    return Launch(spec, catalog, calls, on_up=lambda _: None, say=heard.append)


async def test_a_start_takes_as_long_as_its_ledger_gets_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "START_WITHIN_S", 0.5)
    heard: list[str] = []
    states: list[str] = []
    monkeypatch.setattr(runtime, "tell_manager", states.append)
    began_s = asyncio.get_running_loop().time()
    await launch_over(Carrying(30, by=1), heard).until_ready()
    assert asyncio.get_running_loop().time() - began_s > 3 * runtime.START_WITHIN_S
    assert heard[:2] == ["1 of 100", "the ledger is open"], "once in ten seconds"
    assert states == ["EXTEND_TIMEOUT_USEC=500000"] * 30


@pytest.mark.parametrize("first", [0, 7])
async def test_a_ledger_that_gets_no_further_is_given_up(
    monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(runtime, "START_WITHIN_S", 0.3)
    calls = Carrying(10_000, by=0)
    calls._done = first
    with pytest.raises(Unavailable, match=rf"was not ready within 0 s: {first} of 100"):
        async with asyncio.timeout(20):
            await launch_over(calls, []).until_ready()
    assert calls.left > 9_000
