"""The word that names MCP in code."""

from __future__ import annotations

from tests.programs.gauges.named import Named

NAMED = Named(
    "mcp",
    ("mcp",),
    # `@task(mcp=…)`, which the gate's tasks say too, and clients of MCP: toolsets of frameworks and the gate's proxy.
    outside_max=7,
)
