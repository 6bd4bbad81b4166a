"""LangGraph and LangChain: graphs whose interrupts are waits, with nodes, tools and chat models that are steps.

```python
answers = streams.input("answers")


@task
async def letter(topic: str) -> dict[str, Any]:
    return await run_graph(builder, {"topic": topic}, answers=answers)
```

The journal is what lasts: a graph's checkpoints live in memory, for as long as its call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr.integrations import loading

if TYPE_CHECKING:
    from helmr.integrations._langgraph import durable, durable_model, durable_tools, run_graph

__all__ = ["durable", "durable_model", "durable_tools", "run_graph"]

__getattr__ = loading(globals(), extra="langgraph", framework="langgraph")
