"""A follower: its file, in which a page is stored whole or not, and its process, which asks for the next (S-68)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from helmr.errors import HelmrError, LedgerDiverged
from helmr.ids import SYSTEM_STREAM
from helmr.models import CopyPage
from helmr_runtime.core.commands import sessions_of
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.session_file import ENTRY
from helmr_runtime.ledger.log.rebuild import checkpoint_row_of, entry_row_of
from helmr_runtime.ledger.memory_rows import KeptEntries, Stored
from helmr_runtime.ledger.tables.engine import entry_of, id_of, in_the_clear
from helmr_runtime.ports.ledger import CopyPosition
from helmr_runtime.rpc.calls import GATEWAY
from tests.programs.simulation.network import SimulatedCalls

WAIT_S = 5.0
PAUSE_S = 0.5


class Copy:
    """A follower's file.

    Args:
        check: Notes what does not hold: whether, the rule, and what is said of it.
    """

    def __init__(self, check: Callable[[bool, str, str], None]) -> None:
        self._check = check
        self.stored = Stored()
        self.openings = 0
        self.generation = 1
        self._whole_from = 0

    @property
    def offset(self) -> int:
        """Of its last entry."""
        return self.stored.entries.next_offset - 1

    @property
    def is_whole(self) -> bool:
        """It is the ledger at its offset."""
        return self.offset >= self._whole_from

    @property
    def position(self) -> CopyPosition:
        """How far it is."""
        entries = self.stored.entries
        if not entries:
            return CopyPosition()
        system = next((one for one in reversed(entries) if one.session_id == SYSTEM_STREAM), None)
        known = (system.feed_offset or 0, system.hash.hex()) if system is not None else (0, None)
        return CopyPosition(self.offset, entries[-1].hash.hex(), *known)

    def apply(self, page: CopyPage) -> None:
        """Store a page; on disk when it returns."""
        for row in page.rows:
            if row[0] == ENTRY:
                self._add(entry_of(entry_row_of(row[1:]), in_the_clear))
            else:
                offset, session, _, body = checkpoint_row_of(row[1:])
                self.stored.checkpoints[id_of("ses", session), offset] = body
        self.openings = max(self.openings, page.openings)
        self.generation = page.generation
        self._whole_from = max(self._whole_from, page.pruned_offset)

    def _add(self, entry: Entry) -> None:
        entries = self.stored.entries
        before = [one.seq for one in entries if one.session_id == entry.session_id]
        where = f"{entry.session_id} {entry.seq} at {entry.feed_offset}"
        is_next = (entry.feed_offset or 0) > self.offset and entry.seq == len(before) + 1
        self._check(is_next, "S-68", f"{where} comes behind {self.offset}")
        entries.append(entry)
        if entry.kind is EntryKind.SESSIONS_PRUNED:
            self.stored.remove(frozenset(sessions_of(entry.body)))

    def promoted(self) -> Stored:
        """What the ledger begins with that it becomes; nobody holds anything there."""
        return Stored(KeptEntries(self.stored.entries), dict(self.stored.checkpoints))


async def follow(
    copy: Copy, calls: SimulatedCalls, random: Random, reached: Callable[[str], None]
) -> None:
    """Keep the copy up, for as long as the process lives."""
    while True:
        try:
            text = await calls.call(GATEWAY, "copy", copy.position, WAIT_S)
        except LedgerDiverged:
            raise
        except HelmrError:
            reached("follower without its primary")
            await asyncio.sleep(PAUSE_S)
            continue
        page = CopyPage.model_validate_json(text)
        await asyncio.sleep(random.random() * random.random() * 0.2)
        copy.apply(page)
        reached("page followed")
