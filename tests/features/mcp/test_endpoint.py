"""`POST /mcp` as HTTP: who may, what is garbage, what is repeated."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import httpx
import pytest

from helmr.models import HTTP_BODY_BYTES_MAX
from helmr.wire import ids
from tests.features.mcp.conftest import McpStack

VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}


def headers(method: str, name: str | None = None) -> dict[str, str]:
    given = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method}
    return {**given, "Mcp-Name": name} if name is not None else given


async def call(stack: McpStack, tool: str, arguments: Any, **more: str) -> httpx.Response:
    return await stack.http.post(
        "/mcp",
        json=message("tools/call", name=tool, arguments=arguments),
        headers={**headers("tools/call", tool), **more},
    )


async def test_it_is_for_keys(stack: McpStack) -> None:
    sent = message("tools/list")
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for given in ({}, {"Authorization": "Bearer nonsense"}):
            refused = await http.post("/mcp", json=sent, headers=given)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"


async def test_pages_of_other_names_may_not(stack: McpStack) -> None:
    sent = message("tools/list")
    others = ("https://evil.example", "null", "http://[")
    for origin, status in ((stack.url, 200), *((other, 403) for other in others)):
        given = {**headers("tools/list"), "Origin": origin}
        answer = await stack.http.post("/mcp", json=sent, headers=given)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, -32700),
        (b"{", 400, -32700),
        (b'{"a": 1, "a": 2}', 400, -32700),
        (b'{"a": NaN}', 400, -32700),
        (b"[" * 5_000 + b"]" * 5_000, 400, -32700),
        (b"\xff\xfe", 400, -32700),
        (b"[]", 400, -32600),
        (b"null", 400, -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', 400, -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', 400, -32602),
        (json.dumps(message("no/such")).encode(), 404, -32601),
        (json.dumps(message("tasks/get")).encode(), 400, -32602),
        (json.dumps(message("tools/call", name="greet", arguments=[1])).encode(), 400, -32602),
    ],
    ids=range(13),
)
async def test_garbage_is_refused(stack: McpStack, body: bytes, status: int, code: int) -> None:
    try:
        sent = json.loads(body)
        given = headers(sent.get("method", "none"), sent.get("params", {}).get("name"))
    except (ValueError, AttributeError, RecursionError):
        given = headers("tools/list")
    given["Content-Type"] = "application/json"
    answer = await stack.http.post("/mcp", content=body, headers=given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


async def test_more_than_there_is_room_for_is_refused(stack: McpStack) -> None:
    answer = await stack.http.post("/mcp", content=b" " * (HTTP_BODY_BYTES_MAX + 1))
    assert answer.status_code == 413


async def test_there_is_nothing_to_get(stack: McpStack) -> None:
    for method in ("GET", "DELETE"):
        answer = await stack.http.request(method, "/mcp")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"


async def test_a_header_that_names_something_else_is_refused(stack: McpStack) -> None:
    sent = message("tools/call", name="greet", arguments={})
    answer = await stack.http.post("/mcp", json=sent, headers=headers("tools/call", "total"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


async def test_a_repeated_request_acts_once(stack: McpStack) -> None:
    operation = {"Operation-Id": ids.new_id(ids.OPERATION)}
    for _ in range(2):
        answer = await call(stack, "greet", {"name": "Ada"}, **operation)
        assert answer.json()["result"]["content"][0]["text"] == "Hello, Ada!"
    page = (await stack.http.get("/v1/sessions")).json()
    assert len(page["items"]) == 1
    other = await call(stack, "greet", {"name": "Bob"}, **operation)
    assert other.json()["result"]["isError"]


async def test_nothing_is_kept_by_caches(stack: McpStack) -> None:
    answer = await call(stack, "greet", {})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


async def test_without_the_extra_it_says_so(
    stack: McpStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "mcp" else found(name)
    )
    answer = await call(stack, "greet", {})
    assert answer.json()["code"] == "missing_extra"
    assert "helmr[runtime,mcp]" in answer.json()["hint"]
