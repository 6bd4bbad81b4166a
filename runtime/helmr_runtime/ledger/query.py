"""SQL of operators over the public views: checked, bounded in time, rows, bytes and memory, one at a time.

A query runs in a thread of its own, on a connection of its own, in a read-only transaction, at a lower priority of
the operating system than everything else in the process; its result is fetched as Arrow batches, which takes no
interpreter lock, so that neither the writer nor the loop waits for it. Where pyarrow is not installed, the engine
writes each row as one JSON text, outside of that lock too. A watcher ends a query at its limits.

Raises only `BadQuery`, `QueryTimeout`, `QueryTooLarge`, `QueryBusy` and `StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb

from helmr.errors import (
    BadQuery,
    HelmrError,
    QueryBusy,
    QueryTimeout,
    QueryTooLarge,
    StoreUnavailable,
)
from helmr.models import QUERY_BYTES_MAX, QUERY_ROWS_MAX, QUERY_TIMEOUT_S
from helmr.wire.query import METADATA_KEY, has_arrow
from helmr_runtime.core import query_rows
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.tables.engine import Connection, first_row
from helmr_runtime.ledger.tables.plain_rows import plain_query, sql_alone
from helmr_runtime.ledger.tables.public_views import Guard, make_views, refused_by_engine

logger = logging.getLogger(__name__)

NICENESS = 5
"""Priority of the thread of queries: the writer and the loop go first, and a machine that is full of others'
work still gives a query about a sixth of a core. At 19 it got a hundredth, and small queries ran into their limit."""

BATCH_ROWS = 2_048
"""Rows fetched at a time: the engine's own vector, between which limits are looked at."""

WATCH_EVERY_S = 0.05
"""How often the watcher looks, which takes half a millisecond; one that gathers 1 GB a second is met 50 MB later."""

LEAVE_TIMEOUT_S = 2.0
"""How long an interrupted query may take to leave before its caller is answered without it."""

ROLLBACK_TRIES_MAX = 100
"""Tries to roll back under interrupts, which come every `WATCH_EVERY_S`."""

_ENGINE = "SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory()"
"""What the engine holds."""
_MEMORY = f"{_ENGINE} WHERE tag <> 'BASE_TABLE'"
"""What can't be given back at once: all but cached blocks of the file."""

_UNFIT = frozenset(("uhugeint", "bignum", "bit", "variant", "time with time zone"))
"""Types whose values Arrow does not hold as they are."""

_TOLD_APART: Mapping[str, type[duckdb.Error]] = {
    "INTERRUPT Error": duckdb.InterruptException,
    "Out of Memory Error": duckdb.OutOfMemoryException,
    "IO Error": duckdb.IOException,
    "FATAL Error": duckdb.FatalException,
}
"""The engine's errors that are not the statement's, by how their texts begin."""


class QueryRunner:
    """Runs one query at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="ledger-query", initializer=_step_back
        )
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="ledger-query-watch")
        self._running: asyncio.Future[bytes] | None = None
        self._prepared: tuple[Connection, Guard] | None = None

    async def run(
        self, sql: str, *, rows_max: int = QUERY_ROWS_MAX, timeout_s: float = QUERY_TIMEOUT_S
    ) -> bytes:
        """The result as an Arrow IPC stream, with `columns`, `truncated` and `elapsed_s` in its metadata; where pyarrow
        is not installed, as the JSON that `helmr_runtime.core.query_rows` reads.

        Args:
            sql: One SELECT.
            rows_max: Rows after which the result is cut, and says so.
            timeout_s: Seconds after which the query is ended.

        Raises:
            BadQuery: It can't be read or asks for what no query may.
            QueryTimeout, QueryTooLarge: It was ended at a limit.
            QueryBusy: Another one runs.
            StoreUnavailable: The file is not open.
        """
        if self._running is not None and not self._running.done():
            raise QueryBusy("another query runs; one runs at a time", retry_after_s=1)
        loop = asyncio.get_running_loop()
        execution = _Execution(sql, rows_max)
        running = self._running = loop.run_in_executor(
            self._thread, self._database.querying, lambda c: self._execute(c, execution)
        )
        running.add_done_callback(self._ended)
        try:
            await self._watch(running, execution, loop.time() + timeout_s, timeout_s)
        except BaseException:
            # The caller is gone.
            execution.end(QueryTimeout("the query was given up"))
            self._database.interrupt_query()
            raise
        return await running

    async def close(self) -> None:
        """End the query that runs."""
        if self._running is not None:
            self._database.interrupt_query()
            await asyncio.wait([self._running], timeout=LEAVE_TIMEOUT_S)
        self._thread.shutdown(wait=False)
        self._watcher.shutdown(wait=False)

    def _ended(self, running: asyncio.Future[bytes]) -> None:
        if self._running is running:  # else the next has begun
            self._running = None
        if not running.cancelled():
            running.exception()  # the caller may have been answered before

    async def _watch(
        self,
        running: asyncio.Future[bytes],
        execution: _Execution,
        until_s: float,
        timeout_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        memory_max = self._database.query_memory_bytes
        before = await loop.run_in_executor(self._watcher, self._memory, _MEMORY)
        while not running.done():
            await asyncio.wait([running], timeout=WATCH_EVERY_S)
            if running.done():
                return
            if loop.time() >= until_s:
                execution.end(
                    QueryTimeout(f"the query was ended after {timeout_s:g} s", limit_s=timeout_s)
                )
                break
            used = await loop.run_in_executor(self._watcher, self._memory, _MEMORY)
            if used - before > memory_max:
                execution.end(
                    QueryTooLarge(
                        f"the query was ended at {memory_max // 10**6} MB of memory",
                        limit_bytes=memory_max,
                    )
                )
                break
        deadline_s = loop.time() + LEAVE_TIMEOUT_S
        while not running.done():
            # Again and again: an interrupt between two steps of the engine is forgotten.
            self._database.interrupt_query()
            await asyncio.wait([running], timeout=WATCH_EVERY_S)
            if loop.time() > deadline_s and execution.ended_by is not None:
                logger.warning("a query does not leave the engine; none can run until it does")
                raise execution.ended_by

    async def engine_bytes(self) -> int:
        """Return the engine's memory use: cached blocks and working memory; 0 if the engine does not say."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._watcher, self._memory, _ENGINE)

    def _memory(self, query: str) -> int:
        try:
            row = self._database.reading(lambda c: first_row(c.execute(query)))
        except duckdb.Error:
            return 0
        return int(row[0]) if row is not None else 0

    # --- in the thread of queries -----------------------------------------------------------------

    def _execute(self, connection: Connection, execution: _Execution) -> bytes:
        try:
            if self._prepared is None or self._prepared[0] is not connection:
                make_views(connection)
                self._prepared = connection, Guard(connection)
            guard = self._prepared[1]
            connection.execute("BEGIN TRANSACTION READ ONLY")
            try:
                return execution.run(connection, guard)
            finally:
                _rollback(connection)
        except duckdb.Error as error:
            raise execution.translated(error) from error


class _Execution:
    """One query, and why it was ended if it was."""

    def __init__(self, sql: str, rows_max: int) -> None:
        self._sql = sql
        self._rows_max = rows_max
        self.ended_by: HelmrError | None = None

    def end(self, why: HelmrError) -> None:
        """The watcher or the caller ends it, for the first reason given."""
        self.ended_by = self.ended_by or why

    def run(self, connection: Connection, guard: Guard) -> bytes:
        """Check, run and fetch."""
        began_s = time.monotonic()
        guard.check(self._sql)
        relation = connection.sql(self._sql)
        if relation is None:
            raise BadQuery("the statement returns no rows")
        names = _apart(relation.columns)
        columns = []
        for name, kind in zip(names, relation.types, strict=True):
            unfit = sorted(_UNFIT & set(_type_ids(kind)))
            if unfit:
                raise BadQuery(
                    f"column {name!r} has a type that no result can hold: {unfit[0].upper()}",
                    hint="Cast it to VARCHAR.",
                )
            columns.append({"name": name, "type": str(kind)})
        facts: dict[str, Any] = {"columns": columns}
        if has_arrow():
            return self._in_arrow(relation, names, facts, began_s)
        plain, facts["shapes"] = plain_query(sql_alone(self._sql), names, relation.types)
        found = connection.execute(plain)
        batches, facts["truncated"] = self._fetch(
            iter(lambda: found.fetchmany(BATCH_ROWS), []), _size_bytes
        )
        facts["elapsed_s"] = time.monotonic() - began_s
        return query_rows.content_of(facts, itertools.chain.from_iterable(batches))

    def _in_arrow(
        self, relation: Any, names: list[str], facts: dict[str, Any], began_s: float
    ) -> bytes:
        with relation.to_arrow_reader(BATCH_ROWS) as reader:
            batches, facts["truncated"] = self._fetch(
                _read_batches(reader), lambda batch: int(batch.nbytes)
            )
            facts["elapsed_s"] = time.monotonic() - began_s
            fields = [
                field.with_name(name) for field, name in zip(reader.schema, names, strict=True)
            ]
        # Here and not above: hosts import this module and never run a query.
        import pyarrow
        from pyarrow import ipc

        schema = pyarrow.schema(fields, {METADATA_KEY: json.dumps(facts)})
        sink = pyarrow.BufferOutputStream()
        with ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch.rename_columns(names))
        return bytes(sink.getvalue().to_pybytes())

    def _fetch(
        self, reader: Iterable[Any], size_bytes_of: Callable[[Any], int]
    ) -> tuple[list[Any], bool]:
        """Read batches of rows up to the limits; True with them if there were more rows."""
        batches: list[Any] = []
        rows = size_bytes = 0
        for batch in reader:
            if self.ended_by is not None:
                raise self.ended_by
            room = self._rows_max - rows
            if len(batch) > room:
                batches.append(batch[:room])
                return batches, True
            rows += len(batch)
            size_bytes += size_bytes_of(batch)
            if size_bytes > QUERY_BYTES_MAX:
                raise QueryTooLarge(
                    f"the result is over {QUERY_BYTES_MAX // 2**20} MiB after {rows} rows",
                    limit_bytes=QUERY_BYTES_MAX,
                )
            batches.append(batch)
        return batches, False

    def translated(self, error: duckdb.Error) -> HelmrError:
        """Translate the engine's error for the caller."""
        if self.ended_by is not None:
            return self.ended_by
        match error:
            case duckdb.OutOfMemoryException():
                return QueryTooLarge("the query needs more memory than a query gets")
            case duckdb.InterruptException() | duckdb.ConnectionException():
                return StoreUnavailable("the ledger closed while the query ran", retry_after_s=1)
            case duckdb.IOException() | duckdb.FatalException():
                return StoreUnavailable(f"the ledger can't be read: {error}", retry_after_s=1)
            case _:
                return refused_by_engine(error)


def _read_batches(reader: Iterable[Any]) -> Iterator[Any]:
    """Read the batches; raise the engine's own error where Arrow's stream, which carries a text only, fails."""
    try:
        yield from reader
    except OSError as error:
        text = str(error)
        for prefix, kind in _TOLD_APART.items():
            if text.startswith(prefix):
                raise kind(text) from error
        raise duckdb.Error(text) from error


def _apart(names: Sequence[str]) -> list[str]:
    """The names, each once, since rows are dicts of them: a second `a` is `a_1`, as in a subquery."""
    found: dict[str, None] = {}
    taken = set(names)
    numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    for name in names:
        free = name
        while free in found or (free is not name and free in taken):
            free = f"{name}_{next(numbers[name]) + 1}"
        found[free] = None
    return list(found)


def _size_bytes(rows: Sequence[Sequence[str]]) -> int:
    """About as many bytes as the rows' texts have."""
    return sum(len(text) for row in rows for text in row)


def _type_ids(kind: Any) -> Iterator[str]:
    """A type's id and those of what it nests."""
    yield kind.id
    if kind.id in ("list", "array", "struct", "tuple", "map", "union"):
        for _, child in kind.children:
            if not isinstance(child, int):  # an array's size
                yield from _type_ids(child)


def _rollback(connection: Connection) -> None:
    """End the query's transaction.

    The watcher interrupts until the query has left, so an interrupt may hit the rollback itself; a transaction
    left open would refuse every later query and hold the checkpoints up.
    """
    for _ in range(ROLLBACK_TRIES_MAX):
        try:
            connection.rollback()
        except duckdb.TransactionException:
            return  # none is open
        except duckdb.InterruptException:
            continue
        except duckdb.Error as error:
            logger.warning("a query's transaction can't be rolled back: %s", error)
            return
        else:
            return


def _step_back() -> None:
    """Lower this thread's priority; on Linux it is a thread's own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
