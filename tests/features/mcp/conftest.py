"""A runtime whose tasks clients of MCP call, behind a real HTTP server, and keys of each role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helmr_runtime.catalog import Registry
from tests.features.mcp import asking_tasks
from tests.service.stack import Stack

REGISTRY = Registry(
    [
        asking_tasks.greet,
        asking_tasks.total,
        asking_tasks.release,
        asking_tasks.ask_name,
        asking_tasks.ask_order,
        asking_tasks.ask_password,
        asking_tasks.ask_finance,
        asking_tasks.fail,
        asking_tasks.slow,
        asking_tasks.hidden,
        asking_tasks.odd,
    ],
    modules=["tests.features.mcp.asking_tasks"],
    code_hash="code-1",
)


class McpStack(Stack):
    """A runtime with the tasks of `asking_tasks`."""

    async def key_of(self, role: str) -> str:
        """A fresh key of that role."""
        made = await self.http.post("/v1/api-keys", json={"role": role, "name": f"{role}'s"})
        assert made.status_code == 201, made.text
        return str(made.json()["secret"])


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[McpStack]:
    """A ready runtime."""
    stack = McpStack(tmp_path, registry=REGISTRY)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
