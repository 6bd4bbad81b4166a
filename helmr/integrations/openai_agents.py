"""The OpenAI Agents SDK: model requests, tool calls and MCP calls of an agent are steps, its approvals are waits.

```python
approvals = streams.input("approvals", schema=Approval)


@task
async def support(prompt: str) -> str:
    return (await run(agent, prompt, approvals=approvals)).final_output
```

Outside a run `run` is `Runner.run`. `HelmrSession` is a session of the SDK that keeps a conversation in a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr.integrations import loading

if TYPE_CHECKING:
    from helmr.integrations._openai_agents import HelmrSession, run

__all__ = ["HelmrSession", "run"]

__getattr__ = loading(globals(), extra="openai-agents", framework="agents")
