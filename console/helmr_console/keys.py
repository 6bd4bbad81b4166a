"""Keys one at a time: the next is taken when everything that the last one set off has happened.

Textual handles a key when it is read, but what the key does comes later, as messages: the focus moves, a field tells
its form, a screen opens. Of keys that come in one burst, as after a stall of the line or of this machine, the second
would meet the screen as it was before the first. So everything typed, pasted or clicked waits in one line here, and
the next is given only when

- no part of the screens has a message left, nor work to do after the next drawing, and
- no work is under way that decides where keys belong, such as the reading of a form (`hold`).

A key that confirms counts once however long it is held down (`confirming`): what its repeats would send was not read.
Textual's thread stamps a key when it takes it from the terminal, which says when it was typed only if that thread had
the processor. So nothing here trusts a stamp alone: `quiet_from` looks whether something typed is unread.

Nothing can lock the keyboard: esc, ^c and ^q leave the line when the last key takes over `STUCK_S`, and after
`SETTLES_WITHIN_S` what waits is left out, said, and not carried out late.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Input, TextArea
from textual.worker import Worker

from helmr.review.sending import REPEAT_S, ConfirmPress, HeldKey
from helmr_console.inside_textual import is_idle, is_to_call

INTERRUPTS = frozenset(("escape", "ctrl+c", "ctrl+q"))
"""Keys that end something: they need not wait for what hangs."""
STUCK_S = 1.0
SETTLES_WITHIN_S = 10.0
ROUNDS_MAX = 64
"""A round lets every part handle the messages it has; longer than any chain of messages that one key sets off, so
that a screen which other things always keep busy does not hold keys back."""
UNREAD_EVERY_S = 0.02
STAMPS_WITHIN_S = 0.01
"""Textual's thread has stamped by then what it had taken from the terminal."""
LOOK_EVERY_S = 0.25
"""A part that ends with messages left never says that it has handled them."""


class KeyLine:
    """The line in which keys wait.

    Args:
        app: Gets them, by its message queue.
        left_out: Called with how many were left out because the app did not come to rest.
    """

    def __init__(self, app: App[Any], *, left_out: Callable[[int], None]) -> None:
        self._app = app
        self._left_out = left_out
        self._line: deque[Message] = deque()
        self._given: Message | None = None
        self._turn: list[Message] = []
        """Given, and not yet with the app."""
        self.typed_s = 0.0
        """When the key that had the last turn was read, by the clock that goes only forward."""
        self._came = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._holding: set[Worker[None]] = set()
        self.confirming: frozenset[str] = frozenset()
        """Names of the keys that send something."""
        self.press = ConfirmPress(0.0)
        """The key that had the last turn, if it confirms."""
        self._presses: dict[Message, ConfirmPress] = {}
        """Keys in the line that confirm."""
        self.held = HeldKey()
        self._confirmed = asyncio.Event()
        """A key that confirms was read, a repeat too."""
        self._doubtful: Message | None = None
        """Such a key that may be the first repeat of one that is held down."""

    def takes(self, event: Message) -> bool:
        """Put an event into the line; False if it is none of the keyboard or mouse, or has had its turn."""
        if not isinstance(event, events.InputEvent | events.Paste) or event.is_forwarded:
            return False
        if event in self._turn:
            self._turn.remove(event)
            return False
        if isinstance(event, events.MouseMove) and not self._line:
            return False
        if isinstance(event, events.Key) and self._repeats(event):
            return True
        self._line.append(event)
        self._came.set()
        if _interrupts(event):
            self._interrupted.set()
        return True

    def _repeats(self, event: events.Key) -> bool:
        """Whether it is nothing: its key confirms and is held down. The one before it may have been a repeat, too."""
        confirms = event.key in self.confirming
        press = self.held.reads(event.key, event.time, confirms=confirms)
        if not confirms:
            return False
        self._confirmed.set()
        if press is not None:
            self._presses[event] = press
            self._doubtful = event if press.may_be_repeat else None
            return False
        if self._doubtful is not None and self._doubtful in self._line:
            self._presses.pop(self._doubtful, None)
            self._line.remove(self._doubtful)
        self._doubtful = None
        return True

    async def _watch(self) -> None:
        """Look when a key that confirms must have come up."""
        while True:
            await self._confirmed.wait()
            self._confirmed.clear()
            while (at_s := self.held.looks_at_s) is not None:
                self.held.quiet(await self.quiet_from(at_s))

    async def quiet_from(self, from_s: float) -> float:
        """Return the first moment, not before this one, by which all that was typed has been read."""
        await asyncio.sleep(from_s - monotonic())
        while self._is_unread():  # noqa: ASYNC110 - a terminal can only be looked at
            await asyncio.sleep(UNREAD_EVERY_S)
        await asyncio.sleep(STAMPS_WITHIN_S)
        quiet_s, taken = monotonic(), asyncio.Event()
        if self._app.call_later(taken.set):  # behind what was read by then
            await taken.wait()
        return quiet_s

    def _is_unread(self) -> bool:
        """Whether the terminal has something that Textual has not taken."""
        if self._app.is_headless or sys.__stdin__ is None:
            return False
        return bool(select.select([sys.__stdin__], [], [], 0)[0])

    async def is_held(self) -> bool:
        """Whether repeats follow the key that had the last turn; returns when that is certain."""
        press = self.press
        await self.quiet_from(press.read_s + REPEAT_S)
        return self.held.was_held(press)

    async def _is_beyond_doubt(self) -> None:
        """Return when the key that is next is not a first repeat; one that is leaves the line meanwhile."""
        while self._line and (first := self._line[0]) is self._doubtful:
            await self.quiet_from(first.time + REPEAT_S)
            if first is self._doubtful:
                self._doubtful = None

    def hold(self, work: Worker[None]) -> None:
        """Keys wait until this has ended: it decides where they belong."""
        self._holding.add(work)

    def forget(self) -> int:
        """Leave out what waits: it was typed for something that did not come. How many keys that were."""
        count = sum(isinstance(event, events.Key | events.Paste) for event in self._line)
        self._line.clear()
        self._presses.clear()
        return count

    @property
    def is_still(self) -> bool:
        """Whether all keys were given and everything they set off has happened."""
        return not self._line and self._is_settled()

    async def run(self) -> None:
        """Give keys for as long as the app runs."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._watch())
            both.create_task(self._give_all())

    async def _give_all(self) -> None:
        while True:
            await self._came.wait()
            while self._line:
                await self._is_beyond_doubt()
                if not await self._is_ready():
                    self._give_up()
                if self._line:
                    self._give(self._line.popleft())
                # Letters of a text only change the text: those of one field need not wait for each other.
                while self._line and _is_letter(self._given) and self._in_text():
                    if not _is_letter(self._line[0]):
                        break
                    self._give(self._line.popleft())
            self._came.clear()
            self._interrupted.clear()

    def _give(self, event: Message) -> None:
        self._given = event
        self._turn.append(event)
        self.typed_s = event.time  # before a widget changes it, as lists that are searched do
        self.press = self._presses.pop(event, ConfirmPress(event.time))
        self._app.post_message(event)

    def _in_text(self) -> bool:
        return isinstance(self._app.focused, Input | TextArea)

    def _give_up(self) -> None:
        """The app does not come to rest: only a key that ends something still goes through."""
        kept = next((event for event in self._line if _interrupts(event)), None)
        count = self.forget()
        if kept is not None:
            self._line.append(kept)
            count -= 1
        if count:
            self._left_out(count)

    async def _is_ready(self) -> bool:
        if self._is_settled():
            return True
        settling = asyncio.ensure_future(self._settle())
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait({settling}, timeout=STUCK_S)
            if not settling.done():
                rest_s = SETTLES_WITHIN_S - STUCK_S
                both = {settling, interrupted}
                await asyncio.wait(both, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
            if settling.done():
                settling.result()
                return True
            return False
        finally:
            settling.cancel()
            interrupted.cancel()

    # --- whether everything has happened

    def _is_settled(self) -> bool:
        return not self._held() and not self._busy() and not self._undrawn()

    def _held(self) -> set[Worker[None]]:
        self._holding = {work for work in self._holding if not work.is_finished}
        return self._holding

    def _screens(self) -> list[Screen[Any]]:
        return list(self._app.screen_stack)

    def _parts(self) -> Iterator[MessagePump]:
        yield self._app
        for screen in self._screens():
            yield from screen.walk_children(with_self=True)

    def _busy(self) -> list[MessagePump]:
        return [part for part in self._parts() if not is_idle(part)]

    def _undrawn(self) -> list[Screen[Any]]:
        """Screens that have something to do once they are drawn."""
        return [screen for screen in self._screens() if is_to_call(screen)]

    async def _settle(self) -> None:
        rounds = 0
        while rounds < ROUNDS_MAX:
            if held := self._held():
                await asyncio.gather(*(work.wait() for work in held), return_exceptions=True)
                rounds = 0
                continue
            busy, undrawn = self._busy(), self._undrawn()
            if not busy and not undrawn:
                return
            if await self._round(busy, undrawn):
                rounds += 1

    async def _round(self, busy: list[MessagePump], undrawn: list[Screen[Any]]) -> bool:
        """Let these handle what they have; False if one of them did not say so in time."""
        left = 0
        done = asyncio.Event()

        def handled() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done.set()

        left += sum(part.call_later(handled) for part in busy)
        left += sum(screen.call_after_refresh(handled) for screen in undrawn)
        if left == 0:
            await asyncio.sleep(0)
            return True
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await done.wait()
        except TimeoutError:
            return False
        return True


def _is_letter(event: Message | None) -> bool:
    return isinstance(event, events.Key) and event.is_printable


def _interrupts(event: Message) -> bool:
    return isinstance(event, events.Key) and event.key in INTERRUPTS
