"""The operation of MCP: one message of the protocol."""

from __future__ import annotations

from typing import Any

from helmr.wire.operation import Operation, Repeat
from helmr.wire.roles import Need

# A table is read row by row.
# fmt: off

SPEAK_MCP = Operation(
    "", "POST /mcp", Need.TOOLS,
    "One message of the Model Context Protocol: a JSON-RPC request of revision 2026-07-28, or of an earlier one.",
    description="Tasks are tools. Needs the extra `mcp`. A message that is not strict JSON is JSON-RPC's -32700; "
    "the right of each tool is asked for when it is called.",
    tag="mcp", reply=dict[str, Any], problems=(400, 404, 413, 415), repeat=Repeat.AGAIN,
    may_be_stale=True)
