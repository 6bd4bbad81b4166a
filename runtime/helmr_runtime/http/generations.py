"""The header by which clients carry the generation of a promoted ledger to the one that it has left behind (S-68)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from starlette.responses import Response

from helmr.client.headers import HEADER, LEDGERS_MAX, STAMP_CHARS_MAX
from helmr.errors import HelmrError, LedgerSuperseded
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.service.copies import Copies

logger = logging.getLogger(__name__)

STAMP_WITHIN_S = 0.5


class Generations:
    """What this gateway's ledger is told, and what it says of itself."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._stamp: str | None = None
        self._is_known = False
        self._asking: asyncio.Task[None] | None = None
        self._is_first = True
        self._superseded: LedgerSuperseded | None = None

    async def meet(self, exchange: Exchange) -> None:
        """Tell the ledger what an authenticated client has met, if it says anything.

        Raises:
            Unavailable: The ledger does not answer; the client tries again.
            LedgerSuperseded: It has a successor, and this request may change something.
        """
        try:
            if self._superseded is None:
                await self._meet(exchange)
        except LedgerSuperseded as error:
            self._superseded = error
        if self._superseded is not None and exchange.method not in ("GET", "HEAD"):
            raise self._superseded

    async def _meet(self, exchange: Exchange) -> None:
        said = exchange.headers.get(HEADER)
        if said is not None and len(said) <= (STAMP_CHARS_MAX + 1) * LEDGERS_MAX:
            await self._copies.meet([stamp.strip() for stamp in said.split(",")])
        if not self._is_known:
            await self._know_stamp()

    async def _know_stamp(self) -> None:
        """Have the ledger asked, once for all requests of that time.

        Only the first question is waited for: a ledger that is away holds up nothing that can do without it.
        """
        is_first = self._asking is None
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_stamp(), name="stamp")
            self._is_first = is_first
        if self._is_first:
            await asyncio.shield(self._asking)

    async def _ask_stamp(self) -> None:
        with suppress(HelmrError, TimeoutError):
            async with asyncio.timeout(STAMP_WITHIN_S):
                self._stamp = await self._copies.stamp()
            self._is_known = True

    def tell(self, response: Response) -> None:
        """Have an answer say which generation this ledger is of."""
        if self._stamp is not None:
            response.headers[HEADER] = self._stamp
