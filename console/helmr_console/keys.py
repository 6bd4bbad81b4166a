"""Keys one at a time: the next is taken when everything that the last one set off has happened.

Textual handles a key when it is read, but what the key does comes later, as messages: the focus moves, a field tells
its form, a screen opens. Of keys that come in one burst, as after a stall of the line or of this machine, the second
would meet the screen as it was before the first. So everything typed, pasted or clicked waits in one line here, and
the next is given only when

- no part of the screens has a message left, nor work to do after the next drawing, and
- no work is under way that decides where keys belong, such as the reading of a form (`hold`).

A key that confirms counts once however long it is held down (`confirming`): what its repeats would send was not read.

Nothing can lock the keyboard: esc, ^c and ^q leave the line when the last key takes over `STUCK_S`, and after
`SETTLES_WITHIN_S` what waits is left out, said, and not carried out late.
"""

from __future__ import annotations

import asyncio
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

from helmr_console.inside_textual import is_idle, is_to_call

INTERRUPTS = frozenset(("escape", "ctrl+c", "ctrl+q"))
"""Keys that end something: they need not wait for what hangs."""
STUCK_S = 1.0
SETTLES_WITHIN_S = 10.0
ROUNDS_MAX = 64
"""A round lets every part handle the messages it has; longer than any chain of messages that one key sets off, so
that a screen which other things always keep busy does not hold keys back."""
REPEAT_S = 0.15
"""A key that comes again so soon repeats because it is held down."""
REPEATS_WITHIN_S = 0.7
"""How long a key is held down before the system repeats it: until `REPEAT_S` later a key may be such a repeat."""
ALONE_S = 3600.0
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
        self.again_s = ALONE_S
        """How long before the key that had the last turn the same one was read, without another between; else much."""
        self._gaps: dict[Message, float] = {}
        """Of keys in the line that confirm."""
        self._read: events.Key | None = None
        """The key that was read last, a repeat too."""
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
        before, self._read = self._read, event
        if event.key not in self.confirming:
            return False
        is_again = before is not None and before.key == event.key
        since_s = event.time - before.time if before and is_again else ALONE_S
        if since_s >= REPEAT_S:
            self._gaps[event] = since_s
            self._doubtful = event if since_s < REPEATS_WITHIN_S else None
            return False
        if self._doubtful is not None and self._doubtful in self._line:
            self._gaps.pop(self._doubtful, None)
            self._line.remove(self._doubtful)
        self._doubtful = None
        return True

    async def _is_beyond_doubt(self) -> None:
        """Return when the key that is next is not a first repeat; one that is leaves the line meanwhile."""
        while self._line and self._line[0] is self._doubtful:
            left_s = self._line[0].time + REPEAT_S - monotonic()
            if left_s <= 0:
                self._doubtful = None
                return
            await asyncio.sleep(left_s)

    def hold(self, work: Worker[None]) -> None:
        """Keys wait until this has ended: it decides where they belong."""
        self._holding.add(work)

    def forget(self) -> int:
        """Leave out what waits: it was typed for something that did not come. How many keys that were."""
        count = sum(isinstance(event, events.Key | events.Paste) for event in self._line)
        self._line.clear()
        self._gaps.clear()
        return count

    @property
    def is_still(self) -> bool:
        """Whether all keys were given and everything they set off has happened."""
        return not self._line and self._is_settled()

    async def run(self) -> None:
        """Give keys for as long as the app runs."""
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
        self.again_s = self._gaps.pop(event, ALONE_S)
        self.typed_s = event.time  # before a widget changes it, as lists that are searched do
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
