"""What a request body may not be, over a real connection."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from helmr.models import HTTP_BODY_BYTES_MAX
from tests.http.test_sessions import code_of
from tests.service.stack import Stack

JSON = {"Content-Type": "application/json"}


async def post(stack: Stack, content: object, **headers: str) -> httpx.Response:
    merged = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await stack.http.post("/v1/sessions", content=content, headers=merged)  # type: ignore[arg-type]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", "bad_json"),
        (b'{"task": "a", "task": "return", "payload": 1}', "bad_json"),
        (b'{"task": "return", "payload": NaN}', "bad_json"),
        (b'{"task": "return", "payload": "\\ud800"}', "bad_json"),
        (b'{"task": "return", "payload": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "bad_json"),
        (b'{"task": "return", "payload": "\xff"}', "bad_json"),
        (b"[]", "bad_request"),
        (b'"text"', "bad_request"),
        (b"null", "bad_request"),
        (b"{}", "bad_request"),
        (b'{"task": "return", "payload": 1, "priority": 1}', "bad_request"),
        (b'{"task": 1, "payload": 1}', "bad_request"),
        (b"", "bad_request"),
    ],
    ids=lambda part: repr(part)[:40],
)
async def test_a_body_that_is_no_request_is_refused(
    shared_stack: Stack, text: bytes, code: str
) -> None:
    response = await post(shared_stack, text)
    assert (response.status_code, code_of(response)) == (400, code)


async def test_an_unknown_field_is_named(stack: Stack) -> None:
    response = await post(stack, b'{"task": "return", "payload": 1, "priority": 1}')
    assert [error["path"] for error in response.json()["errors"]] == ["priority"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/json; charset=utf-16"},
        {"Content_Type": "application/json; charset*=utf-8''x; charset*0=utf-8"},
        {"Content_Type": "application/json; charset*" + "9" * 5_000 + "=x"},
        {"Content_Encoding": "gzip"},
        {"Content_Encoding": "br"},
    ],
    ids=lambda part: str(part)[:60],
)
async def test_other_media_and_encodings_are_refused(
    shared_stack: Stack, headers: dict[str, str]
) -> None:
    response = await post(shared_stack, b'{"task": "return", "payload": 1}', **headers)
    assert (response.status_code, code_of(response)) == (415, "unsupported_media")


async def test_a_gzip_bomb_is_not_opened(stack: Stack) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    response = await post(stack, bomb, Content_Encoding="gzip")
    assert response.status_code == 415


async def test_json_with_a_charset_or_suffix_is_taken(stack: Stack) -> None:
    body = json.dumps({"task": "return", "payload": 1}).encode()
    for media in ("application/json; charset=UTF-8", "application/vnd.helmr+json"):
        assert (await post(stack, body, Content_Type=media)).status_code == 201


async def test_a_declared_size_over_the_limit_is_refused(stack: Stack) -> None:
    response = await post(stack, b"[" * (HTTP_BODY_BYTES_MAX + 1))
    assert (response.status_code, code_of(response)) == (413, "too_large")


async def test_fifty_megabytes_in_chunks_are_refused_before_they_are_read(stack: Stack) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(800):
            sent += 65_536
            yield b"[" * 65_536

    try:
        response = await post(stack, chunks())
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # the server has closed the connection over an unread body
    else:
        assert (response.status_code, code_of(response)) == (413, "too_large")
    assert sent < 800 * 65_536
    assert (await stack.http.get("/healthz")).status_code == 200


async def test_big_integers_stay_exact(stack: Stack) -> None:
    number = 2**200 + 1
    response = await post(stack, b'{"task": "return", "payload": %d}' % number)
    run_id = response.json()["run"]["id"]
    assert (await stack.run_until(run_id, "succeeded"))["result"] == number
