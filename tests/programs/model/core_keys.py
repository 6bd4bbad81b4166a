"""What the core door's sessions answer to idempotency keys from before they were parked: hosts' own `RepeatedCommands`.

It asks a ledger that has all entries and answers at once.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, cast

from helmr_runtime.core.commands import Send
from helmr_runtime.core.decide import Decided
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.memory_rows import KeptEntries
from helmr_runtime.ports import KnownKey, Loaded
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.session.commands import RepeatedCommands


class Keys:
    """The memories of all adoptions, and what the ledger knows.

    Args:
        feed: Every entry.
    """

    def __init__(self, feed: KeptEntries) -> None:
        self._feed = feed
        self._parked: dict[str, SessionState] = {}
        self._adopted: dict[str, RepeatedCommands] = {}

    def parked(self, state: SessionState) -> None:
        """Nobody holds the session; it will go on with this state."""
        self._parked[state.id] = state
        self._adopted.pop(state.id, None)

    def repeated(self, command: Send, session_id: str, now: datetime) -> Decided | None:
        """The answer to a key that is not in the session's state; None if it is new."""
        state = self._parked.pop(session_id, None)
        if state is not None:
            self._adopted[session_id] = self._adopt(state, command, now)
        held = self._adopted.get(session_id)
        return _at_once(held.by_key(command)) if held is not None else None

    def _adopt(self, state: SessionState, command: Send, now: datetime) -> RepeatedCommands:
        """The session comes to a host with a command, and with what the ledger knows of its key."""
        key = command.idempotency_key
        known = self._find(state.id, command.stream, key_hash(key)) if key is not None else None
        loaded = Loaded(epoch=1, checkpoint=None, entries=(), known_key=known, has_older_keys=True)
        return RepeatedCommands(state, loaded, cast(Ledger, self), asked=None, since=now)

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        """As the ledger does."""
        return self._find(session_id, stream, key_hash)

    def _find(self, session_id: str, stream: str, hashed: str) -> KnownKey | None:
        for entry in self._feed:
            is_its = entry.session_id == session_id and entry.kind is EntryKind.INPUT_ACCEPTED
            body = entry.body if is_its else {}
            if (body.get("stream"), body.get("key_hash")) == (stream, hashed):
                return KnownKey(data_hash=body["data_hash"], entry=entry)
        return None


def _at_once(coroutine: Coroutine[Any, Any, Decided | None]) -> Decided | None:
    """What it gives; it waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(Decided | None, done.value)
    raise AssertionError("it waits")
