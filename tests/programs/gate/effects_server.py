"""An MCP server, over stdio or on a port, that counts its effects: a line in the file `EFFECTS` for each charge.

An order whose name ends in a `Fate` has the process that serves it end there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from tests.programs.gate.fates import Fate

server = MCPServer("shop")


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def charge(order: str) -> str:
    """Charge an order."""
    if order.endswith(Fate.ENDS_BEFORE):
        os.kill(os.getpid(), signal.SIGKILL)
    with Path(os.environ["EFFECTS"]).open("a") as file:
        file.write(f"{order}\n")
    if order.endswith(Fate.ENDS_AFTER):
        os.kill(os.getpid(), signal.SIGKILL)
    if order.endswith(Fate.LOSES_CLIENT):
        os.kill(os.getppid(), signal.SIGKILL)
    if order == "broken" or order.endswith(Fate.FAILS):
        raise ValueError("the card was refused")
    return f"charged {order}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def look(order: str) -> str:
    """Look at an order."""
    return f"{order}: 3 shirts"


@server.resource("shop://terms")
def terms() -> str:
    """The terms."""
    return "No refunds."


@server.prompt()
def apology(name: str) -> str:
    """How we say sorry."""
    return f"Dear {name}, we are sorry."


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
