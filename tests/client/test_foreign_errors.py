"""No exception of httpx leaves the client (foreign errors are translated where they are met)."""

from __future__ import annotations

import asyncio
import inspect

import anyio
import httpx
import pytest
import uvloop

from helmr.client import problems
from helmr.client.http import _translated
from helmr.client.problems import FOREIGN
from helmr.errors import HelmrError, OutcomeUnknown, RuntimeNotFound, Unavailable, UsageError

REQUEST = httpx.Request("GET", "http://127.0.0.1:1/v1/sessions")
CLASSES = sorted(
    {one for one in vars(httpx).values() if inspect.isclass(one) and issubclass(one, Exception)},
    key=lambda one: one.__name__,
)


def _made(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        return kind("said", request=REQUEST, response=httpx.Response(500))
    if kind in (
        httpx.StreamConsumed,
        httpx.ResponseNotRead,
        httpx.RequestNotRead,
        httpx.StreamClosed,
    ):
        return kind()
    return kind("said")


def test_httpx_has_the_classes_that_this_knows() -> None:
    assert len(CLASSES) >= 28


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("mutates", [False, True], ids=["read", "mutation"])
def test_every_class_of_httpx_becomes_one_of_ours(kind: type[Exception], mutates: bool) -> None:
    with (
        pytest.raises(HelmrError) as caught,
        _translated("http://127.0.0.1:1", "GET /v1/sessions", mutates=mutates),
    ):
        raise _made(kind)
    error = caught.value
    assert isinstance(error, Unavailable | UsageError)
    assert isinstance(error.__cause__, kind)
    assert error.exit_code in (2, 6)
    assert "\n" not in error.message


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_of_httpx_has_a_root_that_is_caught(kind: type[Exception]) -> None:
    assert issubclass(kind, FOREIGN)


@pytest.mark.parametrize(
    ("kind", "mutates", "expected"),
    [
        (httpx.ConnectError, True, RuntimeNotFound),
        (httpx.ConnectTimeout, True, RuntimeNotFound),
        (httpx.ReadTimeout, True, OutcomeUnknown),
        (httpx.ReadTimeout, False, Unavailable),
        (httpx.RemoteProtocolError, True, OutcomeUnknown),
        (httpx.WriteError, True, OutcomeUnknown),
        (httpx.PoolTimeout, True, Unavailable),
        (httpx.UnsupportedProtocol, True, UsageError),
        (httpx.InvalidURL, True, UsageError),
    ],
)
def test_what_may_have_acted_says_so(
    kind: type[Exception], mutates: bool, expected: type[HelmrError]
) -> None:
    error = problems.foreign(_made(kind), url="http://h", name="POST /x", mutates=mutates)
    assert type(error) is expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b"<html>", RuntimeNotFound),
        (302, b"", RuntimeNotFound),
        (500, b"oops", Unavailable),
        (503, b"", Unavailable),
    ],
)
def test_an_answer_that_is_no_problem_of_ours(
    status: int, body: bytes, expected: type[HelmrError]
) -> None:
    error = problems.problem(httpx.Response(status, content=body), url="http://h", name="GET /x")
    assert isinstance(error, expected)
    assert "http://h" in error.message


@pytest.mark.parametrize("text", ["", "-1", "soon", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", "²"])
def test_a_retry_after_that_is_no_number_is_none(text: str) -> None:
    response = httpx.Response(503, headers={b"retry-after": text.encode()})
    assert problems.problem(response, url="http://h", name="GET /x").retry_after_s is None


def test_a_retry_after_is_bounded() -> None:
    response = httpx.Response(503, headers={"retry-after": "9" * 400})
    assert problems.problem(response, url="http://h", name="GET /x").retry_after_s == 300


@pytest.mark.parametrize("mutates", [False, True], ids=["read", "mutation"])
def test_a_connection_closed_as_it_was_opened_is_one_without_an_answer(mutates: bool) -> None:
    """uvloop has let go of the socket, and anyio asks it for the peer: httpcore does so behind each connect."""

    async def connect_and_ask() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            stream = await anyio.connect_tcp(*server.sockets[0].getsockname())
            await stream.aclose()
            with _translated("http://127.0.0.1:1", "try", mutates=mutates):
                stream.extra(anyio.abc.SocketAttribute.remote_address)

    expected = OutcomeUnknown if mutates else Unavailable
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(expected):
        runner.run(connect_and_ask())


def test_a_mistake_of_ours_is_none_of_httpx() -> None:
    with pytest.raises(AttributeError), _translated("http://127.0.0.1:1", "try"):
        _ = object().missing  # type: ignore[attr-defined]
