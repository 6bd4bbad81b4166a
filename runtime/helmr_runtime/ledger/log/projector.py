"""The projector writes the tables: five seconds after a change, sooner after many, or before they are read.

It writes the index as of one feed offset; commits continue meanwhile.

Invariants: S-53; every read shows what was acknowledged, also while nothing can be written (S-65).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from helmr.errors import HelmrError, StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import OPERATION_AGE, LedgerIndex
from helmr_runtime.ledger.index.projection import Projection, Unwritten, session_changes
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.tables.appends import LeaseRow
from helmr_runtime.ledger.tables.engine import ENGINE_ERROR, STORE_ERRORS, Reader
from helmr_runtime.ledger.tables.recovery import RestoredMemory
from helmr_runtime.ledger.tables.table_writer import Tables, project
from helmr_runtime.ledger.tables.tokens import Touched

PROJECT_AFTER_S = 5.0
"""How long a change may stay out of the tables."""

PROJECT_MANY = 1_000
PROJECT_LOOK_S = 0.25
"""So often it is looked whether as many entries lack: they are written at once. The more there are, the longer it
takes."""

HOLDINGS_MAX = 1_000
"""Rows of `holdings` after which those go that say nothing any more."""

FORGET_EVERY = timedelta(hours=1)
"""How often operations past their day are deleted."""


Read = Callable[[Reader], Any]


@dataclass(frozen=True, slots=True)
class ReadUnwritten:
    """Result of a read over tables that could not be written; it still saw exactly what was acknowledged."""

    value: Any


Asked = tuple[asyncio.Future[ReadUnwritten | None], Read | None]


class Projector:
    """Writes changes to the tables, and wakes the readers that wait for them.

    Args:
        database: Holds the tables.
        restored: The ledger's memory.
        clock: Tells the time.
        in_writer: Runs a blocking call in the writer's thread.
    """

    def __init__(
        self,
        database: Database,
        restored: RestoredMemory,
        clock: Clock,
        in_writer: Callable[..., Awaitable[Any]],
    ) -> None:
        self.projection: Projection = restored.projection
        self.projected_offset = restored.projected_offset
        self.unsaved: list[LeaseRow] = []
        """Adoptions and releases that are in memory only; the next transaction carries them to disk."""
        self._index: LedgerIndex = restored.index
        self._database = database
        self._clock = clock
        self._in_writer = in_writer
        self._asked: list[Asked] = []
        self._wake = asyncio.Event()
        self._writing: Projection | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        # Those that earlier lives of the ledger left go at the first occasion.
        self._holdings_rows = HOLDINGS_MAX + 1
        self.has_written = False
        self._forget_at = clock.now()

    async def asked(self) -> None:
        """Return when someone waits for the tables, or it is time; `run` follows."""
        await self._wake.wait()

    @property
    def is_behind(self) -> bool:
        """True while the tables lack changes."""
        return self._writing is not None or self._is_ahead

    @property
    def _is_ahead(self) -> bool:
        return self.projection.through > self.projected_offset or bool(self.projection.touched)

    @property
    def unwritten(self) -> Unwritten:
        """The changes that the tables lack now, including those being written."""
        return Unwritten(self._layers, self._index.heads)

    @property
    def _layers(self) -> list[Projection]:
        return [self.projection, *([self._writing] if self._writing is not None else [])]

    def is_touched(self, session_id: str) -> bool:
        """The tables lack something of that session."""
        return any(session_id in layer.touched for layer in self._layers)

    def touch(self, head: Head) -> None:
        """A session's row is to be written again."""
        self.projection.touched.add(head.session_id)
        self.tick_soon()

    def hold(self, head: Head) -> None:
        """A session's epoch or holder changed in memory."""
        self.unsaved.append(LeaseRow(head.session_id, head.epoch, head.held_by))
        self.touch(head)

    def holdings_written(self, unsaved_count: int, rows_count: int) -> None:
        """A transaction carried so many unsaved holdings to disk, and so many rows in all."""
        del self.unsaved[:unsaved_count]
        self._holdings_rows += rows_count

    def ask(self, read: Read | None = None) -> asyncio.Future[ReadUnwritten | None]:
        """A future that is done when the tables show everything acknowledged by now.

        Args:
            read: Done in tables that are written and taken back, if they can't be written for good; what it
                found is the future's result then.
        """
        future: asyncio.Future[ReadUnwritten | None] = asyncio.get_running_loop().create_future()
        self._asked.append((future, read))
        self._wake.set()
        return future

    def tick_soon(self) -> None:
        """Schedule a write of the tables within `PROJECT_AFTER_S`."""
        if self._tick is None:
            self._due_s = asyncio.get_running_loop().time() + PROJECT_AFTER_S
            self._look_later()

    def stop(self, error: HelmrError) -> None:
        """Write no more; calls that wait get the error."""
        if self._tick is not None:
            self._tick.cancel()
        self._answer(self._asked, error)
        self._asked = []

    async def run(self) -> None:
        """Write what changed, and answer who asked.

        Raises:
            duckdb.Error, OSError, StoreUnavailable: The tables can't be written; nothing is lost.
        """
        asked, self._asked = self._asked, []
        self._wake.clear()
        if self._is_ahead:
            try:
                await self._write()
            except STORE_ERRORS as error:
                refusal = StoreUnavailable(f"the tables can't be written: {error}")
                reads = [(future, read) for future, read in asked if read is not None]
                self._answer([one for one in asked if one[1] is None], refusal)
                await self._show(reads, refusal)
                self.tick_soon()
                raise
            except BaseException:
                # Anyone who ends the writer for this tells them, in `stop`.
                self._asked += asked
                raise
        self._answer(asked)

    async def _write(self) -> None:
        written = self._take()
        touched = Touched(self._index)
        tables = self._tables(written, touched)
        try:
            await self._in_writer(self._write_tables, tables)
        except STORE_ERRORS:
            self._put_back(written)
            touched.give_back()
            raise
        finally:
            self._writing = None
        if tables.forgets_holdings:
            self._holdings_rows = 0
        self.projected_offset = written.through
        self.has_written = True

    def _take(self) -> Projection:
        """Take the changes to write. Another thread reads them, so later commits go into a new projection."""
        taken, self.projection = self.projection, Projection(through=self.projection.through)
        self._writing = taken
        return taken

    def _put_back(self, taken: Projection) -> None:
        taken.absorb(self.projection)
        self.projection = taken

    def evict(self) -> None:
        """Forget what the tables show by now and memory has too much of; to be called while nothing is being stored."""
        if self.has_written and self._writing is None:
            self.has_written = False
            self._index.tokens.evict()
            self._index.keys.evict(self._clock.now())
            self._index.evict(self.is_touched)

    def _tables(self, written: Projection, touched: Touched) -> Tables:
        index, now = self._index, self._clock.now()
        forget = now >= self._forget_at
        if forget:
            self._forget_at = now + FORGET_EVERY
        return Tables(
            projection=written,
            sessions={s: session_changes(index.heads[s]) for s in sorted(written.touched)},
            meta={
                "projected_offset": written.through,
                "system_offset": index.system.last_offset,
                **index.marks(),
            },
            facts=touched.rows(written.token_tags, written.chains),
            forgets_holdings=self._holdings_rows > HOLDINGS_MAX,
            forget_before=now - OPERATION_AGE if forget else None,
        )

    def _write_tables(self, tables: Tables) -> None:
        """In the writer's thread."""
        self._database.require_open()
        try:
            with self._database.transaction() as connection:
                project(connection, tables)
        except ENGINE_ERROR:
            self._database.heal()
            through = tables.meta["projected_offset"]
            if self.projected_offset == through or self._database.projected_offset() != through:
                raise
        self._database.sync_mark()

    async def _show(
        self, asked: list[tuple[asyncio.Future[ReadUnwritten | None], Read]], refusal: HelmrError
    ) -> None:
        """Answer reads from tables that only this transaction sees: a full disk needs no room for it."""
        if not asked:
            return
        taken = self._take()
        touched = Touched(self._index)
        tables = self._tables(taken, touched)
        touched.give_back()
        try:
            found = await self._in_writer(self._read_unwritten, tables, [read for _, read in asked])
        except STORE_ERRORS:
            self._answer([*asked], refusal)
            return
        finally:
            self._writing = None
            self._put_back(taken)
        for (future, _), value in zip(asked, found, strict=True):
            if future.done():
                continue
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(ReadUnwritten(value))

    def _read_unwritten(self, tables: Tables, reads: list[Read]) -> list[Any]:
        """In the writer's thread; what each read found, or the error by which it ended."""
        with self._database.taken_back() as connection:
            project(connection, tables)
            found: list[Any] = []
            for read in reads:
                try:
                    found.append(read(self._database.writers_reader))
                except HelmrError as error:
                    found.append(error)
            return found

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        at_s = min(self._due_s, loop.time() + PROJECT_LOOK_S)
        self._tick = loop.call_at(at_s, self._look)

    def _look(self) -> None:
        is_due = asyncio.get_running_loop().time() >= self._due_s
        if is_due or self.projection.through - self.projected_offset >= PROJECT_MANY:
            self._tick = None
            self.ask()
        else:
            self._look_later()

    @staticmethod
    def _answer(
        asked: Sequence[tuple[asyncio.Future[ReadUnwritten | None], Any]],
        error: HelmrError | None = None,
    ) -> None:
        for future, _ in asked:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                # Looked at here, because the tick's own future has no reader.
                future.exception()
