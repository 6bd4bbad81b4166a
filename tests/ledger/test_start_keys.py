"""Idempotency keys of starts are looked up many at a time, beside the commits, and what was found stays true."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from helmr.errors import StoreUnavailable
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.jobs import Looked, StartKeys
from tests.ledger.sessions import start_of


class Table:
    """Answers when it is told to."""

    def __init__(self, rows: Mapping[str, int]) -> None:
        self.rows = dict(rows)
        self.reads: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.error: StoreUnavailable | None = None

    def keys(self) -> StartKeys:
        """Over this table."""
        found = StartKeys(lambda query: query(None), LedgerIndex())  # type: ignore[arg-type, return-value]
        found._read = self.read  # type: ignore[method-assign]
        return found

    async def read(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.reads.append(list(keys))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return {key: self.rows[key] for key in keys if key in self.rows}


async def test_keys_that_are_asked_for_meanwhile_share_the_next_read() -> None:
    table = Table({"b": 7})
    keys = table.keys()
    looks = [asyncio.create_task(keys.look(key)) for key in ("a", "b", "c", "b")]
    await asyncio.sleep(0)
    first = asyncio.create_task(keys.look("d"))
    await asyncio.sleep(0)
    table.may_answer.set()
    found = [await look for look in (*looks, first)]
    assert [one.offset for one in found] == [None, 7, None, 7, None]
    assert len(table.reads) <= 2
    assert sorted(key for read in table.reads for key in read) == ["a", "b", "c", "d"]


async def test_a_read_that_fails_fails_those_who_asked_and_no_others() -> None:
    table = Table({})
    table.error = StoreUnavailable("the disk is gone")
    table.may_answer.set()
    keys = table.keys()
    with pytest.raises(StoreUnavailable):
        await keys.look("a")
    table.error = None
    assert await keys.look("a") == Looked(None, 0)


async def test_many_starts_with_keys_read_the_table_a_few_times(
    duck: DuckLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    stored = duck._start_keys._read

    async def counted(keys: Sequence[str]) -> Mapping[str, int]:
        reads.append(len(keys))
        return await stored(keys)

    monkeypatch.setattr(duck._start_keys, "_read", counted)
    starts = [start_of(idempotency_key=f"key {n}") for n in range(200)]
    started = await asyncio.gather(*(duck.start(start) for start in starts))
    assert all(one.created for one in started)
    assert sum(reads) == 200
    assert len(reads) <= 20
    again = await asyncio.gather(
        *(duck.start(start_of(idempotency_key=f"key {n}")) for n in range(200))
    )
    assert [one.session_id for one in again] == [one.session_id for one in started]
    assert not any(one.created for one in again)


async def test_a_session_that_memory_forgets_between_look_and_batch_is_found(
    duck: DuckLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await duck.start(start_of(idempotency_key="once"))
    await duck.read_tables(lambda reader: None)
    looked = Looked(None, duck.index.forgotten)  # as if asked for before the first start was stored

    async def stale(hashed: str) -> Looked:
        assert hashed == key_hash("once")
        return looked

    monkeypatch.setattr(duck._start_keys, "look", stale)
    duck.index._forget(duck.index.heads[first.session_id])
    again = await duck.start(start_of(idempotency_key="once"))
    assert (again.created, again.session_id) == (False, first.session_id)
