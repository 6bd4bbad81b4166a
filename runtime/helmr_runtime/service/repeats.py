"""The deduplicator finds the first receipt of a repeated operation.

A call may be refused before it reaches the session or the ledger: the task is gone from the catalog, the payload no
longer fits, the wait is over. Such a refusal first looks the operation up here. Sessions and the ledger look up
operations themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from helmr.errors import HelmrError, Unavailable
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.ports.ledger import Json, LedgerClient
from helmr_runtime.service.caller import Caller


class Deduplicator:
    """Looks up operations that the ledger has accepted."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def first(self, caller: Caller, operation: OperationKey) -> Json | None:
        """The first receipt, None if the operation is new.

        Raises:
            OperationConflict: The id was used with another request.
            Unavailable: The ledger does not answer.
        """
        known = await self._ledger.known_operation(operation.id)
        return known.again(operation, caller.principal) if known is not None else None

    async def receipt(
        self, caller: Caller, operation: OperationKey, write: Callable[[], Awaitable[Json]]
    ) -> Json:
        """Return the receipt of `write`; if it is refused, the operation's first receipt, if there is one.

        Raises:
            OperationConflict: The id was used with another request.
            HelmrError: The refusal.
        """
        try:
            return await write()
        except Unavailable:
            raise  # no refusal: the caller must repeat it
        except HelmrError:
            first = await self.first(caller, operation)
            if first is None:
                raise
            return first
