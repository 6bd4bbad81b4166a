"""Answers that have not left, and waits that the operator snoozed, as the lists see them.

`Unsent` knows what was begun and kept as a draft, or confirmed and not sent after all; `Snoozed` what is hidden for a
while; both read files that other programs write, too. `UndoOutbox` lets what was confirmed leave when its time has
passed, one after the other. Everything in it is in a draft too, so that a console that ends meanwhile has sent nothing
and lost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from helmr.review import words
from helmr.review.personal import DraftStore, Snoozes
from helmr.review.sending import PendingSends
from helmr_console.clock import ConsoleClock
from helmr_console.store import Store


class Unsent:
    """What the lists say of them.

    Args:
        drafts: Read beside the screens, as other programs keep drafts too.
        store: Knows which waits are open.
    """

    def __init__(self, drafts: DraftStore, store: Store) -> None:
        self._drafts = drafts
        self._store = store
        self._begun: frozenset[str] = frozenset()
        self.returned: set[str] = set()
        """Waits whose pending answer did not leave, until their form is looked at."""

    async def look(self) -> bool:
        """Read what has been begun; whether that has changed."""
        before, self._begun = self._begun, await asyncio.to_thread(self._drafts.wait_ids)
        return self._begun != before

    def came_back(self, wait_id: str) -> None:
        """A pending answer did not leave: its wait is asked again, and says so until then."""
        if wait_id in self._store.waits:
            self.returned.add(wait_id)

    def open_ids(self) -> list[str]:
        """Those that came back and can still be answered."""
        return [one for one in self._store.waits if one in self.returned]

    def sign(self, wait_id: str) -> str:
        """`~` if an answer was begun, `~ not sent:` if one came back; empty for neither."""
        if wait_id in self.returned:
            return "~ not sent:"
        return "~" if wait_id in self._begun else ""


class Snoozed:
    """The waits that are snoozed.

    Args:
        kept: On disk.
        now: The server's time.
    """

    def __init__(self, kept: Snoozes, now: Callable[[], datetime]) -> None:
        self._kept = kept
        self._now = now
        self._until: Mapping[str, datetime] = {}

    def until(self, wait_id: str) -> datetime | None:
        """Until when this wait is snoozed; None if it is not."""
        until = self._until.get(wait_id)
        return until if until is not None and until > self._now() else None

    def text(self, wait_id: str) -> str:
        """`back in 20m`; empty if it is not snoozed."""
        until = self.until(wait_id)
        if until is None:
            return ""
        return f"back in {words.span((until - self._now()).total_seconds())}"

    async def look(self) -> bool:
        """Read what is snoozed; whether that has changed."""
        before = self._until
        self._until = await asyncio.to_thread(self._kept.read, self._now())
        return self._until != before

    async def snooze(self, wait_id: str, until: datetime) -> None:
        """Hide this wait until then.

        Raises:
            OSError: It can't be kept.
        """
        await asyncio.to_thread(self._kept.snooze, wait_id, until)
        await self.look()

    async def wake(self, wait_id: str) -> None:
        """Show it again."""
        await asyncio.to_thread(self._kept.wake, wait_id)
        await self.look()


@dataclass(frozen=True, slots=True)
class PendingSend:
    """One answer, or a batch, which leaves as one.

    Attributes:
        title: What it is, safe text.
        wait_ids: The waits that it answers; they are not in the inbox while it is held.
        send: Lets it go; says what became of it.
        taken_back: Called when it is not to leave.
    """

    title: str
    wait_ids: frozenset[str]
    send: Callable[[], Awaitable[None]]
    taken_back: Callable[[], None]


class UndoOutbox:
    """What is held.

    Args:
        hold_s: How long.
        clock: Says what time it is.
        changed: Called when something was held, taken back or let go.
    """

    def __init__(self, hold_s: float, clock: ConsoleClock, changed: Callable[[], None]) -> None:
        self._held: PendingSends[PendingSend] = PendingSends(hold_s)
        self._clock = clock
        self._changed = changed
        self.wait_ids: frozenset[str] = frozenset()
        """Waits with an answer that is held or on its way."""

    @property
    def holds(self) -> bool:
        """Whether answers are held at all."""
        return self._held.hold_s > 0

    def __len__(self) -> int:
        return len(self._held)

    async def hold(self, sending: PendingSend) -> None:
        """Hold it for its time and let it go then, unless it was taken back."""
        self._held.hold(sending, self._clock.monotonic())
        self.wait_ids |= sending.wait_ids
        self._changed()
        await self._clock.sleep(self._held.hold_s)
        while (due := self._held.take_due(self._clock.monotonic())) is not None:
            try:
                await due.send()
            finally:
                self.wait_ids -= due.wait_ids
                self._changed()

    def take_back(self) -> PendingSend | None:
        """What was confirmed last does not leave; None if nothing is held."""
        sending = self._held.take_back()
        if sending is not None:
            self.wait_ids -= sending.wait_ids
            self._changed()
            sending.taken_back()
        return sending

    def text(self, key: str) -> str:
        """`sends in 4 s · u takes it back`; empty if nothing is pending.

        Args:
            key: What takes it back.
        """
        return self._held.text(key, self._clock.monotonic())
