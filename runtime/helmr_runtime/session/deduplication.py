"""What a held session has answered before: a repeated command gets its first receipt (S-61).

What was answered during this adoption, and not too long ago, is in the session's state and `decide` finds it there.
What lies further back the ledger knows. It is asked before a decision if the operation id is older than this
adoption, and else when the decision would write nothing: a commit tells by itself that the operation is new, a refusal
does not.
"""

from __future__ import annotations

from datetime import datetime

from helmr import ids
from helmr.errors import HelmrError
from helmr_runtime.core.commands import Command, Operation, Send
from helmr_runtime.core.decide import Decision
from helmr_runtime.core.decide.inputs import key_hash, repeated
from helmr_runtime.core.receipts import FirstReceipt, receipt_of
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import KnownKey, Ledger, Loaded


class Deduplicator:
    """The memory of one adoption for commands that come again.

    Args:
        state: What this adoption has folded.
        loaded: What the ledger gave.
        asked: The operation that the ledger was asked for meanwhile.
        since: When the adoption began.
    """

    def __init__(
        self,
        state: SessionState,
        loaded: Loaded,
        ledger: Ledger,
        *,
        asked: Operation | None,
        since: datetime,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._since = since
        self._told: tuple[str, FirstReceipt | None] | None = (
            (asked.id, loaded.known_operation) if asked is not None else None
        )
        """The operation that the ledger was asked for last, and what it said."""
        self._key = loaded.known_key
        self._has_older_keys = loaded.has_older_keys

    def is_in_state(self, command: Command) -> bool:
        """`decide` answers it with its first receipt, whatever the session's state is now."""
        if command.operation is not None and command.operation.id in self._state.operations:
            return True
        if not isinstance(command, Send) or command.idempotency_key is None:
            return False
        return (command.stream, key_hash(command.idempotency_key)) in self._state.send_keys

    # --- operations -----------------------------------------------------------------------------

    async def before(self, command: Command) -> Decision | None:
        """The answer to an operation from before this adoption, as far as its id's time shows that; else None.

        A repetition that is taken for new is found out by its commit, which costs the adoption and aborts the code.
        """
        operation = command.operation
        if operation is None or operation.id in self._state.operations:
            return None
        if self._told is not None and self._told[0] != operation.id:
            self._told = None
        made_at = ids.made_at(operation.id)
        if self._told is None and made_at is not None and made_at > self._since:
            return None
        return await self.again(command)

    def is_open(self, command: Command, decision: Decision) -> bool:
        """No commit tells whether the operation is new, and the ledger has not been asked."""
        operation = command.operation
        if operation is None or operation.id in self._state.operations:
            return False
        is_committed = bool(decision.drafts) and decision.error is None
        return not is_committed and (self._told is None or self._told[0] != operation.id)

    async def again(self, command: Command) -> Decision | None:
        """The first receipt if the ledger knows the operation, or its conflict; None if it is new.

        Raises:
            Unavailable: The ledger does not answer: nobody knows.
        """
        operation = command.operation
        assert operation is not None
        if self._told is None or self._told[0] != operation.id:
            self._told = (operation.id, await self._ledger.known_operation(operation.id))
        first = self._told[1]
        if first is None:
            return None
        try:
            return Decision(reply=first.again(operation, command.principal))
        except HelmrError as error:
            return Decision(error=error)

    # --- idempotency keys -----------------------------------------------------------------------

    async def by_key(self, command: Command) -> Decision | None:
        """The answer to an idempotency key from before this adoption; None if it is new."""
        if not isinstance(command, Send) or command.idempotency_key is None:
            return None
        hashed = key_hash(command.idempotency_key)
        if (command.stream, hashed) in self._state.send_keys:
            return None
        older = await self._older_key(command.stream, hashed)
        if older is None:
            return None
        known = (older.data_hash, receipt_of(older.entry))
        try:
            return Decision(reply=repeated(known, command.data))
        except HelmrError as error:
            return Decision(error=error)

    async def _older_key(self, stream: str, hashed: str) -> KnownKey | None:
        if not (self._has_older_keys or self._state.has_forgotten_keys):
            return None
        if self._key is not None and self._key.is_of(stream, hashed):
            return self._key
        return await self._ledger.known_key(self._state.id, stream, hashed)
