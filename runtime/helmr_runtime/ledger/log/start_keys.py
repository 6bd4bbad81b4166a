"""The idempotency keys of starts, looked up before a start is queued: many at a time, beside the commits.

A key is known for ever; memory has those of sessions that are open or ended lately, the table all others. A job that
read the table within its batch would hold up every commit that shares the batch, and a task that starts a thousand
children is a thousand such jobs. What a look has found holds for as long as memory has forgotten no session since.

Invariants: S-2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from helmr.errors import HelmrError, StoreUnavailable
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ports import StartSession

KEYS_MAX = 1_000
"""Keys that one read looks for."""


class Looked(NamedTuple):
    """What a look has found: the start's `created_offset`, if there was one, when so many were forgotten."""

    offset: int | None
    forgotten: int


Query = Callable[[Reader], Mapping[str, int]]


class StartKeys:
    """Looks in the table for the keys that are asked for meanwhile.

    Args:
        in_reader: Runs a query on a reader's cursor.
        index: The ledger's memory.
    """

    def __init__(
        self, in_reader: Callable[[Query], Awaitable[Mapping[str, int]]], index: LedgerIndex
    ) -> None:
        self._in_reader = in_reader
        self._index = index
        self._asked: dict[str, list[asyncio.Future[Looked]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def of(self, start: StartSession) -> Looked | None:
        """As `look`, for a start that has a key."""
        key = start.idempotency_key
        return await self.look(key_hash(key)) if key is not None else None

    async def offset(self, hashed: str, looked: Looked | None) -> int | None:
        """`created_offset` of the session started with that key, as of now, given what was found before."""
        if looked is None or looked.forgotten != self._index.forgotten:
            return (await self._read([hashed])).get(hashed)
        return looked.offset

    async def _read(self, keys: Sequence[str]) -> Mapping[str, int]:
        return await self._in_reader(lambda reader: reads.start_keys(reader, keys))

    async def look(self, hashed: str) -> Looked:
        """Whether a session was started with that key.

        Raises:
            StoreUnavailable: The engine can't answer now.
        """
        future: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(hashed, []).append(future)
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all())
        return await future

    async def _read_all(self) -> None:
        asked: dict[str, list[asyncio.Future[Looked]]] = {}
        try:
            while self._asked:
                asked = {key: self._asked.pop(key) for key in list(self._asked)[:KEYS_MAX]}
                forgotten = self._index.forgotten
                try:
                    found = await self._read(list(asked))
                except HelmrError as error:
                    _fail(asked, error)
                    continue
                for key, futures in asked.items():
                    for future in futures:
                        if not future.done():
                            future.set_result(Looked(found.get(key), forgotten))
        finally:
            self._reading = None
            _fail({**asked, **self._asked}, StoreUnavailable("the ledger is closing"))
            self._asked.clear()


def _fail(asked: Mapping[str, list[asyncio.Future[Looked]]], error: HelmrError) -> None:
    for futures in asked.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)
