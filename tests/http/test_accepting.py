"""A process that is short of open files accepts within what is left, and says so once."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.http import accepting
from helmr_runtime.http.accepting import FILES_SPARE, Accepting, OpenFiles
from helmr_runtime.http.connections import Connections
from helmr_runtime.http.settings import ConnectionBounds
from helmr_runtime.process.gateway import STOP_GRACE_S
from helmr_runtime.service.health import DegradedState
from tests.service.stack import Stack, until


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("used", "connections", "room"),
    [
        (24, 0, 116),  # half of what the others leave
        (24 + 116, 116, 0),
        (24 + 150, 0, 41),  # 50 live sessions
        (24 + 150 + 41, 41, 0),
        (24 + 201, 0, 15),  # what is spare stays so
        (24 + 201 + 15, 15, 0),
        (256, 0, -16),
    ],
)
def test_as_many_files_stay_free_as_connections_have(
    used: int, connections: int, room: int
) -> None:
    assert OpenFiles(256, Clock(), lambda: used).room(connections) == room


def test_files_are_counted_once_a_second_and_when_they_seem_to_be_short() -> None:
    counts: list[int] = []

    def count() -> int:
        counts.append(1)
        return 100

    clock = Clock()
    files = OpenFiles(256, clock, count)
    for _ in range(40):
        assert files.room(0) > 0
        files.opened(1)
    assert len(counts) == 1
    clock.now_s += 1
    assert files.room(0) == 78
    assert len(counts) == 2
    files.opened(156)
    assert files.room(0) < 0
    files.opened(-156)
    assert files.room(0) == 78, "what is closed for another is reckoned too"
    assert len(counts) == 2
    files.opened(156)
    clock.now_s += 2 * accepting.SHORT_COUNTED_FOR_S
    assert files.room(0) == 78
    assert len(counts) == 3


def test_no_file_for_the_listing_is_no_file_left() -> None:
    def count() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    assert OpenFiles(256, Clock(), count).count() == 0


class Crowd:
    """A listener, what it has accepted, and a count of open files that a test sets."""

    def __init__(self) -> None:
        self.used = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.connections = Connections(ConnectionBounds())
        self.served: list[asyncio.BaseTransport] = []
        self.files = OpenFiles(256, asyncio.get_running_loop().time, lambda: self.used)
        self.accepting = Accepting(self.listener, self.connections, self._protocol, self.files)
        self.clients: list[socket.socket] = []

    def _protocol(self) -> asyncio.Protocol:
        crowd = self

        class Served(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                crowd.served.append(transport)

        return Served()

    def connect(self) -> None:
        client = socket.create_connection(self.listener.getsockname())
        self.clients.append(client)

    def close(self) -> None:
        self.accepting.stop()
        for one in (*self.clients, self.listener):
            one.close()
        for transport in self.served:
            transport.close()


@pytest.fixture
async def crowd(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)
    one = Crowd()
    one.accepting.start()
    yield one
    one.close()


@pytest.mark.allows_blocking
async def test_who_comes_while_files_are_short_is_served_when_there_is_room(
    crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    assert crowd.accepting.troubles() == []
    crowd.used = 256 - FILES_SPARE
    crowd.files.count()
    crowd.connect()
    await until(lambda: bool(caplog.records))
    await asyncio.sleep(0.3)  # several looks
    assert crowd.served == []
    [line] = caplog.messages
    assert "may open 256 files and is short of them" in line
    assert "LimitNOFILE" in line
    crowd.used = 100
    await until(lambda: len(crowd.served) == 1)
    [trouble] = crowd.accepting.troubles()
    assert trouble.state is DegradedState.FILES_LOW


class Exhausted(socket.socket):
    """A listener of a process that has no file left."""

    tries = 0
    is_exhausted = True

    def accept(self) -> Any:
        """Fail as the kernel does."""
        if self.is_exhausted:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.mark.allows_blocking
async def test_an_accept_that_fails_for_want_of_a_file_is_tried_once_in_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_S", 0.1)
    crowd = Crowd()
    crowd.accepting._listener = listener = Exhausted(fileno=crowd.listener.detach())
    crowd.listener = listener
    crowd.accepting.start()
    try:
        for _ in range(5):
            crowd.connect()
        await until(lambda: listener.tries >= 3)
        assert listener.tries <= 4
        assert len(caplog.records) == 1
        listener.is_exhausted = False
        await until(lambda: len(crowd.served) == 5)
    finally:
        crowd.close()


def test_bounds_leave_half_of_the_open_files_to_others() -> None:
    bounds = ConnectionBounds().within(1_024)
    assert (bounds.connections_max, bounds.per_source_max) == (512, 256)
    assert ConnectionBounds().within(1_000_000) == ConnectionBounds()


async def test_a_connection_that_is_still_being_accepted_does_not_hold_up_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made behind the others' end, it would be closed by no one."""
    stack = Stack(tmp_path)
    await stack.start()
    server = stack.gateway._server
    assert server is not None
    (one,) = server.accepting
    go_on, connect = asyncio.Event(), Accepting._connect

    async def late(self: Accepting, accepted: socket.socket) -> None:
        await go_on.wait()
        await connect(self, accepted)

    monkeypatch.setattr(Accepting, "_connect", late)
    port = int(stack.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: one._connecting)
    stopped = one.stop

    def stopping() -> None:
        stopped()
        asyncio.get_running_loop().call_later(0.05, go_on.set)

    monkeypatch.setattr(one, "stop", stopping)
    async with asyncio.timeout(STOP_GRACE_S - 0.5):
        await stack.stop()
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
