"""What the System area opens: limits, notice targets that are tried again."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from helmr import Limit
from tests.console.flow import tasks
from tests.console.flow.bench import Bench, benched
from tests.console.flow.test_goldens import SIZES, look
from tests.notices.receivers import Endpoint, endpoint
from tests.service.stack import Stack
from tests.service.test_notices import Told, webhook


@pytest.fixture
def hook() -> Iterator[Endpoint]:
    with endpoint() as one:
        yield one


@pytest.fixture
async def told(
    tmp_path: Path, hook: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """As `bench`, in a runtime with a notice target."""

    def made(folder: Path) -> Told:
        stack = Told(folder, registry=tasks.REGISTRY)
        stack.with_targets(oncall=webhook(hook))
        return stack

    async with benched(made, tmp_path, monkeypatch) as found:
        assert isinstance(found.stack, Told)
        await found.stack.begun()
        yield found


@pytest.mark.long
async def test_each_limit_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(folder: Path) -> Stack:
        stack = Stack(folder, registry=tasks.REGISTRY)
        stack.bounds = {"openai": Limit("openai", at_once=2)}
        return stack

    async with benched(made, tmp_path, monkeypatch) as bench:
        await bench.open(size=(120, 36))
        await bench.press("4")
        await bench.sees("openai  0 of 2 in use")


@pytest.mark.long
async def test_a_target_that_fails_is_tried_again(told: Bench, hook: Endpoint) -> None:
    hook.down()
    await told.ask("talk", subject="Hello?")
    await told.open()
    await told.press("4")
    await told.sees("1, 1 failing")
    await told.press("n")
    screen = await told.on("NoticesScreen")
    await told.until(lambda: screen.list.keys == ["oncall"])
    await told.sees("takes nothing")
    for said in (
        "queued      1, in order",
        "failing     since 2026-11-24",
        "events      wait.opened",
    ):
        assert said in told.text(), said
    hook.up()
    await told.press("R")
    await told.sees("try now the 1 event that oncall has not taken")
    assert hook.posts == []
    await told.press("ctrl+s")
    await told.on("NoticesScreen")
    await told.until(lambda: hook.posts)
    await told.press("r")
    await told.sees("takes notices")
    assert len(hook.posts) == 1


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="goldens are of Python 3.11")
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_screens(told: Bench, hook: Endpoint, size: tuple[int, int]) -> None:
    hook.down()
    await told.ask("talk", subject="Hello?")
    await told.open(size=size, name="prod-eu")
    await told.press("4", "n")
    await told.on("NoticesScreen")
    await told.sees("takes nothing")
    await look(told, f"notices-{size[0]}x{size[1]}")
