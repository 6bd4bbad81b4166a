"""The router brings a command to the host that holds its session, and the receipt back.

It owns the map from session to host: a hot session costs one call. The directory is asked only if the host is unknown,
lost the session, or crashed. Every try of a command carries the same operation id, so a command that ran before its
host crashed does not run twice (S-61).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from helmr.errors import Moved, OutcomeUnknown, Overloaded, Unavailable
from helmr_runtime import faults, tracing
from helmr_runtime.core.commands import AnswerWait, SessionCommand, TokenEnded
from helmr_runtime.faults import Point
from helmr_runtime.ports import ClaimsKept, Directory, Host
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound, ActorOverloaded, CallError
from helmr_runtime.service.lru_cache import LruCache

T = TypeVar("T")

COMMIT_TIMEOUT_S = 10.0
"""Longest that a caller waits for its commit."""

DRY_RUN_TIMEOUT_S = 25.0
"""Longest that a dry run takes, including the start of another host; its code has ten seconds."""

DRY_RUN_AGAIN_S = 3.0

CLAIM_TOLD_S = 2.0
"""Longest that a claim waits until the session's host knows it; a paused host gets it once it goes on."""

HOSTS_KNOWN_MAX = 10_000
HOST_KNOWN_S = 30.0
"""A waiting session stays hot for this long. An older one has most likely parked: to ask its old host would only add a
fifth call to its answer."""

IN_FLIGHT_MAX = 1_000
"""Commands under way at once; more would wait longer than their callers do (S-64)."""

PAUSE_S = 0.05
PAUSE_MAX_S = 1.0
TRIES_PER_S = 500
"""Pauses while the directory or the ledger is away. Each command is retried after `PAUSE_S`; if all of them together
would exceed `TRIES_PER_S`, after up to `PAUSE_MAX_S`."""


class Router:
    """Calls hosts, and retries while none answers.

    Args:
        directory: Knows the host of each session.
        host: The host with that name.
        at_work: Raises if this runtime stands by: its directory serves no one, and calls would retry until they time
            out.
        commit_timeout_s: Longest that a command may take.
    """

    def __init__(
        self,
        directory: Directory,
        host: Callable[[str], Host],
        *,
        at_work: Callable[[], Awaitable[None]],
        commit_timeout_s: float = COMMIT_TIMEOUT_S,
    ) -> None:
        self._directory = directory
        self._host = host
        self._at_work = at_work
        self._commit_timeout_s = commit_timeout_s
        self._hosts: LruCache[str, str] = LruCache(
            HOSTS_KNOWN_MAX, age_max_s=HOST_KNOWN_S, monotonic=_monotonic
        )
        self.in_flight = 0
        self._trying_again = 0

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        """Send a command to its session; returns the receipt once it is on disk (S-60).

        Raises:
            OutcomeUnknown: No answer in time, and the command may have run.
            Unavailable: No answer in time, and it has not run.
            Overloaded: Too many commands are under way; this one was not tried.
            Standby: Another runtime is at work.
            HelmrError: The session refused the command.
        """
        if tracing.is_on:
            command = replace(command, trace=tracing.current())

        async def ask() -> Mapping[str, Any]:
            await self._at_work()
            if faults.on_point is not None:
                faults.reach(Point.GATEWAY_BEFORE_CALL)
            host = self._hosts.get(session_id)
            if host is None:
                return await self._route(session_id, command)
            try:
                return await self._host(host).command(session_id, command)
            except (Moved, CallError):
                self._hosts.drop(session_id)
                raise

        reply = await self._until_answered(ask, f"{session_id}: {type(command).__name__}")
        if faults.on_point is not None:
            faults.reach(Point.GATEWAY_AFTER_CALL)
        return reply

    async def dry_run(self, session_id: str, command: AnswerWait | TokenEnded) -> Mapping[str, Any]:
        """Dry-run an answer in some host.

        Raises:
            Unavailable: No host could, or hosts crashed over it. Nothing has happened.
            Overloaded: Too many dry runs are under way.
            Standby: Another runtime is at work.
            HelmrError: The answer itself would raise this.
        """
        try:
            async with asyncio.timeout(DRY_RUN_TIMEOUT_S):
                await self._at_work()
                return await self._dry_run(session_id, command)
        except (TimeoutError, CallError) as error:
            raise Unavailable(
                f"{session_id}: no host could dry-run the answer",
                hint="Nothing has happened. The host of an earlier one may be ending, whose code did not: try again "
                "in a few seconds.",
                retry_after_s=DRY_RUN_AGAIN_S,
            ) from error

    async def _dry_run(
        self, session_id: str, command: AnswerWait | TokenEnded
    ) -> Mapping[str, Any]:
        """Try a second host if the first one crashes: an earlier dry run may be the cause. Never try a third: this dry
        run may be.
        """
        crashes = 0
        while True:
            name = await self._directory.any_host()
            try:
                return await self._host(name).dry_run(session_id, command)
            except ActorNotFound:
                pass
            except ActorDied:
                crashes += 1
                if crashes > 1:
                    raise
            await asyncio.sleep(PAUSE_S)

    async def tell_claims(self, session_id: str, kept: ClaimsKept) -> None:
        """Send the claims on a wait to the session's host. If it crashed or released the session, the next host reads
        them from the ledger.
        """
        if kept.claims is None or kept.holder is None:
            return
        with suppress(TimeoutError, Moved, CallError):
            async with asyncio.timeout(CLAIM_TOLD_S):
                await self._host(kept.holder).note_claims(session_id, kept.claims)

    async def write(self, make: Callable[[], Awaitable[T]], *, what: str) -> T:
        """Write to the ledger without a host; retries while the ledger is away.

        The write names its operation, so a repeated one gets the first receipt.

        Raises:
            OutcomeUnknown: No answer in time, and the write may have run.
            Unavailable: No answer in time, and it has not run.
            Overloaded: Too many commands are under way; this one was not tried.
        """
        return await self._until_answered(make, what)

    async def _route(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        routed = await self._directory.route(session_id, command)
        if routed.host is not None:
            self._hosts.put(session_id, routed.host)
        return routed.reply

    async def _until_answered(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """Ask until there is an answer. The second try comes at once: most likely only the address was old."""
        has_run = may_have_run = False
        failed = 0
        async with self._admitted():
            try:
                async with asyncio.timeout(self._commit_timeout_s):
                    while True:
                        may_have_run = True
                        try:
                            return await ask()
                        except (Moved, ActorNotFound):
                            may_have_run = has_run
                        except ActorOverloaded:
                            if not has_run:
                                raise
                        except CallError:
                            has_run = True
                        failed += 1
                        await asyncio.sleep(self._pause_s(failed))
            except TimeoutError:
                if may_have_run:
                    raise OutcomeUnknown(
                        f"{what}: no answer in {self._commit_timeout_s:g} s"
                    ) from None
                raise Unavailable(
                    f"{what}: no host could take it within {self._commit_timeout_s:g} s",
                    hint="Nothing was stored; try again.",
                ) from None
            finally:
                self._trying_again -= failed > 0

    def _pause_s(self, failed: int) -> float:
        """The pause in seconds before the next try of a command that failed so many times."""
        if failed == 1:
            self._trying_again += 1
            return 0.0
        return min(PAUSE_MAX_S, max(PAUSE_S, self._trying_again / TRIES_PER_S))

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self.in_flight >= IN_FLIGHT_MAX:
            raise Overloaded(
                f"{self.in_flight} commands are under way", hint="Try again.", retry_after_s=1
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
