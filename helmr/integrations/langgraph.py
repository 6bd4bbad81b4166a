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

from typing import TYPE_CHECKING, Any

from helmr.integrations import load

if TYPE_CHECKING:
    from helmr.integrations._langgraph import durable, durable_model, durable_tools, run_graph

__all__ = ["durable", "durable_model", "durable_tools", "run_graph"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = load(
        name,
        of=__name__,
        module="helmr.integrations._langgraph",
        extra="langgraph",
        framework="langgraph",
    )
    globals()[name] = found
    return found
