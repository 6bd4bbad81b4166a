"""Looking for text in a transcript that is only partly here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from helmr.models import EntryInfo
from helmr.safe_text import one_line
from helmr_console import entry_lines
from helmr_console.entry_pages import PAGE
from helmr_console.widgets.details import ENTRY_CELLS
from helmr_console.widgets.transcript import TranscriptView

SEARCH_ENTRIES_MAX = 20_000

ReadPage = Callable[[int], Awaitable[None]]


class Search:
    """One search of a transcript.

    Args:
        view: Where; its cursor goes to what was found.
        read_page: Has a page read and put into the view.
        changed: Called when `words` says something else.
    """

    def __init__(
        self, view: TranscriptView, read_page: ReadPage, changed: Callable[[], None]
    ) -> None:
        self.text = ""
        self.words = ""
        """How far it is: `reading…`, `3 of 11`."""
        self._view = view
        self._read_page = read_page
        self._changed = changed

    def begin(self, text: str) -> None:
        """Look for this; an empty text ends the search."""
        self.text, self.words = text, ""

    def status(self) -> str:
        """`/deploy 3 of 11   n N   `; empty without a search."""
        if not self.text:
            return ""
        words = f" {self.words}" if self.words else ""
        return f"/{one_line(self.text, 30)}{words}   n N   "

    async def go(self, by: int, *, here: bool) -> None:
        """Put the cursor on the next entry that holds the text, if there is one."""
        self._say("reading…")
        seq = await find(self._view, self._read_page, self.text, by=by, here=here)
        if seq is None:
            self._say("not found")
            return
        self._view.follow = False
        self._view.move_to(seq)
        await self._count(seq)

    async def _count(self, seq: int) -> None:
        """Which of how many it is; `+` where entries are not here."""
        needle, before, count = self.text.casefold(), 0, 0
        pages = self._view.pages
        for page in sorted(pages.held):
            for entry in list(pages.held.get(page, ())):
                if holds(entry, needle):
                    count += 1
                    before += entry.seq <= seq
            await asyncio.sleep(0)
        whole = len(pages.held) * PAGE >= self._view.count
        self._say(f"{before} of {count}{'' if whole else '+'}")

    def _say(self, words: str) -> None:
        self.words = words
        self._changed()


async def find(
    view: TranscriptView, read_page: ReadPage, text: str, *, by: int, here: bool
) -> int | None:
    """The seq of the next entry that holds the text, pages read as needed, once round at most.

    Args:
        by: 1 looks downwards, -1 upwards.
        here: The entry under the cursor counts too.
    """
    needle = text.casefold()
    seq = view.seq if here else view.rows.beside(view.seq, by)
    for _ in range(min(view.count, SEARCH_ENTRIES_MAX)):
        seq = 1 if seq > view.count else view.count if seq < 1 else seq
        entry = view.entry(seq)
        if entry is None:
            await read_page((seq - 1) // PAGE)
            entry = view.entry(seq)
        if entry is not None and holds(entry, needle):
            return seq
        seq += by
    return None


def holds(entry: EntryInfo, needle: str) -> bool:
    """Whether an entry holds that text, which is folded."""
    return (
        needle in entry.kind
        or needle in entry_lines.entry_full(entry, ENTRY_CELLS).casefold()
        or needle in entry_lines.entry_line(entry).text.casefold()
    )
