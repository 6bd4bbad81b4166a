"""SQL over everything that ever happened (docs/sql.md)."""

from __future__ import annotations

import asyncio

from helmr.models import QUERY_ROWS_DEFAULT, QueryAnswer
from helmr.query import QueryResult
from helmr_runtime.rpc.ledger_client import LedgerClient

ROWS_AT_A_TIME = 200
"""Rows that are turned into JSON values between two breaths, so that other callers are answered meanwhile."""


class Queries:
    """SQL of an operator over the public views."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def arrow(self, sql: str, *, limit: int = QUERY_ROWS_DEFAULT) -> bytes:
        """The result as an Arrow IPC stream, as `helmr.query.QueryResult.from_arrow` reads it.

        Raises:
            BadQuery: It can't be read or asks for what no query may.
            QueryTimeout, QueryTooLarge: It was ended at a limit.
            QueryBusy: Another one runs.
        """
        return await self._ledger.query(sql, limit=limit)

    async def rows(self, sql: str, *, limit: int = QUERY_ROWS_DEFAULT) -> QueryAnswer:
        """The result as rows of JSON values. Raises as `arrow`."""
        stream = await self.arrow(sql, limit=limit)
        return await asyncio.to_thread(_answer, stream)


def _answer(stream: bytes) -> QueryAnswer:
    result = QueryResult.from_arrow(stream)
    return QueryAnswer(
        columns=result.columns,
        rows=list(map(list, result.values())),
        truncated=result.truncated,
        elapsed_s=result.elapsed_s,
    )
