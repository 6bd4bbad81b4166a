"""A client that is used in the wrong place, or asked for what does not answer, says what to write instead."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from helmr.client import Client, Retry, http
from helmr.errors import RuntimeNotFound, UsageError


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"items": []}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that speaks http and knows of no session."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


def listed(port: int) -> list[Any]:
    with Client(url=f"http://127.0.0.1:{port}", key="k") as client:
        return [*client.sessions.list()]


async def in_a_coroutine(port: int) -> None:
    listed(port)
    listed(port)


async def in_a_thread(port: int) -> None:
    await asyncio.to_thread(listed, port)


def on_no_loop(port: int) -> None:
    listed(port)


@pytest.mark.allows_blocking
@pytest.mark.parametrize(
    ("function", "times"), [(in_a_coroutine, 1), (in_a_thread, 0), (on_no_loop, 0)]
)
def test_a_blocked_loop_is_logged_once_with_its_line(
    function: Callable[[int], Any],
    times: int,
    port: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_told", set())
    with caplog.at_level(logging.WARNING, logger="helmr.client"):
        if asyncio.iscoroutinefunction(function):
            asyncio.run(function(port))
        else:
            function(port)
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == times
    for one in said:
        assert "test_misuse.py:" in one
        assert "await AsyncClient" in one


@pytest.mark.allows_blocking
def test_a_notebook_is_not_told(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_told", set())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with caplog.at_level(logging.WARNING, logger="helmr.client"):
        asyncio.run(in_a_coroutine(port))
    assert caplog.records == []


def test_an_empty_list_is_neither_true_nor_false(port: int) -> None:
    with Client(url=f"http://127.0.0.1:{port}", key="k") as client:
        with pytest.raises(UsageError, match=r"ask `next\(….list\(\), None\)`"):
            assert client.sessions.list()
        assert next(client.sessions.list(), None) is None


def test_https_where_only_http_is_spoken_says_so(port: int) -> None:
    once = Retry(tries_max=1)
    with (
        Client(url=f"https://127.0.0.1:{port}", key="k", retry=once) as client,
        pytest.raises(RuntimeNotFound) as failed,
    ):
        client.health()
    assert failed.value.hint is not None
    assert failed.value.hint.startswith("It speaks http and not https: write http://")
