"""What a follower asks of the simulated ledger, and what ends a ledger that has a successor (S-68).

The pages, the proof of a generation and its index are the product's. That a ledger which has met its successor stores
nothing more is said once more here: the product says it of a database.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from helmr.errors import LedgerDiverged, LedgerSuperseded
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, principal_text
from helmr_runtime.core.session_file import CHECKPOINT, ENTRY
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.tables.engine import uuid_of
from helmr_runtime.ports.ledger import CopiedPage, CopiedRows, CopyPosition
from helmr_runtime.security.private_files import LEDGER_CHARS, make_stamp, proven_generation
from tests.programs.simulation.disk import SimulatedDisk

PAGE_ENTRIES = 25


class CopiedMemory(MemoryLedger):
    """A ledger over a simulated disk that is followed.

    Attributes:
        superseded: Why it stores nothing any more.
    """

    _disk: SimulatedDisk
    _random: Random
    superseded: LedgerSuperseded | None = None

    # --- for a follower -------------------------------------------------------------------------------

    async def copied_page(self, position: CopyPosition) -> CopiedPage:
        entries, head = self.stored.entries, self.index.head_offset
        places = {entry.feed_offset: entry.hash.hex() for entry in entries}
        if not position.is_of(
            places.get(position.offset), places.get(position.system_offset), head
        ):
            raise LedgerDiverged("this is another ledger", feed_offset=position.offset)
        behind = entries.behind(position.offset)
        found = behind[: self._page_end(behind, self._random.randrange(1, PAGE_ENTRIES))]
        through = (found[-1].feed_offset or 0) if found else head
        rows: list[bytes] = []
        for entry in found:
            rows.append(_line(ENTRY, entry, _values(entry)))
            saved = self.stored.checkpoints.get((entry.session_id, entry.feed_offset or 0))
            if saved is not None:
                rows.append(_line(CHECKPOINT, entry, [saved]))
        return CopiedPage(
            copied=CopiedRows(through, tuple(rows), self.index.pruned_offset),
            head=head,
            openings=self._disk.database.openings,
            encrypts=False,
            generation=self.index.generation,
        )

    def _page_end(self, behind: Sequence[Entry], count: int) -> int:
        """How many entries a page has: what was written into a session at once lies together, and stays so."""
        while 0 < count < len(behind) and behind[count - 1].session_id == behind[count].session_id:
            count += 1
        return count

    # --- for its successor ----------------------------------------------------------------------------

    async def stamp(self) -> str | None:
        self.check_current()
        if self.index.generation == 1 or self.ring is None:
            return None
        return make_stamp(self.ring, self._ledger_id, self.index.generation)

    async def meet(self, stamps: Sequence[str]) -> None:
        met = max((proven_generation(self.ring, self._ledger_id, one) for one in stamps), default=0)
        if met > self.index.generation:
            self._disk.database.superseded_by = met
            self.supersede(met)
        self.check_current()

    def supersede(self, generation: int) -> None:
        """Store nothing from now on."""
        self.superseded = LedgerSuperseded("it has a successor", generation=generation)

    def check_current(self) -> None:
        """Return unless it has a successor; raises LedgerSuperseded."""
        if self.superseded is not None:
            raise self.superseded

    @property
    def _ledger_id(self) -> str:
        return self.stored.entries[0].hash.hex()[:LEDGER_CHARS]


def _line(kind: str, entry: Entry, values: list[Any]) -> bytes:
    named = [kind, entry.feed_offset, str(uuid_of(entry.session_id)), entry.seq]
    return jsontext.encode([*named, *values]).encode()


def _values(entry: Entry) -> list[Any]:
    micros = round(entry.recorded_at.timestamp() * 1_000_000)
    run = str(uuid_of(entry.run_id)) if entry.run_id is not None else None
    principal = principal_text(entry.principal)
    return [micros, entry.kind.value, run, entry.op, principal, entry.body_json, entry.hash.hex()]
