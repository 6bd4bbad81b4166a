"""What a nemesis uses does what it says: the relay, the clock that is set, the wrong bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from aiohttp import web

from helmr.client.calls import Call, reads
from helmr.client.endpoint import Endpoint
from helmr.errors import OutcomeUnknown, RuntimeNotFound, Unavailable, WaitResolved
from tests.programs.histories import garbage
from tests.programs.histories.stepped_clock import SteppedClock
from tests.programs.histories.transport import LeanTransport
from tests.programs.histories.wire import Wire

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


def test_a_relay_carries_under_uvloop_too() -> None:
    """Which reads on although it is told to pause, until a connection has been made."""
    uvloop.run(test_a_relay_carries_holds_and_resets())


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


async def test_a_call_has_the_clients_answers_and_errors_and_keeps_its_connection() -> None:
    served_by: set[object] = set()

    async def answer(request: web.BaseRequest) -> web.Response:
        served_by.add(request.transport)
        if request.path == "/refused":
            return web.json_response(
                {"type": "about:blank", "title": "t", "status": 409, "code": "wait_resolved", "detail": "d"},
                status=409,
            )  # fmt: skip
        told = [request.raw_path, await request.text(), request.headers["Operation-Id"]]
        return web.json_response([*told, request.headers["Authorization"]])

    async with answering(answer) as url:
        transport = LeanTransport(Endpoint(url=url, key="k", found_by="a test"))
        call = Call(
            method="POST", path="/there", reply=reads(list[str]), params=(("x", "1/2"),),
            body=b"body", operation_id="op",
        )  # fmt: skip
        assert await transport.call(call) == ["/there?x=1%2F2", "body", "op", "Bearer k"]
        assert (await transport.call(replace(call, bearer="b")))[3] == "Bearer b"
        with pytest.raises(WaitResolved):
            await transport.call(replace(call, path="/refused"))
        assert len(served_by) == 1
        many = await asyncio.gather(*(transport.call(call) for _ in range(5)))
        assert len(many) == len(served_by) == 5
        await transport.close()


async def test_a_call_without_a_whole_answer_has_an_unknown_outcome_and_is_not_made_again() -> None:
    asked: list[bytes] = []

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1_000))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n["half')
        await writer.drain()

    write = Call(method="POST", path="/x", reply=reads(list[str]), body=b"{}", operation_id="op")
    async with served(half) as port:
        endpoint = Endpoint(url=f"http://127.0.0.1:{port}", key="k", found_by="a test")
        transport = LeanTransport(endpoint)
        with pytest.raises(OutcomeUnknown):
            await transport.call(write)
        with pytest.raises(Unavailable):
            await transport.call(Call(method="GET", path="/x", reply=reads(list[str])))
        assert [one.split()[0] for one in asked] == [b"POST", b"GET"]
    with pytest.raises(RuntimeNotFound):
        await transport.call(write)


async def test_an_answer_that_nobody_waits_for_any_more_is_not_the_next_calls() -> None:
    async def late(request: web.BaseRequest) -> web.Response:
        if request.path == "/late":
            await asyncio.sleep(0.3)
        return web.json_response([request.path])

    async with answering(late) as url:
        transport = LeanTransport(Endpoint(url=url, key="k", found_by="a test"))
        call = Call(method="GET", path="/late", reply=reads(list[str]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport.call(call)
        assert await transport.call(replace(call, path="/next")) == ["/next"]
        await transport.close()


@asynccontextmanager
async def answering(
    answer: Callable[[web.BaseRequest], Awaitable[web.Response]],
) -> AsyncIterator[str]:
    """The URL of a server that answers by this."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


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
