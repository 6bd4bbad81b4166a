"""The protocol's conformance suite, and a bridge by which it reaches a server that speaks over stdio.

The suite speaks HTTP, and `helmr gate mcp` to its client over stdio: the bridge starts a process for each session of
the suite and carries messages as they come. `python -m tests.programs.gate.conformance PORT COMMAND…` is the bridge.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskGroup, TaskStatus
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp.types import JSONRPCError, JSONRPCRequest, JSONRPCResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.programs.gate import npm

SUITE = [
    str(npm.INSTALLED / "node" / "bin" / "node"),
    str(npm.INSTALLED / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"),
]
"""Its command."""

REVISION = "2025-11-25"
"""Of the protocol: the newest with sessions, and so with what a server asks of its client."""

SESSION = b"mcp-session-id"
SUITE_S = 400.0
TIMED = re.compile(r"-\d{4}-\d\d-\d\dT.*$")


def verdicts(url: str, folder: Path) -> dict[str, list[tuple[str, str]]]:
    """What the suite says of a server: by scenario its checks, with SUCCESS or FAILURE.

    Args:
        url: Of the server.
        folder: For what it writes; empty.
    """
    words = [*SUITE, "server", "--url", url, "--spec-version", REVISION, "-o", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SUITE_S, check=False)
    found = {}
    for path in sorted(folder.rglob("checks.json")):
        checks = json.loads(path.read_text())
        judged = [(one["id"], one["status"]) for one in checks if one["status"] != "INFO"]
        found[TIMED.sub("", path.parent.name)] = sorted(judged)
    assert found, done.stdout + done.stderr
    return found


class StdioBridge:
    """An HTTP server whose every session is a process.

    Args:
        words: The command of the process.
        group: Runs what carries messages.
    """

    def __init__(self, words: Sequence[str], group: TaskGroup) -> None:
        self._words = words
        self._group = group
        self._open: dict[bytes, StreamableHTTPServerTransport] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        session = dict(scope["headers"]).get(SESSION)
        if session is None:
            name = uuid.uuid4().hex
            transport = StreamableHTTPServerTransport(name)
            self._open[name.encode()] = transport
            await self._group.start(self._carry, transport)
        else:
            found = self._open.get(session)
            if found is None:
                await Response(status_code=404)(scope, receive, send)
                return
            transport = found
        await transport.handle_request(scope, receive, send)

    async def _carry(
        self, transport: StreamableHTTPServerTransport, *, task_status: TaskStatus[None]
    ) -> None:
        program = StdioServerParameters(
            command=self._words[0], args=[*self._words[1:]], env={**os.environ}
        )
        async with transport.connect() as (client_in, client_out), stdio_client(program) as streams:
            server_in, server_out = streams
            asked: list[Any] = []  # requests that are not answered, newest last
            task_status.started()

            async def up() -> None:
                with suppress(anyio.ClosedResourceError):  # the session is over
                    async for one in client_in:
                        if isinstance(one, SessionMessage):
                            if isinstance(one.message, JSONRPCRequest):
                                asked.append(one.message.id)
                            await server_out.send(SessionMessage(one.message))
                group.cancel_scope.cancel()

            async def down() -> None:
                async for one in server_in:
                    if not isinstance(one, SessionMessage):
                        continue
                    about = None
                    if isinstance(one.message, JSONRPCResponse | JSONRPCError):
                        if one.message.id in asked:
                            asked.remove(one.message.id)
                    elif asked:  # stdio does not say to which request it belongs
                        about = ServerMessageMetadata(related_request_id=asked[-1])
                    await client_out.send(SessionMessage(one.message, metadata=about))

            async with anyio.create_task_group() as group:
                group.start_soon(up)
                group.start_soon(down)


async def serve(port: int, words: Sequence[str]) -> None:
    """Serve until the process is ended."""
    async with anyio.create_task_group() as group:
        config = uvicorn.Config(
            StdioBridge(words, group), port=port, log_level="error", lifespan="off"
        )
        await uvicorn.Server(config).serve()
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(serve, int(sys.argv[1]), sys.argv[2:])
