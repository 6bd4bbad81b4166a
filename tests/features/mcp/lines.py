"""How the command of MCP is tried."""

from __future__ import annotations

import json

from tests.cli.lines import FeatureLines, Line

BEGIN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}

LINES = FeatureLines(
    alone=(Line("mcp", '"serverInfo".*"name": ?"helmr"', stdin=f"{json.dumps(BEGIN)}\n"),),
    not_walked={
        "mcp": "JSON for programs, in which controls are escaped: tests/features/mcp/test_restart.py"
    },
)
