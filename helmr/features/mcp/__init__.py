"""MCP: tasks are the tools of a client of the Model Context Protocol, which gets the questions of their waits."""

from __future__ import annotations

from helmr.feature import Feature

_HERE = "helmr.features.mcp"

FEATURE = Feature(
    name="mcp",
    title="MCP",
    about="Tasks as tools of an MCP client, and their waits as its questions.",
    operations=f"{_HERE}.operations",
    commands={"mcp": f"{_HERE}.commands:register"},
    page="mcp.md",
)
