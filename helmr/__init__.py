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

from __future__ import annotations

TYPE_CHECKING = False  # what `typing` says too, whose import takes longer than all of this
if TYPE_CHECKING:
    from typing import Any

    from helmr import attachments, auth, errors, escalation, sessions, streams, timers, tokens
    from helmr.approvals import Approval, ask_approval
    from helmr.client import AsyncClient, Client
    from helmr.context import TaskContext
    from helmr.current import Record, in_run
    from helmr.errors import (
        ChildFailed,
        ConcurrentWaitError,
        HelmrError,
        SchemaMismatch,
        StepFailed,
        WaitCancelled,
        WaitTimeout,
    )
    from helmr.limits import Limit, LimitClosed
    from helmr.models.attachments import Attachment
    from helmr.steps import Step, StepOptions, step, step_call, step_key
    from helmr.streams import (
        Fulfilled,
        InputStream,
        OutputStream,
        PendingWait,
        Unfulfilled,
        WaitResult,
    )
    from helmr.tasks import Task, task

__all__ = [
    "Approval",
    "AsyncClient",
    "Attachment",
    "ChildFailed",
    "Client",
    "ConcurrentWaitError",
    "Fulfilled",
    "HelmrError",
    "InputStream",
    "Limit",
    "LimitClosed",
    "OutputStream",
    "PendingWait",
    "Record",
    "SchemaMismatch",
    "Step",
    "StepFailed",
    "StepOptions",
    "Task",
    "TaskContext",
    "Unfulfilled",
    "WaitCancelled",
    "WaitResult",
    "WaitTimeout",
    "ask_approval",
    "attachments",
    "auth",
    "errors",
    "escalation",
    "in_run",
    "sessions",
    "step",
    "step_call",
    "step_key",
    "streams",
    "task",
    "timers",
    "tokens",
]

_HOMES = {
    "Approval": "approvals",
    "AsyncClient": "client",
    "Attachment": "models.attachments",
    "ChildFailed": "errors",
    "Client": "client",
    "ConcurrentWaitError": "errors",
    "Fulfilled": "streams",
    "HelmrError": "errors",
    "InputStream": "streams",
    "Limit": "limits",
    "LimitClosed": "limits",
    "OutputStream": "streams",
    "PendingWait": "streams",
    "Record": "current",
    "SchemaMismatch": "errors",
    "Step": "steps",
    "StepFailed": "errors",
    "StepOptions": "steps",
    "Task": "tasks",
    "TaskContext": "context",
    "Unfulfilled": "streams",
    "WaitCancelled": "errors",
    "WaitResult": "streams",
    "WaitTimeout": "errors",
    "ask_approval": "approvals",
    "in_run": "current",
    "step": "steps",
    "step_call": "steps",
    "step_key": "steps",
    "task": "tasks",
}
"""Module of each name in `__all__` that is not a module itself."""


def __getattr__(name: str) -> Any:
    """Import a name at its first use, so that the command line starts, and heeds Ctrl-C, before any import."""
    if name not in __all__:
        raise AttributeError(f"module 'helmr' has no attribute {name!r}")
    import importlib

    home = importlib.import_module(f"helmr.{_HOMES.get(name, name)}")
    found = globals()[name] = getattr(home, name) if name in _HOMES else home
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
