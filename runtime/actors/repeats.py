"""What a held session has answered before: a repeated command gets its first receipt (S-61).

What was answered during this adoption, and not too long ago, is in the session's state and `decide` finds it there.
Here is what lies further back: what the ledger found when it loaded the session, or is asked for now.
"""

from __future__ import annotations

from helmr.errors import HelmrError
from runtime.core.commands import Command, Send
from runtime.core.decide import Decision
from runtime.core.decide.commands import repeated_operation
from runtime.core.decide.inputs import key_hash, repeated
from runtime.core.jsontext import same_data_hash
from runtime.core.receipts import receipt_of
from runtime.core.state import SessionState
from runtime.ports import Ledger, Loaded


class Repeats:
    """The memory of one adoption for commands that come again."""

    def __init__(self, state: SessionState, loaded: Loaded, ledger: Ledger) -> None:
        self._state = state
        self._ledger = ledger
        self._operation = loaded.known_operation
        self._key = loaded.known_key
        self._has_older_keys = loaded.has_older_keys

    def is_in_state(self, command: Command) -> bool:
        """`decide` answers it with its first receipt, whatever the session's state is now."""
        if command.operation is not None and command.operation.id in self._state.operations:
            return True
        if not isinstance(command, Send) or command.idempotency_key is None:
            return False
        return (command.stream, key_hash(command.idempotency_key)) in self._state.send_keys

    async def answer(self, command: Command) -> Decision | None:
        """The answer to an operation or idempotency key from before this adoption; None if it is new."""
        operation, entry = command.operation, self._operation
        if operation is not None and entry is not None:
            body = entry.body.get("operation", {})
            if body.get("id") == operation.id:
                known = (body["request_hash"], receipt_of(entry))
                try:
                    return Decision(reply=repeated_operation(known, command))
                except HelmrError as error:
                    return Decision(error=error)
        if not isinstance(command, Send) or command.idempotency_key is None:
            return None
        hashed = key_hash(command.idempotency_key)
        if (command.stream, hashed) in self._state.send_keys:
            return None
        if not (self._has_older_keys or self._state.has_forgotten_keys):
            return None
        older = self._key
        if older is None or older.entry.body.get("key_hash") != hashed:
            older = await self._ledger.known_key(self._state.id, command.stream, hashed)
        if older is None:
            return None
        try:
            return Decision(
                reply=repeated(
                    (older.data_hash, receipt_of(older.entry)), same_data_hash(command.data)
                )
            )
        except HelmrError as error:
            return Decision(error=error)
