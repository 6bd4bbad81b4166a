"""All parts of the service share the ledger, the router, the catalog and the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from helmr_runtime.clock import Clock
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.security.secrets import SessionKeys
from helmr_runtime.service.catalog_view import CatalogView
from helmr_runtime.service.repeats import Deduplicator
from helmr_runtime.service.router import Router

KeysOf = Callable[[str], Awaitable[SessionKeys | None]]
"""Returns the keys of a session, from which secrets of its tokens are derived; None without master keys."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of the runtime that operations of every noun need.

    Attributes:
        ledger: Serves reads, and starts sessions.
        router: Sends commands to the host of a session.
        catalog: Tasks and streams.
        repeats: Finds first receipts of repeated operations.
        clock: Tells the time.
        keys: Returns the keys of a session.
        base_url: The base of callback URLs and links.
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
