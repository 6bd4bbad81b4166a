"""The protocols of `helmr_runtime.ports` over actor calls: what callers hold instead of an actor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helmr_runtime.core.commands import Command
from helmr_runtime.core.receipts import FirstReceipt
from helmr_runtime.core.tokens import LedgerCommand
from helmr_runtime.ports import (
    Adopted,
    Busy,
    CommitReply,
    Death,
    Flush,
    HeldLease,
    KnownKey,
    Lease,
    Loaded,
    Released,
    Report,
    Routed,
    Started,
    StartSession,
    WorkItem,
)
from helmr_runtime.rpc.protocol import DIRECTORY, LEDGER, Calls


class Proxy:
    """An actor by name. `call` reaches what has no typed method here, as the ledger's reads."""

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self.name = name

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call any method of the actor."""
        return await self._calls.call(self.name, method, *args, **kwargs)


class LedgerProxy(Proxy):
    """`helmr_runtime.ports.Ledger` over calls."""

    def __init__(self, calls: Calls, name: str = LEDGER) -> None:
        super().__init__(calls, name)

    async def load(
        self,
        session_id: str,
        holder: str,
        *,
        operation_id: str | None = None,
        key: tuple[str, str] | None = None,
    ) -> Loaded:
        """See `Ledger.load`."""
        loaded: Loaded = await self.call(
            "load", session_id, holder, operation_id=operation_id, key=key
        )
        return loaded

    async def commit(self, flush: Flush) -> CommitReply:
        """See `Ledger.commit`."""
        reply: CommitReply = await self.call("commit", flush)
        return reply

    async def abandon(self, session_id: str, epoch: int) -> None:
        """See `Ledger.abandon`."""
        await self.call("abandon", session_id, epoch)

    async def held(self) -> Sequence[HeldLease]:
        """See `Ledger.held`."""
        held: Sequence[HeldLease] = await self.call("held")
        return held

    async def known_operation(self, operation_id: str) -> FirstReceipt | None:
        """See `Ledger.known_operation`."""
        known: FirstReceipt | None = await self.call("known_operation", operation_id)
        return known

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        """See `Ledger.known_key`."""
        known: KnownKey | None = await self.call("known_key", session_id, stream, key_hash)
        return known

    async def records(self, session_id: str, stream: str, through_seq: int) -> Sequence[Any]:
        """See `Ledger.records`."""
        records: Sequence[Any] = await self.call("records", session_id, stream, through_seq)
        return records

    async def start(self, start: StartSession) -> Started:
        """See `Ledger.start`."""
        started: Started = await self.call("start", start)
        return started

    async def fact(self, fact: LedgerCommand) -> Mapping[str, Any]:
        """See `Ledger.fact`."""
        receipt: Mapping[str, Any] = await self.call("fact", fact)
        return receipt

    async def get_token(self, token_id: str) -> Mapping[str, Any]:
        """See `Ledger.get_token`."""
        found: Mapping[str, Any] = await self.call("get_token", token_id)
        return found

    async def list_tokens(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Mapping[str, Any]:
        """See `Ledger.list_tokens`."""
        found: Mapping[str, Any] = await self.call(
            "list_tokens", status=status, tag=tag, cursor=cursor, limit=limit
        )
        return found

    async def token_end(self, token_id: str) -> Mapping[str, Any] | None:
        """See `Ledger.token_end`."""
        end: Mapping[str, Any] | None = await self.call("token_end", token_id)
        return end

    async def work(self, known: int, timeout_s: float) -> tuple[int, Sequence[WorkItem]]:
        """See `Ledger.work`."""
        work: tuple[int, Sequence[WorkItem]] = await self.call("work", known, timeout_s)
        return work


class SessionProxy(Proxy):
    """`helmr_runtime.ports.Session` over calls."""

    async def adopt(
        self, session_id: str, *, command: Command | None, death: Death | None, catalog_hash: str
    ) -> Adopted:
        """See `Session.adopt`."""
        adopted: Adopted = await self.call(
            "adopt", session_id, command=command, death=death, catalog_hash=catalog_hash
        )
        return adopted

    async def command(self, session_id: str, command: Command) -> Mapping[str, Any]:
        """See `Session.command`."""
        receipt: Mapping[str, Any] = await self.call("command", session_id, command)
        return receipt

    async def release(self, session_id: str, reason: str) -> Released | Busy:
        """See `Session.release`."""
        reply: Released | Busy = await self.call("release", session_id, reason)
        return reply

    async def watch(self, known: int) -> Report:
        """See `Session.watch`."""
        report: Report = await self.call("watch", known)
        return report

    async def who(self) -> Lease:
        """See `Session.who`."""
        holding: Lease = await self.call("who")
        return holding

    async def ping(self) -> None:
        """See `Session.ping`."""
        await self.call("ping")


class DirectoryProxy(Proxy):
    """`helmr_runtime.ports.Directory` over calls."""

    def __init__(self, calls: Calls, name: str = DIRECTORY) -> None:
        super().__init__(calls, name)

    async def route(self, session_id: str, command: Command) -> Routed:
        """See `Directory.route`."""
        routed: Routed = await self.call("route", session_id, command)
        return routed

    async def locate(self, session_id: str) -> str | None:
        """See `Directory.locate`."""
        name: str | None = await self.call("locate", session_id)
        return name

    async def status(self) -> Mapping[str, Any]:
        """See `Directory.status`."""
        status: Mapping[str, Any] = await self.call("status")
        return status
