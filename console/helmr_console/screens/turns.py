"""Whose turn it is in a review: one wait after the other, the next of which is read while one is on screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helmr.forms import Form, form_of
from helmr.models import EntryInfo, WaitInfo
from helmr.review import words
from helmr.review.personal import Beginning
from helmr.review.queue import ReviewQueue
from helmr_console.console import Console
from helmr_console.link import tail
from helmr_console.screens.entry import begun_with

LOOKED_AHEAD_MAX = 8
"""So many waits are asked whether another is at them."""
FRESH_S = 15.0
"""What was read ahead is read again after this, as the inbox asks again who is at its waits."""
CONTEXT_ENTRIES = 30


def form_for(wait: WaitInfo) -> Form:
    """What is entered to answer it."""
    return form_of(wait.json_schema, initial=words.initial_of(wait))


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the form of the next wait needs, read while the one before is on screen."""

    wait: WaitInfo
    entries: list[EntryInfo]
    begun: Beginning
    read_s: float


class ReviewTurns:
    """The waits of one review.

    Args:
        console: Reads them.
        wait_ids: The first ones.
        listed: What the list has now: what has come into it meanwhile is asked, too.
    """

    def __init__(
        self, console: Console, wait_ids: Sequence[str], listed: Callable[[], Sequence[str]]
    ) -> None:
        self._console = console
        self.queue = ReviewQueue(
            wait_ids, listed, console.is_claimed_by_another, console.unsent.open_ids
        )
        self.ahead: Ahead | None = None

    def take(self) -> tuple[str, ReviewTurns, Ahead | None] | None:
        """The next wait, and what was read of it; None if there is none."""
        wait_id = self.queue.next(self._console.open_ids())
        ahead, self.ahead = self.ahead, None
        if wait_id is None:
            return None
        is_it = ahead is not None and ahead.wait.id == wait_id and self._is_fresh(ahead)
        return wait_id, self, ahead if is_it else None

    def drawn(self) -> None:
        """One of them is on screen: the next one is read."""
        if self.ahead is None:
            self._look_ahead()

    def tick(self, *, is_drawn: bool) -> None:
        """What was read ahead gets old."""
        is_old = self.ahead is None or not self._is_fresh(self.ahead)
        if is_old and is_drawn and self._console.base_context().live:
            self._look_ahead()

    def _is_fresh(self, ahead: Ahead) -> bool:
        return self._console.store.mono() - ahead.read_s < FRESH_S

    def _look_ahead(self) -> None:
        self._console.background.start(
            self._read_ahead(), group="ahead", exclusive=True, on_error=_nothing_said
        )

    async def _read_ahead(self) -> None:
        """The next wait, so that it is there when this one is answered."""
        console = self._console
        wait = None
        for _ in range(LOOKED_AHEAD_MAX):
            wait_id = self.queue.coming(console.open_ids())
            if wait_id is None:
                return
            wait = await console.client.waits.get(wait_id)
            console.store.put_wait(wait)
            if not console.is_claimed_by_another(wait_id):
                break  # else someone has claimed it by now, and it comes later
        if wait is None:
            return
        entries = await tail(console.client, wait.session_id, CONTEXT_ENTRIES)
        begun = await begun_with(console, wait.id, form_for(wait))
        self.ahead = Ahead(wait, entries, begun, console.store.mono())


def _nothing_said(text: str) -> None:
    """What could not be read ahead is read, and said, when it is asked."""
