"""Answers that have not left: begun and kept as a draft, or confirmed, held and not sent after all."""

from __future__ import annotations

import asyncio

from helmr.review.personal import DraftStore
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
