"""`helmr mcp`: MCP on standard input and output, for clients that start servers as commands."""

from __future__ import annotations

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, command


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "mcp", examples="helmr mcp --url https://helmr.example --key-file key.txt")(mcp)


def mcp(cli: Cli) -> None:
    """Speak MCP on standard input and output, for the chosen runtime; an MCP client starts this.

    It ends when its input ends.
    """
    import asyncio
    import sys

    from helmr.client.http import AsyncHttpTransport
    from helmr.features.mcp.bridge import Bridge

    async def carry() -> None:
        transport = AsyncHttpTransport(cli.endpoint(), on_behalf_of=cli.on_behalf_of)
        try:
            await Bridge(transport, printing.write).run(sys.stdin.buffer)
        finally:
            await transport.close()

    try:
        asyncio.run(carry())
    except* printing.ReaderGone as error:
        raise printing.ReaderGone from error
