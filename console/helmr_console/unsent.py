"""Answers that have not been sent, and waits that the operator snoozed, for the lists.

`Unsent` knows the answers kept as drafts, and those that were confirmed but not sent. `Snoozed` knows the hidden waits.
Both read files that other programs also write. `UndoOutbox` sends confirmed answers one after the other when their
time to undo has passed. Each is also a draft, so that a console that ends meanwhile has sent nothing and lost nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from helmr.person.review import words
from helmr.person.review.personal import DraftStore, Snoozes
from helmr.person.review.sending import PendingSends
from helmr_console.clock import ConsoleClock
from helmr_console.store import Store


class Unsent:
    """Waits with an unsent answer, and their signs in lists.

    Args:
        drafts: Read repeatedly, because other programs keep drafts too.
        store: Knows which waits are open.
    """

    def __init__(self, drafts: DraftStore, store: Store) -> None:
        self._drafts = drafts
        self._store = store
        self._begun: frozenset[str] = frozenset()
        self.returned: set[str] = set()
        """Waits whose pending answer was not sent, until their form is opened."""

    async def look(self) -> bool:
        """Read the ids of the drafts; return True if they changed."""
        before, self._begun = self._begun, await asyncio.to_thread(self._drafts.wait_ids)
        return self._begun != before

    def came_back(self, wait_id: str) -> None:
        """Mark a wait whose pending answer was not sent, until its form is opened."""
        if wait_id in self._store.waits:
            self.returned.add(wait_id)

    def open_ids(self) -> list[str]:
        """Ids of marked waits that can still be answered."""
        return [one for one in self._store.waits if one in self.returned]

    def sign(self, wait_id: str) -> str:
        """`~` if an answer was begun, `~ not sent:` if a confirmed one was not sent; else empty."""
        if wait_id in self.returned:
            return "~ not sent:"
        return "~" if wait_id in self._begun else ""


class Snoozed:
    """The waits that are snoozed.

    Args:
        kept: The file on disk.
        now: The server's time.
    """

    def __init__(self, kept: Snoozes, now: Callable[[], datetime]) -> None:
        self._kept = kept
        self._now = now
        self._until: Mapping[str, datetime] = {}

    def until(self, wait_id: str) -> datetime | None:
        """End of a wait's snooze; None if it is not snoozed."""
        until = self._until.get(wait_id)
        return until if until is not None and until > self._now() else None

    def text(self, wait_id: str) -> str:
        """`back in 20m`; empty if it is not snoozed."""
        until = self.until(wait_id)
        if until is None:
            return ""
        return f"back in {words.span((until - self._now()).total_seconds())}"

    async def look(self) -> bool:
        """Read the snoozes; return True if they changed."""
        before = self._until
        self._until = await asyncio.to_thread(self._kept.read, self._now())
        return self._until != before

    async def snooze(self, wait_id: str, until: datetime) -> None:
        """Hide a wait until then.

        Raises:
            OSError: The snooze can't be stored.
        """
        await asyncio.to_thread(self._kept.snooze, wait_id, until)
        await self.look()

    async def wake(self, wait_id: str) -> None:
        """Show a wait again."""
        await asyncio.to_thread(self._kept.wake, wait_id)
        await self.look()


@dataclass(frozen=True, slots=True)
class PendingSend:
    """One answer, or a batch, that is sent as one.

    Attributes:
        title: A title, safe text.
        wait_ids: The waits that it answers; the inbox hides them while it is held.
        send: Sends it and shows the result.
        taken_back: Called when the operator takes it back.
    """

    title: str
    wait_ids: frozenset[str]
    send: Callable[[], Awaitable[None]]
    taken_back: Callable[[], None]


class UndoOutbox:
    """Confirmed answers that wait for their time to undo.

    Args:
        hold_s: Seconds in which an answer can be taken back; 0 holds none.
        clock: Source of time.
        changed: Called when something is held, taken back or sent.
    """

    def __init__(self, hold_s: float, clock: ConsoleClock, changed: Callable[[], None]) -> None:
        self._held: PendingSends[PendingSend] = PendingSends(hold_s)
        self._clock = clock
        self._changed = changed
        self.wait_ids: frozenset[str] = frozenset()
        """Waits with an answer that is held or being sent."""

    @property
    def holds(self) -> bool:
        """True if answers are held at all."""
        return self._held.hold_s > 0

    def __len__(self) -> int:
        return len(self._held)

    async def hold(self, sending: PendingSend) -> None:
        """Hold an answer for `hold_s`, then send it unless it was taken back."""
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
        """Take back and return the answer confirmed last; None if none is held."""
        sending = self._held.take_back()
        if sending is not None:
            self.wait_ids -= sending.wait_ids
            self._changed()
            sending.taken_back()
        return sending

    def text(self, key: str) -> str:
        """`sends in 4 s · u takes it back`; empty if nothing is pending.

        Args:
            key: The key that takes it back.
        """
        return self._held.text(key, self._clock.monotonic())
