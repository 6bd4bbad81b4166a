"""What the code of a held session needs of the adoption that it belongs to; `LiveSession` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from helmr_runtime.catalog import Registered
from helmr_runtime.core.decide.decision import Context
from helmr_runtime.core.entries import Draft, Entry
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay import RunDriver
from helmr_runtime.replay.durable_context import Secrets


class Owner(Protocol):
    """One adoption of one session."""

    state: SessionState
    registered: Registered | None
    code_hash: str
    linger_s: float
    replay_always: bool
    silence_s: float
    is_exclusive: bool
    is_retiring: bool
    secrets: Secrets | None

    def context(self) -> Context:
        """The circumstances of a decision made now."""
        ...

    def write(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Seal, apply and buffer."""
        ...

    def flush_now(self) -> None:
        """Write what is buffered."""
        ...

    def when_durable(self, seq: int, call: Any) -> None:
        """Call when that seq is on disk."""
        ...

    def retire(self, reason: str) -> None:
        """Parts of the code did not end: the session runs here no more, and can be parked for that."""
        ...

    async def durable(self, seq: int) -> bool:
        """Wait until that seq is on disk; false if the adoption ended before."""
        ...

    def code_closed(self) -> None:
        """The run's code has ended, or did not start, or a thread that it left has ended."""
        ...

    async def open_token_wait(self, driver: RunDriver, op: int, ask: WaitRequest) -> None:
        """Open a wait whose precondition lies outside the session."""
        ...
