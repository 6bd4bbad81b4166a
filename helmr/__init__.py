"""Helmr: durable sessions of agent tasks that stop for people.

```python
from helmr import TaskContext, step, streams, task

approval = streams.input("approval", schema=bool)


@step
async def publish(text: str) -> str: ...


@task
async def review(text: str, ctx: TaskContext) -> str:
    if await approval.wait(timeout="7d", subject="Publish this?").unwrap():
        return await publish(text)
    return "not published"
```
"""

from typing import TYPE_CHECKING, Any

from helmr import auth, errors, streams, timers, tokens
from helmr.context import TaskContext
from helmr.current import Record
from helmr.errors import (
    ConcurrentWaitError,
    HelmrError,
    SchemaMismatch,
    StepFailed,
    WaitCancelled,
    WaitTimeout,
)
from helmr.results import Fulfilled, PendingWait, Unfulfilled, WaitResult
from helmr.steps import Step, step, step_key
from helmr.streams import InputStream, OutputStream
from helmr.tasks import Task, task

if TYPE_CHECKING:
    from helmr.client import AsyncClient, Client

__all__ = [
    "AsyncClient",
    "Client",
    "ConcurrentWaitError",
    "Fulfilled",
    "HelmrError",
    "InputStream",
    "OutputStream",
    "PendingWait",
    "Record",
    "SchemaMismatch",
    "Step",
    "StepFailed",
    "Task",
    "TaskContext",
    "Unfulfilled",
    "WaitCancelled",
    "WaitResult",
    "WaitTimeout",
    "auth",
    "errors",
    "step",
    "step_key",
    "streams",
    "task",
    "timers",
    "tokens",
]

_LAZY = ("AsyncClient", "Client")


def __getattr__(name: str) -> Any:
    """Import the client, and httpx with it, when it is first used."""
    if name in _LAZY:
        from helmr import client

        return getattr(client, name)
    raise AttributeError(f"module 'helmr' has no attribute {name!r}")
