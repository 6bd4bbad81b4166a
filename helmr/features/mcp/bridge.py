"""The Model Context Protocol over standard input and output: forwards messages to a runtime's `/mcp`, and its answers.

The runtime implements the protocol; this module only forwards it, for clients that start servers as commands. It
remembers only the protocol revision that an older client agreed on. A request repeated because the runtime restarts
acts once: it carries an operation id.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator

from helmr.client.calls import READ_TIMEOUT_S, Call, reads
from helmr.client.http import AsyncHttpTransport
from helmr.errors import BadJson, HelmrError
from helmr.models import HTTP_BODY_BYTES_MAX
from helmr.wire import ids, jsonio

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
NAMES = {
    "tools/call": "name",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Methods whose header Mcp-Name repeats a parameter."""

READS = ("server/discover", "initialize", "ping", "tools/list", "tasks/get")

HELD_S = 30.0
"""Longest time in seconds that the runtime holds a call; it answers a little earlier."""

ENDS_S = HELD_S + 5.0
"""Seconds to wait for answers to open calls after the client closes its end."""

IN_FLIGHT_MAX = 100
"""Most open requests; reading pauses while there are that many."""

PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR = -32700, -32600, -32603
_WITH_A_MESSAGE = (400, 404, 405, 406, 500)
"""Statuses whose body is the error of JSON-RPC."""


def _a_message(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("jsonrpc") != "2.0":
        raise ValueError("not a message of JSON-RPC")
    return value


_Message = Annotated[dict[str, Any], AfterValidator(_a_message)]


class Bridge:
    """Carries messages between one client and a runtime.

    Args:
        transport: The connection to the runtime.
        write: Takes each line for the client, without its end.
    """

    def __init__(self, transport: AsyncHttpTransport, write: Callable[[str], None]) -> None:
        self._transport = transport
        self._write = write
        self._version: str | None = None
        self._open: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def run(self, source: BinaryIO) -> None:
        """Forward the client's messages until it closes its end; calls still open then get their answers, if in time.

        Raises:
            ExceptionGroup: `write` failed.
        """
        lines = _lines(source)
        async with asyncio.TaskGroup() as group:
            while (line := await lines.get()) is not None:
                await self._take(line, group)
            if self._open:
                await asyncio.wait([*self._open.values()], timeout=ENDS_S)
            for task in self._open.values():
                task.cancel()

    async def _take(self, line: bytes, group: asyncio.TaskGroup) -> None:
        """Start on one line; its answer comes later."""
        if len(line) > HTTP_BODY_BYTES_MAX:
            self._refuse(
                None, INVALID_REQUEST, f"a message has at most {HTTP_BODY_BYTES_MAX} bytes"
            )
            return
        try:
            message = jsonio.loads(line)
        except BadJson as error:
            self._refuse(None, PARSE_ERROR, f"Parse error: {error.message}")
            return
        if not isinstance(message, dict):
            self._refuse(None, INVALID_REQUEST, "a message is a JSON object")
        elif "id" not in message:
            self._notice(message)
        elif "method" in message:
            await self._room.acquire()
            name = _name(message["id"])
            task = group.create_task(self._carry(message, line))
            self._open[name] = task
            task.add_done_callback(lambda done: self._over(name, done))

    async def _carry(self, message: dict[str, Any], line: bytes) -> None:
        request_id = message["id"]
        try:
            answer = await self._transport.call(self._call(message, line))
        except HelmrError as error:
            text = f"{error.message}. {error.hint}" if error.hint else error.message
            self._refuse(request_id, INTERNAL_ERROR, text, code=error.code)
            return
        if message["method"] == "initialize" and isinstance(answer.get("result"), dict):
            self._version = answer["result"].get("protocolVersion")
        self._send(answer)

    def _call(self, message: dict[str, Any], line: bytes) -> Call[dict[str, Any]]:
        method, params = str(message["method"]), message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        version = meta.get(VERSION_KEY) if isinstance(meta, dict) else None
        headers = [("Mcp-Method", _header(method))]
        if (version := version or self._version) is not None:
            headers.append(("MCP-Protocol-Version", _header(str(version))))
        if isinstance(name := params.get(NAMES.get(method, "")), str):
            headers.append(("Mcp-Name", _header(name)))
        return Call(
            method="POST",
            path="/mcp",
            reply=reads(_Message),
            body=line,
            operation_id=ids.new_id(ids.OPERATION),
            read_timeout_s=READ_TIMEOUT_S + HELD_S,
            also_ok=_WITH_A_MESSAGE,
            is_read=method in READS,
            headers=tuple(headers),
        )

    def _notice(self, message: dict[str, Any]) -> None:
        """Drop the answer of a cancelled request; work that it started continues. Other notifications are ignored."""
        params = message.get("params")
        if message.get("method") == "notifications/cancelled" and isinstance(params, dict):
            task = self._open.get(_name(params.get("requestId")))
            if task is not None:
                task.cancel()

    def _over(self, name: str, task: asyncio.Task[None]) -> None:
        self._room.release()
        if self._open.get(name) is task:
            del self._open[name]

    def _refuse(self, request_id: Any, number: int, text: str, **data: Any) -> None:
        error = {"code": number, "message": text, **({"data": data} if data else {})}
        self._send({"jsonrpc": "2.0", "id": request_id, "error": error})

    def _send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message, separators=(",", ":")))


def _lines(source: BinaryIO) -> asyncio.Queue[bytes | None]:
    """The lines of a source that can't be awaited, then None. Its thread ends with the process."""
    lines: asyncio.Queue[bytes | None] = asyncio.Queue(IN_FLIGHT_MAX)
    loop = asyncio.get_running_loop()

    def put(line: bytes | None) -> None:
        with contextlib.suppress(RuntimeError, CancelledError):  # the loop is gone
            asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        is_over = False
        while not is_over:
            line = source.readline(HTTP_BODY_BYTES_MAX + 1)
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = source.readline(HTTP_BODY_BYTES_MAX)
            is_over = not line
            if line.strip() or is_over:
                put(line.strip() or None)

    threading.Thread(target=read, name="mcp-stdin", daemon=True).start()
    return lines


def _name(request_id: Any) -> str:
    return json.dumps(request_id)


def _header(value: str) -> str:
    """Return a value as a header carries it: other than plain ASCII, it is base64 behind a mark."""
    if value.isascii() and value.isprintable() and value == value.strip():
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="
