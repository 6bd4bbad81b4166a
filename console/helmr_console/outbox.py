"""What was confirmed and can still be taken back: it leaves when its time has passed, one after the other.

Everything in here is in a draft too, so that a console that ends meanwhile has sent nothing and lost nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from helmr.review.sending import PendingSends
from helmr_console.clock import ConsoleClock


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
