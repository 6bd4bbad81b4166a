"""Pydantic AI: an agent whose model requests, tool calls and MCP calls are steps, and whose approvals are waits.

```python
approvals = streams.input("approvals", schema=Approval)
agent = Agent(
    "openai:gpt-5", name="support", capabilities=[HelmrDurability(), DeferredToolWaits(approvals)]
)
```

Outside a run the same agent works as it does without Helmr. `HelmrHistory` keeps a conversation in a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr.integrations import loading

if TYPE_CHECKING:
    from helmr.integrations._pydantic_ai import DeferredToolWaits, HelmrDurability, HelmrHistory

__all__ = ["DeferredToolWaits", "HelmrDurability", "HelmrHistory"]

__getattr__ = loading(globals(), extra="pydantic-ai", framework="pydantic_ai")
