"""Looking for text in a transcript that is only partly here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from helmr.models import EntryInfo
from helmr_console import entry_lines
from helmr_console.entry_pages import PAGE
from helmr_console.widgets.details import ENTRY_CELLS
from helmr_console.widgets.transcript import TranscriptView

SEARCH_ENTRIES_MAX = 20_000


async def find(
    view: TranscriptView,
    read_page: Callable[[int], Awaitable[None]],
    text: str,
    *,
    by: int,
    here: bool,
) -> int | None:
    """The seq of the next entry that holds the text, pages read as needed, once round at most.

    Args:
        by: 1 looks downwards, -1 upwards.
        here: The entry under the cursor counts too.
    """
    needle = text.casefold()
    seq = view.seq if here else view.seq + by
    for _ in range(min(view.count, SEARCH_ENTRIES_MAX)):
        seq = 1 if seq > view.count else view.count if seq < 1 else seq
        entry = view.entry(seq)
        if entry is None:
            await read_page((seq - 1) // PAGE)
            entry = view.entry(seq)
        if entry is not None and _holds(entry, needle):
            return seq
        seq += by
    return None


def _holds(entry: EntryInfo, needle: str) -> bool:
    return (
        needle in entry.kind
        or needle in entry_lines.entry_full(entry, ENTRY_CELLS).casefold()
        or needle in entry_lines.entry_line(entry).text.casefold()
    )
