"""Passes keys on one at a time: the next only when all effects of the last have happened.

Textual handles a key when it reads it, but the effects come later, as messages: the focus moves, a field notifies its
form, a screen opens. In a burst of keys, as after a stall of the network or the machine, the second key would meet the
screen as it was before the first. So all keys, pastes and clicks wait in one queue here, and the next is passed on only
when

- no part of the screens has a message left, or work to do after the next drawing, and
- no work is running that decides where keys belong, such as reading a form (`hold`).

A key that confirms counts once however long it is held down (`confirming`): its repeats would send answers unread.
Textual's thread stamps a key when it takes it from the terminal; a thread that was starved stamps late. So nothing
here trusts a stamp alone: `quiet_from` checks for unread input.

Nothing can lock the keyboard: esc, ^c and ^q leave the queue when the last key takes over `STUCK_S`. After
`SETTLES_WITHIN_S` waiting keys are dropped, with a message, and never carried out late.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Thread
from time import monotonic, sleep
from typing import Any

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump
from textual.screen import Screen
from textual.widgets import Input, TextArea
from textual.worker import Worker

from helmr.person.review.sending import REPEAT_S, ConfirmPress, HeldKey
from helmr_console.inside_textual import is_idle, is_to_call

INTERRUPTS = frozenset(("escape", "ctrl+c", "ctrl+q"))
"""Keys that end something; they need not wait for work that hangs."""
STUCK_S = 1.0
SETTLES_WITHIN_S = 10.0
ROUNDS_MAX = 64
"""A round lets every part handle its messages. No key sets off a longer chain of messages, so a screen that other work
keeps busy does not hold keys back."""
UNREAD_EVERY_S = 0.02
STAMPS_WITHIN_S = 0.01
"""Time by which Textual's thread has stamped all that it took from the terminal."""
LOOK_EVERY_S = 0.25
"""A part that ends with messages left never reports that it has handled them."""


class KeyLine:
    """The queue in which keys wait.

    Args:
        app: Gets them through its message queue.
        left_out: Called with the number of keys dropped because the app did not come to rest.
    """

    def __init__(self, app: App[Any], *, left_out: Callable[[int], None]) -> None:
        self._app = app
        self._left_out = left_out
        self._line: deque[Message] = deque()
        self._given: Message | None = None
        self._turn: list[Message] = []
        """Events passed on that the app has not received yet."""
        self.typed_s = 0.0
        """Monotonic time at which the last key passed on was read."""
        self._came = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._holding: set[Worker[None]] = set()
        self.confirming: frozenset[str] = frozenset()
        """Names of keys that send something."""
        self.press = ConfirmPress(0.0)
        """The last key passed on, if it confirms."""
        self._presses: dict[Message, ConfirmPress] = {}
        """Confirming keys in the queue."""
        self.held = HeldKey()
        self._confirmed = asyncio.Event()
        """Set when a confirming key was read, also a repeat."""
        self._doubtful: Message | None = None
        """A confirming key that may be the first repeat of one held down."""

    def takes(self, event: Message) -> bool:
        """Queue an event; False if it is not from keyboard or mouse, or has had its turn."""
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
        """True for a repeat of a confirming key held down, to be ignored; the key before it may turn out one too."""
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
        """Check when a confirming key must have come up."""
        while True:
            await self._confirmed.wait()
            self._confirmed.clear()
            while (at_s := self.held.looks_at_s) is not None:
                self.held.quiet(await self.quiet_from(at_s))

    async def quiet_from(self, from_s: float) -> float:
        """Return the first monotonic time, not before `from_s`, by which all typed input has been read.

        A thread looks, because the loop may be drawing: it would look late, and keys typed meanwhile would not count.
        """
        quiet, taken = Future[float](), asyncio.Event()
        Thread(target=self._look, args=(from_s, quiet), daemon=True).start()
        quiet_s = await asyncio.wrap_future(quiet)
        if self._app.call_later(taken.set):  # behind all input read by then
            await taken.wait()
        return quiet_s

    def _look(self, from_s: float, quiet: Future[float]) -> None:
        sleep(max(0.0, from_s - monotonic()))
        while self._is_unread() and not quiet.cancelled():
            sleep(UNREAD_EVERY_S)
        sleep(STAMPS_WITHIN_S)
        if quiet.set_running_or_notify_cancel():
            quiet.set_result(monotonic())

    def _is_unread(self) -> bool:
        """True if the terminal holds input that Textual has not taken."""
        if self._app.is_headless or sys.__stdin__ is None:
            return False
        return bool(select.select([sys.__stdin__], [], [], 0)[0])

    async def is_held(self) -> bool:
        """Return whether repeats follow the last key passed on, once that is certain."""
        press = self.press
        await self.quiet_from(press.read_s + REPEAT_S)
        return self.held.was_held(press)

    async def _is_beyond_doubt(self) -> None:
        """Return when the next key is certainly no first repeat; a repeat leaves the queue meanwhile."""
        while self._line and (first := self._line[0]) is self._doubtful:
            await self.quiet_from(first.time + REPEAT_S)
            if first is self._doubtful:
                self._doubtful = None

    def hold(self, work: Worker[None]) -> None:
        """Hold keys until this work has ended, because it decides where they belong."""
        self._holding.add(work)

    def forget(self) -> int:
        """Drop the waiting events, typed for a screen that did not come; return the number of keys."""
        count = sum(isinstance(event, events.Key | events.Paste) for event in self._line)
        self._line.clear()
        self._presses.clear()
        return count

    @property
    def is_still(self) -> bool:
        """True when all keys were passed on and all their effects have happened."""
        return not self._line and self._is_settled()

    async def run(self) -> None:
        """Pass keys on while the app runs."""
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
                # Letters only change their field's text, so letters for one field need not wait for each other.
                while self._line and _is_letter(self._given) and self._in_text():
                    if not _is_letter(self._line[0]):
                        break
                    self._give(self._line.popleft())
            self._came.clear()
            self._interrupted.clear()

    def _give(self, event: Message) -> None:
        self._given = event
        self._turn.append(event)
        self.typed_s = event.time  # before a widget changes it, as searched lists do
        self.press = self._presses.pop(event, ConfirmPress(event.time))
        self._app.post_message(event)

    def _in_text(self) -> bool:
        return isinstance(self._app.focused, Input | TextArea)

    def _give_up(self) -> None:
        """Drop the queue because the app does not come to rest; keep one key that ends something."""
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

    # --- has everything happened

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
        """Screens with work to do after their next drawing."""
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
        """Let these handle their messages; False if one did not report in time."""
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
