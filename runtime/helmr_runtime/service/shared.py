"""What the nouns of the service share: the ledger, the way to a session, the catalog, first receipts of operations.

`Caller` is who asks, and under which operation id (S-51, S-61). `Deduplicator` knows the first receipt of a repeated
operation where a call is refused before it reaches what decides it. Sessions and the ledger look an operation up by
themselves. The service refuses some calls before: the task is gone from the catalog, the payload no longer fits, the
wait is over. Such a refusal is given only after the ledger was asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr import ids
from helmr.errors import HelmrError, Unavailable
from helmr.roles import Role
from helmr_runtime.clock import Clock
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.ports.ledger import Json, LedgerClient
from helmr_runtime.security.secrets import SessionKeys
from helmr_runtime.service.catalog import CatalogView
from helmr_runtime.service.router import Router


def _fresh_operation_id() -> str:
    return ids.new_id(ids.OPERATION)


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's principal and operation id, and what its secret lets it do.

    A caller that gave no id gets a fresh one: tries of the runtime itself then act once, though the
    caller can't repeat the call.

    Attributes:
        principal: Who acts.
        operation_id: Under which the call acts once.
        role: Of its key; None without one.
        public_token: That it came with instead, which is for one thing only.
    """

    principal: Principal
    operation_id: str = field(default_factory=_fresh_operation_id)
    role: Role | None = None
    public_token: ScopedToken | None = None

    def operation(self, name: str, *parts: Any) -> OperationKey:
        """The operation of this call; its hash covers what is asked, of what, and with what.

        Args:
            name: The operation's name in the service.
            parts: Ids of what it is about, then what the request holds, JSON types only.

        Raises:
            BadId: The operation id is none.
        """
        ids.check_id(self.operation_id, ids.OPERATION)
        return OperationKey(
            id=self.operation_id, request_hash=jsontext.same_data_hash([name, *parts])
        )

    @property
    def public_token_id(self) -> str | None:
        """The public token that the call came with."""
        return self.public_token.id if self.public_token is not None else None


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


KeysOf = Callable[[str], Awaitable[SessionKeys | None]]
"""The keys of a session, that secrets of its tokens are derived from; None without master keys."""


@dataclass(frozen=True, slots=True)
class Shared:
    """See each.

    Attributes:
        ledger: Reads, and the start of sessions.
        router: Commands, to the host that has the session.
        catalog: Tasks and streams.
        repeats: First receipts of repeated operations.
        clock: Tells the time.
        keys: Of a session.
        base_url: What callback URLs and links begin with.
    """

    ledger: LedgerClient
    router: Router
    catalog: CatalogView
    repeats: Deduplicator
    clock: Clock
    keys: KeysOf
    base_url: str = ""

    def now(self) -> datetime:
        """The time."""
        return self.clock.now()
