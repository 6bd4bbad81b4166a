"""The deduplicator finds the first receipt of a repeated operation.

A call may be refused before it reaches what decides it: the task is gone from the catalog, the payload no longer fits,
the wait is over. The ledger is asked before such a refusal is given. Sessions and the ledger look an operation up by
themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from helmr.errors import HelmrError, Unavailable
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.ports.ledger import Json, LedgerClient
from helmr_runtime.service.caller import Caller


class Deduplicator:
    """What the ledger knows of operations."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def first(self, caller: Caller, operation: OperationKey) -> Json | None:
        """The first receipt, None if the operation is new.

        Raises:
            OperationConflict: The id was used with another request.
            Unavailable: The ledger does not answer: no one knows.
        """
        known = await self._ledger.known_operation(operation.id)
        return known.again(operation, caller.principal) if known is not None else None

    async def receipt(
        self, caller: Caller, operation: OperationKey, write: Callable[[], Awaitable[Json]]
    ) -> Json:
        """What `write` gives; if it is refused, the first receipt of the operation if there is one.

        Raises:
            OperationConflict: The id was used with another request.
            HelmrError: The refusal.
        """
        try:
            return await write()
        except Unavailable:
            raise  # no refusal: the caller is to repeat it
        except HelmrError:
            first = await self.first(caller, operation)
            if first is None:
                raise
            return first
