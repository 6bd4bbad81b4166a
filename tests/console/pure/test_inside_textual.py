"""What the console reads inside Textual still means what it takes it for."""

from __future__ import annotations

import asyncio

from textual.app import App, ComposeResult
from textual.message import Message
from textual.widgets import Static

from helmr_console.inside_textual import forget_drawn, is_idle, is_over, is_to_call


class Slow(Static):
    """A part that is busy with one message for as long as the test wants."""

    class Work(Message):
        """Something to do."""

    def __init__(self) -> None:
        super().__init__("text")
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.handled = 0

    async def on_slow_work(self) -> None:
        self.begun.set()
        await self.goes_on.wait()
        self.handled += 1


class Bare(App[None]):
    def compose(self) -> ComposeResult:
        yield Slow()


async def settled(part: Slow) -> None:
    async with asyncio.timeout(10):
        while not is_idle(part):
            await asyncio.sleep(0)


async def test_a_part_is_idle_when_it_has_handled_all_that_it_was_given() -> None:
    async with Bare().run_test() as pilot:
        part = pilot.app.query_one(Slow)
        await settled(part)
        part.post_message(Slow.Work())
        part.post_message(Slow.Work())
        assert not is_idle(part), "two messages lie in its queue"
        await part.begun.wait()
        assert not is_idle(part), "one is in its hands"
        part.goes_on.set()
        await settled(part)
        assert part.handled == 2, "it says that it is idle when both were handled and not before"
        assert not is_over(part)
        await part.remove()
        assert is_over(part)
        assert is_idle(part), "it handles nothing more"


async def test_a_screen_has_calls_to_make_until_it_was_drawn() -> None:
    async with Bare().run_test() as pilot:
        await pilot.pause()
        called = asyncio.Event()
        screen = pilot.app.screen
        screen.refresh()  # it is to be drawn first
        screen.call_after_refresh(called.set)
        seen = False
        async with asyncio.timeout(10):
            while not called.is_set():
                seen |= is_to_call(screen)
                await asyncio.sleep(0)
        assert seen, "it said so before it made the call"
        assert not is_to_call(screen)


async def test_what_a_part_has_drawn_can_be_given_up() -> None:
    async with Bare().run_test() as pilot:
        await pilot.pause()
        part = pilot.app.query_one(Slow)
        kept = part._styles_cache._cache
        assert kept, "it keeps the lines that it has drawn"
        forget_drawn(part)
        assert not kept
