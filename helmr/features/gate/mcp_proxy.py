"""`helmr gate mcp`: stands before any MCP server and asks the gate before a call of a tool reaches it.

Everything else passes through as it came, in both directions. A call that a person or a rule denies, that still waits,
or that could not be asked about, is answered here with an error of the tool, which the model reads; the server never
sees it (S-106). An approved call is reported with its outcome (S-108).

A server that ends answers nothing any more: the program says so to each request that is open, and ends too. Which
calls were made is unknown then (S-108).

A call has no id that outlasts it: the agent's session is the server's name and the folder, so that the same call finds
its decision also when the client has started this program again (S-107).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer

from helmr.cli.app import Cli, command
from helmr.errors import HelmrError, UsageError
from helmr.models import GatedCallRequest, GatedOutcomeRequest, GateReceipt
from helmr.version import needed
from helmr.wire import ids

if TYPE_CHECKING:
    from mcp.types import JSONRPCMessage

    from helmr.client.endpoint import Endpoint

CLIENT = "mcp"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
"""Stands in `_meta` of messages of revision 2026-07-28 on."""
HOLD_S = 45.0
"""Longest time that a call is held: clients give theirs up after a minute."""

AWAY_S = 10.0
"""Longest outage of a runtime that is waited for: a restart takes less."""

IN_FLIGHT_MAX = 100
SERVER_ENDED = -32000
"""Code of the error by which a request is answered whose server has ended: the protocol's for a closed connection."""

LAST_WORDS_S = 5.0
"""Longest that a client may take to read that the server has ended."""

ENDED_EXIT_CODE = 1

Send = Callable[["JSONRPCMessage"], Awaitable[None]]


class GateAsker:
    """Asks a runtime's gate about calls of one server's tools.

    Args:
        endpoint: The runtime, and a key that may ask.
        name: Name of the server.
        folder: Working folder of the client.
    """

    def __init__(self, endpoint: Endpoint, name: str, folder: str) -> None:
        from helmr.client import Retry
        from helmr.client.http import AsyncHttpTransport

        self._transport = AsyncHttpTransport(endpoint, retry=Retry(total_s=AWAY_S))
        self._name = name
        self._folder = folder

    async def ask(self, tool: str, given: dict[str, Any], claims: dict[str, Any]) -> GateReceipt:
        """Ask whether the call may be made; deny it if the runtime can't be asked."""
        request = GatedCallRequest(
            client=CLIENT,
            agent=f"{self._name}@{self._folder}",
            tool=f"{self._name}.{tool}",
            input=given,
            folder=self._folder,
            annotations=claims,
            hold_s=HOLD_S,
        )
        try:
            found: GateReceipt = await self._post("/v1/gate/calls", request, GateReceipt)
        except HelmrError as error:
            hint = f" {error.hint}" if error.hint else ""
            return GateReceipt(
                verdict="deny",
                reason=f"Helmr can't ask a person about this call: {error.message}.{hint}",
            )
        return found

    async def report(self, session_id: str, *, succeeded: bool) -> None:
        """Say what became of a call. What can't be said leaves its outcome unknown."""
        request = GatedOutcomeRequest(outcome="succeeded" if succeeded else "failed")
        try:
            await self._post(f"/v1/gate/calls/{session_id}/outcome", request, dict[str, Any])
        except HelmrError:
            return

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _post(
        self, path: str, body: GatedCallRequest | GatedOutcomeRequest, reply: Any
    ) -> Any:
        from helmr.client.calls import READ_TIMEOUT_S, Call, reads

        return await self._transport.call(
            Call(
                method="POST",
                path=path,
                reply=reads(reply),
                body=body.model_dump_json().encode(),
                operation_id=ids.new_id(ids.OPERATION),
                read_timeout_s=HOLD_S + READ_TIMEOUT_S,
            )
        )


class GateProxy:
    """Carries messages between one client and one server, and holds calls of tools until they are decided.

    Args:
        asker: Decides.
        to_client: Takes a message for the client.
        to_server: Takes one for the server.
    """

    def __init__(self, asker: GateAsker, to_client: Send, to_server: Send) -> None:
        self._asker = asker
        self._to_client = to_client
        self._to_server = to_server
        self._claims: dict[str, dict[str, Any]] = {}
        """The server's claims about its tools, by name."""
        self._lists: set[Any] = set()
        """Requests for lists of tools that are open."""
        self._held: dict[Any, Any] = {}
        """Calls that are not decided yet, with the scope that ends their asking."""
        self._open: set[Any] = set()
        """Requests of the client that have no answer yet."""
        self._made: dict[Any, str] = {}
        """Calls that a person has allowed and the server has not answered, with their sessions."""

    async def from_client(self, message: JSONRPCMessage) -> None:
        """Pass a message of the client on; a call of a tool once it is decided."""
        from mcp.types import JSONRPCNotification, JSONRPCRequest

        if isinstance(message, JSONRPCRequest):
            self._open.add(message.id)
            if message.method == "tools/call":
                await self._call(message)
                return
            if message.method == "tools/list":
                self._lists.add(message.id)
        elif isinstance(message, JSONRPCNotification):
            scope = self._held.get((message.params or {}).get("requestId"))
            if message.method == "notifications/cancelled" and scope is not None:
                scope.cancel()  # the server does not know the call
                return
        await self._to_server(message)

    async def from_server(self, message: JSONRPCMessage) -> None:
        """Pass a message of the server on, and take note of what it says of tools and became of calls."""
        from mcp.types import JSONRPCError, JSONRPCResponse

        if isinstance(message, JSONRPCResponse | JSONRPCError):
            result = message.result if isinstance(message, JSONRPCResponse) else {"isError": True}
            self._open.discard(message.id)
            if message.id in self._lists:
                self._lists.discard(message.id)
                self._note(result.get("tools"))
            session_id = self._made.pop(message.id, None)
            if session_id is not None:
                await self._asker.report(session_id, succeeded=not result.get("isError"))
        await self._to_client(message)

    async def server_ended(self) -> None:
        """Answer what the client still waits for."""
        from mcp.types import ErrorData, JSONRPCError

        for request_id in sorted(self._open, key=str):
            is_unknown = request_id not in self._held
            said = "whether this was done is unknown" if is_unknown else "this call was not made"
            error = ErrorData(code=SERVER_ENDED, message=f"The server has ended; {said}.")
            await self._to_client(JSONRPCError(jsonrpc="2.0", id=request_id, error=error))
        self._open.clear()

    def _note(self, tools: Any) -> None:
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                claims = tool.get("annotations")
                self._claims[tool["name"]] = claims if isinstance(claims, dict) else {}

    async def _call(self, message: Any) -> None:
        import anyio

        params = message.params or {}
        tool, given = params.get("name"), params.get("arguments") or {}
        if not isinstance(tool, str) or not isinstance(given, dict):
            await self._to_server(message)  # which says what is wrong with it
            return
        with anyio.CancelScope() as scope:
            self._held[message.id] = scope
            try:
                decision = await self._asker.ask(tool, given, self._claims.get(tool, {}))
            finally:
                self._held.pop(message.id, None)
            if decision.verdict != "allow":
                await self._refuse(message, decision.reason)
                return
            if decision.session_id is not None:
                self._made[message.id] = decision.session_id
            if decision.input is not None:
                changed = {**params, "arguments": decision.input}
                message = message.model_copy(update={"params": changed})
            await self._to_server(message)

    async def _refuse(self, message: Any, reason: str) -> None:
        from mcp.types import JSONRPCResponse

        result: dict[str, Any] = {"content": [{"type": "text", "text": reason}], "isError": True}
        if VERSION_KEY in ((message.params or {}).get("_meta") or {}):
            result["resultType"] = "complete"
        self._open.discard(message.id)
        await self._to_client(JSONRPCResponse(jsonrpc="2.0", id=message.id, result=result))


class EndableLines:
    """Lines of a file until it ends, or `end` is called: a read that still waits then is left to its thread."""

    def __init__(self, file: TextIO) -> None:
        import anyio

        self._file = file
        self._ended = anyio.Event()
        self.is_reading = False
        """A thread waits for a line; the interpreter would wait for the thread."""

    def end(self) -> None:
        """Give no more lines."""
        self._ended.set()

    def __aiter__(self) -> EndableLines:
        return self

    async def __anext__(self) -> str:
        import anyio

        found = ""

        async def read() -> None:
            nonlocal found
            found = await anyio.to_thread.run_sync(self._file.readline, abandon_on_cancel=True)
            self.is_reading = False
            reading.cancel_scope.cancel()

        self.is_reading = True
        async with anyio.create_task_group() as reading:
            reading.start_soon(read)
            await self._ended.wait()
            reading.cancel_scope.cancel()
        if not found:
            raise StopAsyncIteration
        return found


async def carry(asker: GateAsker, words: list[str], url: str | None) -> None:
    """Stand between this process's standard input and output and a server, until one of them ends.

    A server's end ends the process too: a thread that waits for the client's next line can't be ended otherwise.
    """
    import anyio
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.server.stdio import stdio_server
    from mcp.shared.message import SessionMessage

    async with AsyncExitStack() as stack:
        stack.push_async_callback(asker.close)
        if url is not None:
            streams = await stack.enter_async_context(streamable_http_client(url))
        else:
            program = StdioServerParameters(
                command=words[0], args=words[1:], env=dict(os.environ), cwd=str(Path.cwd())
            )
            streams = await stack.enter_async_context(stdio_client(program))
        server_in, server_out = streams[0], streams[1]
        lines = EndableLines(sys.stdin)
        client_in, client_out = await stack.enter_async_context(
            stdio_server(stdin=cast("Any", lines))
        )
        proxy = GateProxy(
            asker,
            lambda one: client_out.send(SessionMessage(one)),
            lambda one: server_out.send(SessionMessage(one)),
        )
        room = anyio.CapacityLimiter(IN_FLIGHT_MAX)

        async def forward(message: Any) -> None:
            async with room:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await proxy.from_client(message)  # else the server has ended

        async def answers() -> None:
            async for one in server_in:
                if isinstance(one, SessionMessage):
                    await proxy.from_server(one.message)
            with anyio.move_on_after(LAST_WORDS_S):
                await proxy.server_ended()
            lines.end()

        async with anyio.create_task_group() as group:
            group.start_soon(answers)
            async for one in client_in:
                if not isinstance(one, SessionMessage):
                    continue
                if getattr(one.message, "method", None) == "tools/call":
                    group.start_soon(forward, one.message)
                else:  # in the order in which they came
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await proxy.from_client(one.message)  # else the server has ended
            group.cancel_scope.cancel()
        await client_out.aclose()  # what writes there ends with it
    if lines.is_reading:
        sys.stdout.flush()
        os._exit(ENDED_EXIT_CODE)


def register_proxy(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "mcp",
        examples="helmr gate mcp --name files -- npx -y @modelcontextprotocol/server-filesystem .\n"
        "helmr gate mcp --name search --server-url https://search.example.com/mcp",
    )(mcp)


def mcp(
    cli: Cli,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="The server's command, behind `--`."),
    ] = None,
    server_url: Annotated[
        str | None,
        typer.Option(
            "--server-url", metavar="URL", help="A server over HTTP in place of a command."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What people and rules call the server; the program or the host if not given.",
        ),
    ] = None,
) -> None:
    """Stand before an MCP server: each call of a tool asks the gate first.

    An MCP client starts this in place of the server. It needs the extra `mcp`.
    """
    if (server_url is None) == (not words):
        raise UsageError(
            "name one server", hint="`helmr gate mcp -- COMMAND`, or --server-url URL."
        )
    with needed("mcp"):
        import anyio
        import mcp.server.stdio  # noqa: F401
    called = name or (Path(words[0]).name if words else str(server_url).split("/")[2])
    anyio.run(carry, GateAsker(cli.endpoint(), called, str(Path.cwd())), words or [], server_url)
