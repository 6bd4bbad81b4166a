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

from typing import TYPE_CHECKING, Any

from helmr.integrations import load

if TYPE_CHECKING:
    from helmr.integrations._openai_agents import HelmrSession, run

__all__ = ["HelmrSession", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = load(
        name,
        of=__name__,
        module="helmr.integrations._openai_agents",
        extra="openai-agents",
        framework="agents",
    )
    globals()[name] = found
    return found
