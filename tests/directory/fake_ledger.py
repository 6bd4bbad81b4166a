"""A ledger's heads and its work list, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from helmr.errors import Moved, SessionNotFound, Standby, StoreUnavailable
from helmr_runtime.ports import HeldLease
from helmr_runtime.ports.ledger import WorkChanges, WorkItem, WorkPosition
from tests.directory.clock import Clock


@dataclass
class Head:
    """What the fake ledger knows of a session. run: "" (none), queued, running or waiting."""

    epoch: int = 0
    holder: str | None = None
    run: str = ""
    commits: list[str] = field(default_factory=list)


class FakeLedger:
    """Heads and the work list, in memory.

    Attributes:
        abandoned: What `abandon` was called with.
        dead_holders: What `abandon_all` was called with.
        stolen: Sessions that were loaded while the ledger had them as held: nobody had fenced their holder.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.heads: dict[str, Head] = {}
        self.extra: list[WorkItem] = []
        self.abandoned: list[tuple[str, int]] = []
        self.dead_holders: list[str] = []
        self.stolen: list[tuple[str, str]] = []
        self.is_down = False
        self.stands_by = False
        self.leader: str | None = None
        self.terms = 0
        self.load_gate = asyncio.Event()
        self.load_gate.set()
        self._version = 0
        self._changed = asyncio.Condition()

    def add(self, *session_ids: str, run: str = "") -> None:
        for session_id in session_ids:
            self.heads[session_id] = Head(run=run)

    async def queue(self, *session_ids: str) -> None:
        """They have runs to resume."""
        for session_id in session_ids:
            self.heads.setdefault(session_id, Head()).run = "queued"
        await self.bump()

    async def bump(self) -> None:
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    def _check(self) -> None:
        if self.stands_by:
            raise Standby("another runtime is at work")
        if self.is_down:
            raise StoreUnavailable("the ledger is down")

    def restart(self) -> None:
        """It comes back, and knows no term and whom nobody awaits any more."""
        self.leader = None
        self.dead_holders.clear()

    async def load(self, session_id: str, holder: str, term: str | None = None) -> int:
        await self.load_gate.wait()
        self._check()
        if term is not None and (self.leader is None or term != str(self.terms)):
            raise Moved(f"{session_id} was given to {holder} in an earlier term")
        if session_id not in self.heads:
            raise SessionNotFound(f"{session_id} does not exist")
        if holder in self.dead_holders:
            raise Moved(f"{holder} has ended")
        head = self.heads[session_id]
        if head.holder is not None:
            self.stolen.append((session_id, head.holder))
        head.epoch += 1
        head.holder = holder
        await self.bump()
        return head.epoch

    async def record(
        self, session_id: str, epoch: int, text: str, *, run: str | None, release: bool
    ) -> None:
        self._check()
        head = self.heads[session_id]
        if head.epoch != epoch:
            raise Moved(f"{session_id}: epoch {epoch} is old")
        head.commits.append(text)
        if run is not None:
            head.run = run
        if release:
            head.holder = None
        await self.bump()

    async def abandon(self, session_id: str, epoch: int) -> None:
        self._check()
        self.abandoned.append((session_id, epoch))
        head = self.heads[session_id]
        if (head.epoch, head.holder is None) == (epoch, False):
            await self._abandon(head)

    async def abandon_all(self, holder: str) -> None:
        self._check()
        self.dead_holders.append(holder)
        for head in self.heads.values():
            if head.holder == holder:
                await self._abandon(head)

    async def _abandon(self, head: Head) -> None:
        head.epoch += 1
        head.holder = None
        await self.bump()

    async def lead(self, directory: str) -> str:
        self._check()
        if self.leader != directory:
            self.leader, self.terms = directory, self.terms + 1
        return str(self.terms)

    async def held(self) -> Sequence[HeldLease]:
        self._check()
        return [
            HeldLease(session_id=sid, epoch=head.epoch, holder=head.holder)
            for sid, head in self.heads.items()
            if head.holder is not None
        ]

    async def work(self, known: WorkPosition, timeout_s: float) -> WorkChanges:
        async with self._changed:
            while self._version == known[1]:
                await self._changed.wait()
        self._check()
        items = [
            WorkItem(kind="run", session_id=sid, queued_at=self._clock.now())
            for sid, head in self.heads.items()
            if head.run in ("queued", "running") and head.holder is None
        ]
        added = (*self.extra, *items)
        return WorkChanges(position=(self._version, self._version), added=added, is_whole=True)
