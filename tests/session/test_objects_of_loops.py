"""A client in a global: in steps it serves every session, used outside them it shows in a test (S-30, S-32)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from helmr import step, streams, task
from helmr.testing import Harness, RunFailed

go_on = streams.input("go-on", schema=int)
client = httpx.AsyncClient()
"""Shared by all runs and all tests here, as in a task file."""


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections, as real servers do

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client of a dead loop just goes
            super().handle()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def get(url: str) -> str:
    return (await client.get(url, timeout=20)).text


fetch = step(get)


@task
async def fetches_in_steps(payload: str) -> list[str]:
    said = [await fetch(payload)]
    await go_on.wait()
    return [*said, await fetch(payload)]


@task
async def fetches_outside(payload: str) -> list[str]:
    said = [await get(payload)]
    await go_on.wait()
    return [*said, await get(payload)]


@pytest.mark.parametrize("replay_always", [False, True])
async def test_a_client_in_a_global_serves_the_steps_of_all_sessions_over_parks(
    url: str, replay_always: bool
):
    async with Harness(fetches_in_steps, replay_always=replay_always) as harness:
        sessions = [await harness.start(fetches_in_steps, url) for _ in range(5)]
        for session in sessions:
            await session.park()
        for session in sessions:
            await session.send("go-on", 1)
        assert [await s.result() for s in sessions] == [["hello", "hello"]] * 5


@pytest.mark.filterwarnings("always::helmr.testing.RepeatedCall")
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
async def test_a_client_in_a_global_that_is_used_outside_steps_fails_in_a_test_and_says_what_to_do(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(globals(), "client", httpx.AsyncClient())
    async with Harness(fetches_outside, replay_always=True) as harness:
        session = await harness.start(fetches_outside, url)
        await session.send("go-on", 1)
        with pytest.raises(RunFailed, match=r"Event loop is closed.*inside async steps"):
            await session.result()
