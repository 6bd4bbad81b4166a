"""The ledger's shell: opens the file when first asked, and hands every call on to what is open.

A plain class; the Ray actor around it adds nothing. The constructor does nothing that can fail: a failing open
is answered to the caller and tried again at the next call, so that a restarted actor heals by itself; so is a
writer that stopped.

Invariants: S-63, S-65.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helmr.errors import DataError, NotReady, RuntimeHeld, StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.ledger_facts import Retention
from helmr_runtime.core.session_file import FileSignature
from helmr_runtime.ledger.keepers import KeyKeeper
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.database import Settings
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.pruning import Retainer
from helmr_runtime.ports.ledger import Ledger, LedgerClient
from helmr_runtime.rpc.calls import methods_of
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.session_keys import SessionKeys

Json = dict[str, Any]

LOCK_PATIENCE_S = 2.0
"""How long an open waits for a lock that a killed predecessor's process is about to lose."""

LOCK_RETRY_S = 0.05
"""Between two tries meanwhile."""


class LedgerActor:
    """`helmr_runtime.ports.Ledger` and every read of the service, over one DuckDB file.

    A call opens the file if it is not open, and is then `DuckLedger`'s.

    Args:
        path: The database file; its lock and head mark stand beside it.
        clock: Tells the time and rings deadlines.
        settings: What DuckDB may use.
        ring: The master keys: new chains and the secrets of tokens are derived from them.
        encrypts: Whether bodies of new entries are sealed; None as the file remembers.
        lock_patience_s: How long to wait for another holder's end.
        retention: How long sessions that are over are kept; None keeps them.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        settings: Settings | None = None,
        ring: KeyRing | None = None,
        encrypts: bool | None = None,
        lock_patience_s: float = LOCK_PATIENCE_S,
        retention: Retention | None = None,
    ) -> None:
        self.ring = ring
        self._key_keeper = KeyKeeper(ring)
        self._path = path
        self._clock = clock
        self._settings = settings
        self._encrypts = encrypts
        self._lock_patience_s = lock_patience_s
        self._ledger: DuckLedger | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False
        self._retention = retention
        self._retaining: asyncio.Task[None] | None = None

    if TYPE_CHECKING:  # the methods of the port, which `_forward` gives it

        def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]: ...

    async def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return await getattr(await self._open(), method)(*args, **kwargs)

    async def stats(self) -> Json:
        """Offsets, size, commit latency, counts; `open` is False, with `failure`, while it can't be opened."""
        try:
            ledger = await self._open()
        except (StoreUnavailable, RuntimeHeld, DataError) as error:
            return {"open": False, "failure": error.message, "code": error.code}
        return {"open": True, **await ledger.stats()}

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys; None without master keys."""
        return await self._key_keeper.session_keys(session_id)

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """The signature of a session file, by the newest master key; None without master keys."""
        return await self._key_keeper.sign_file(signed)

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """The id of each master key and the public key that its signatures are checked by, the newest first."""
        return await self._key_keeper.file_keys()

    async def close(self) -> None:
        """Write what is queued and close the file. Later calls are refused."""
        if self._retaining is not None:
            self._retaining.cancel()
            await asyncio.wait([self._retaining])
        async with self._opening:
            self._is_closed = True
            if self._ledger is not None:
                await self._ledger.close()
                self._ledger = None

    # --- inside ---------------------------------------------------------------------------------

    async def _open(self) -> DuckLedger:
        if self._ledger is not None and not self._ledger.is_broken:
            return self._ledger
        async with self._opening:
            if self._is_closed:
                raise NotReady("the ledger is closed")
            if self._ledger is not None and self._ledger.is_broken:
                broken, self._ledger = self._ledger, None
                await broken.close()
            if self._ledger is None:
                self._ledger = await self._open_patiently()
                self._begin_retaining()
            return self._ledger

    def _begin_retaining(self) -> None:
        if self._retention is not None and self._retaining is None:
            retainer = Retainer(self._retention, partial(self._call, "prune"), self._clock)
            self._retaining = asyncio.create_task(retainer.run(), name="retention")

    async def _open_patiently(self) -> DuckLedger:
        until = _now_s() + self._lock_patience_s
        while True:
            try:
                return await open_ledger(
                    self._path,
                    clock=self._clock,
                    settings=self._settings,
                    ring=self.ring,
                    encrypts=self._encrypts,
                )
            except RuntimeHeld:
                if _now_s() >= until:
                    raise
            await asyncio.sleep(LOCK_RETRY_S)


def _forward(method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def forwarded(self: LedgerActor, /, *args: Any, **kwargs: Any) -> Any:
        return await self._call(method, *args, **kwargs)

    forwarded.__name__ = method
    return forwarded


for _method in methods_of(Ledger) | methods_of(LedgerClient) | {"verify_chain", "write_catalog"}:
    if _method not in vars(LedgerActor):
        setattr(LedgerActor, _method, _forward(_method))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
