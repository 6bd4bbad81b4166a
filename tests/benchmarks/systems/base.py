"""What a system is to the load generator."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import httpx

from tests.benchmarks.processes import Server

START_S = 90.0
POLL_S = 0.1
KEPT_ALIVE_S = 2.0
"""Shorter than any of the servers', which close an idle connection while a call may be on its way."""
OVERLOADED = (429, 503)
RETRY_AFTER_S = 1.0
"""Where a refusal does not say."""


class Missing(Exception):
    """What a system needs is not installed; the text is one line that says how to get it."""


class System(abc.ABC):
    """One system, with the two tasks that all have.

    The chat waits for messages and gives each back where its caller can see it; the busy one awaits two seconds in one
    step. `begin_…` and `send` return when what they did is acknowledged and so on disk.
    """

    name: ClassVar[str]
    refused = 0
    """Calls that were refused for too much at once, and made again when they should be."""

    @classmethod
    @abc.abstractmethod
    def check(cls) -> None:
        """Raise `Missing` if it can't be started here."""

    @abc.abstractmethod
    async def start(self, folder: Path) -> None:
        """Start its servers with everything they write below the folder."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """End them."""

    @abc.abstractmethod
    def roots(self) -> list[int]:
        """The processes whose trees are its servers."""

    @abc.abstractmethod
    def settings(self) -> dict[str, str]:
        """Versions, and what decides when a write is on disk; asked while it runs."""

    @abc.abstractmethod
    async def begin_chat(self, turns: int) -> str:
        """Start a session that takes so many messages; its id."""

    @abc.abstractmethod
    async def begin_busy(self, duration_s: float) -> str:
        """Start a session whose one step awaits so long; its id."""

    @abc.abstractmethod
    async def waits(self, session: str) -> None:
        """Return when the chat waits for its first message."""

    @abc.abstractmethod
    async def send(self, session: str, turn: int, message: str) -> None:
        """Send a message."""

    @abc.abstractmethod
    async def reply(self, session: str, turn: int) -> str:
        """What the chat gave back for that message, when its caller can see it."""

    @abc.abstractmethod
    async def ended(self, session: str) -> None:
        """Return when a session's task has ended."""

    async def parked(self) -> None:
        """Return when no waiting session is in memory."""
        raise NotImplementedError(f"{self.name} does not park")


class HttpSystem(System):
    """A system behind HTTP: servers, and the connections of the callers."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(900.0),
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=None,
                keepalive_expiry=KEPT_ALIVE_S,
            ),
            trust_env=False,
        )

    def roots(self) -> list[int]:
        return [server.pid for server in self.servers]

    async def stop(self) -> None:
        await self.http.aclose()
        for server in reversed(self.servers):
            await asyncio.to_thread(server.stop)
        self.servers.clear()

    async def post(self, path: str, content: object) -> httpx.Response:
        """A call's answer; one that is refused for too much at once is made again when the refusal says."""
        while True:
            answer = await self.http.post(path, json=content)
            if answer.status_code not in OVERLOADED:
                return answer.raise_for_status()
            self.refused += 1
            await asyncio.sleep(float(answer.headers.get("Retry-After", RETRY_AFTER_S)))

    async def answers(self, ask: Callable[[], object] | str) -> None:
        """Return when a URL answers with success, or a question with something true."""
        async with asyncio.timeout(START_S):
            while True:
                for server in self.servers:
                    server.check()
                if isinstance(ask, str):
                    with contextlib.suppress(httpx.HTTPError):
                        if (await self.http.get(ask, timeout=5.0)).is_success:
                            return
                elif ask():
                    return
                await asyncio.sleep(POLL_S)
