"""What a nemesis uses does what it says: the relay, the clock that is set, the wrong bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.histories import garbage
from tests.histories.carrier import AiohttpCarrier
from tests.histories.stepped_clock import SteppedClock
from tests.histories.wire import Wire

BODY = bytes(range(256)) * 4_096


@asynccontextmanager
async def served(serve: Callable[[Any, Any], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a server that does this on each connection; all of them have ended at the end."""
    serving: list[asyncio.Task[None]] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        with contextlib.suppress(OSError):
            await serve(reader, writer)
        await _closed(writer)

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*serving)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def test_a_relay_carries_holds_and_resets() -> None:
    async with served(_echo) as port:
        wire = Wire(lambda: f"http://127.0.0.1:{port}")
        async with wire as url:
            reader, writer = await asyncio.open_connection(*_address(url))
            writer.write(BODY)
            assert await reader.readexactly(len(BODY)) == BODY
            held = asyncio.ensure_future(wire.hold(0.3))
            await asyncio.sleep(0)
            began_s = time.monotonic()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            assert time.monotonic() - began_s > 0.25
            await held
            wire.cut()
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            await _closed(writer)


async def test_a_relay_without_a_gateway_resets() -> None:
    def nowhere() -> str:
        raise OSError("no credentials yet")

    async with Wire(nowhere) as url:
        reader, writer = await asyncio.open_connection(*_address(url))
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _address(url: str) -> tuple[str, int]:
    found = httpx.URL(url)
    assert found.port is not None
    return found.host, found.port


async def test_a_carrier_gives_what_was_answered_and_names_what_was_not() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/late":
            await asyncio.sleep(5)
        told = {"path": request.raw_path, "sent": await request.text(), "as": request.headers["A"]}
        return web.json_response(told, status=409)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(transport=AiohttpCarrier(), headers={"A": "b"}) as client:
        response = await client.post(f"{url}/there?x=1%2F2", content=b"body")
        assert response.status_code == 409
        assert json.loads(response.content) == {"path": "/there?x=1%2F2", "sent": "body", "as": "b"}
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"{url}/late", timeout=0.2)
        await runner.cleanup()
        with pytest.raises(httpx.TransportError):
            await client.get(f"{url}/gone")


SHOWS = """
import datetime, sys, time
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic(), flush=True)
"""


def test_a_clock_is_set_in_a_process_that_runs_and_its_steady_clock_is_not(tmp_path: Path) -> None:
    clock = SteppedClock.build(tmp_path)
    if clock is None:
        pytest.skip("no C compiler")
    with subprocess.Popen(
        [sys.executable, "-c", SHOWS],
        env=dict(clock.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as shows:
        assert shows.stdin is not None
        assert shows.stdout is not None
        for offset_s in (0.0, 300.0, -450.5, 0.0):
            clock.set(offset_s)
            shows.stdin.write("now\n")
            shows.stdin.flush()
            wall, other, steady = map(float, shows.stdout.readline().split())
            assert wall - time.time() == pytest.approx(offset_s, abs=5)
            assert other - wall == pytest.approx(0, abs=5)
            assert steady == pytest.approx(time.monotonic(), abs=5)
        shows.stdin.close()


async def test_wrong_bytes_are_the_same_for_a_seed_and_their_answers_come_back() -> None:
    first, again = (garbage.pieces(random.Random("7"), "key") for _ in range(2))
    assert first == again
    async with served(_refuse) as port:
        answers = await garbage.send_some("127.0.0.1", port, random.Random("7"), "key", read_s=60)
    assert answers == [b"HTTP/1.1 400 Bad Request"] * garbage.SOME


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    while await reader.read(65_536):
        pass
