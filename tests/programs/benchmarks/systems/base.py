"""What a system is to the load generator."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import aiohttp

from tests.programs.benchmarks.processes import Server

START_S = 120.0
POLL_S = 0.1
KEPT_ALIVE_S = 2.0
"""Shorter than any of the servers', which close an idle connection while a call may be on its way."""
CALL_S = 900.0
OVERLOADED = (429, 503)
RETRY_AFTER_S = 1.0
"""Where a refusal does not say."""
CALLERS = 16
"""Who start and answer at once where the case does not say."""
INBOX = 50
"""Sessions on a page of those that wait."""


class Missing(Exception):
    """What a system needs is not installed; the text is one line that says how to get it."""


class System(abc.ABC):
    """One system, with the three tasks that all have.

    The chat waits for messages and gives each back where its caller can see it; the busy one awaits two seconds in one
    step; the third has three steps that do nothing. `begin_…` and `send` return when what they did is acknowledged and
    so on disk.
    """

    name: ClassVar[str]
    reasons: ClassVar[Mapping[str, str]] = {}
    """The cases that it can't do, and why."""
    parks: ClassVar[bool] = False
    """Waiting sessions leave its memory."""
    held_max: ClassVar[int] = 1_000
    """Most waiting sessions that it is made to hold: by its API, a hundred a second or so."""
    pace: ClassVar[int] = 1
    """By what the number of hot answers is divided: more than 1 for a system that takes a second for each."""
    refused = 0
    """Calls that were refused for too much at once, and made again when they should be."""

    @classmethod
    @abc.abstractmethod
    def check(cls) -> None:
        """Raise `Missing` if it can't be started here."""

    @classmethod
    def cannot(cls, case: str, size: int) -> str | None:
        """Why it can't do a case of that size; None if it can."""
        if case == "d-parked" and not cls.parks:
            return "does not park"
        if case == "h" and size > cls.held_max:
            return "so many can be made by its API only, which takes too long"
        return cls.reasons.get(case)

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
    async def begin_steps(self) -> str:
        """Start a session of three steps; its id."""

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

    # --- what not every system can; `reasons` says so ---------------------------------------------

    async def parked(self) -> None:
        """Return when no waiting session is in memory."""
        raise NotImplementedError(f"{self.name} does not park")

    async def hold(self, count: int) -> str:
        """Have so many chats wait for their one message, in the way that is quickest; the id of one of them."""
        sessions = await started(self, count, 1)
        return sessions[0]

    async def restart(self) -> None:
        """End what is started with every deployment and start it again on what is stored; return when it is ready."""
        raise NotImplementedError(f"{self.name} has no server")

    async def inbox(self) -> int:
        """Read the first page of those that wait; how many are on it."""
        raise NotImplementedError(f"{self.name} lists nothing")

    async def send_by_command(self, session: str, message: str) -> None:
        """Send a message by the system's command line, from a shell."""
        raise NotImplementedError(f"{self.name} has no such command")


async def at_once(count: int, callers: int, act: Callable[[int], Any]) -> None:
    """`act(0)` to `act(count - 1)`, so many at a time."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await act(number)

    await asyncio.gather(*(caller() for _ in range(min(callers, count))))


async def started(system: System, count: int, turns: int) -> list[str]:
    """Sessions that wait for their first message."""
    sessions = [""] * count

    async def start(number: int) -> None:
        sessions[number] = await system.begin_chat(turns)

    await at_once(count, CALLERS, start)
    await asyncio.gather(*map(system.waits, sessions))
    return sessions


class HttpSystem(System):
    """A system behind HTTP: servers, and the connections of the callers."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.url = ""
        self.headers: dict[str, str] = {}
        self._http: aiohttp.ClientSession | None = None

    @property
    def http(self) -> aiohttp.ClientSession:
        """The callers' connections; made on the loop that uses them."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=CALL_S),
            )
        return self._http

    def roots(self) -> list[int]:
        return [server.pid for server in self.servers]

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None
        for server in reversed(self.servers):
            await asyncio.to_thread(server.stop)
        self.servers.clear()

    async def get(self, path: str) -> Any:
        """What a GET answers, as JSON."""
        async with self.http.get(self.url + path, headers=self.headers) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def post(self, path: str, content: object) -> Any:
        """What a POST answers, as JSON; one that is refused for too much at once is made again."""
        while True:
            async with self.http.post(
                self.url + path, json=content, headers=self.headers
            ) as answer:
                if answer.status not in OVERLOADED:
                    answer.raise_for_status()
                    text = await answer.read()
                    return json.loads(text) if text else None
            self.refused += 1
            await asyncio.sleep(float(answer.headers.get("Retry-After", RETRY_AFTER_S)))

    async def lines(self, path: str, connected: asyncio.Event | None = None) -> AsyncIterator[str]:
        """The data of server-sent events."""
        headers = {**self.headers, "Accept": "text/event-stream"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.http.get(self.url + path, headers=headers, timeout=timeout) as answer:
            answer.raise_for_status()
            if connected is not None:
                connected.set()
            async for line in answer.content:
                if line.startswith(b"data:"):
                    yield line[5:].decode()

    async def answers(self, ask: Callable[[], object] | str) -> None:
        """Return when a URL answers with success, or a question with something true."""
        async with asyncio.timeout(START_S):
            while True:
                for server in self.servers:
                    server.check()
                if isinstance(ask, str):
                    if await self._is_success(ask):
                        return
                elif ask():
                    return
                await asyncio.sleep(POLL_S)

    async def _is_success(self, url: str) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=5.0)
            async with self.http.get(url, headers=self.headers, timeout=timeout) as answer:
                return answer.ok
        return False
