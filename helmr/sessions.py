"""Child sessions: a task starts sessions of other tasks and gets their results (S-91).

```python
child = await sessions.start(research, topic)
found = await child.result(timeout="1h").unwrap()

children = [await sessions.start(research, topic) for topic in topics]
async for ended in sessions.as_ended(children):
    if ended.ok:
        found.append(ended.value)
```

A child is an ordinary session: it has its own transcript, waits for people by itself and appears in lists. Its parent
parks while it waits for the child. A replay gives the same children.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from helmr.context import TaskContext
from helmr.current import ChildCall, WaitCall, WaitOutcome, durable_call, require_run
from helmr.errors import ChildFailed, SchemaMismatch, UsageError, WaitCancelled
from helmr.models import CHILDREN_AWAITED_MAX
from helmr.streams import Fulfilled, PendingWait, Unfulfilled, WaitResult, unfulfilled
from helmr.tasks import Task
from helmr.wait_details import metadata_object, tag_list
from helmr.wait_options import JSON
from helmr.wire.durations import Duration, seconds
from helmr.wire.truth import Ending

A = TypeVar("A")
R = TypeVar("R")

OnParentCancel = Literal["cancel", "leave"]


class Child(Generic[R]):
    """A session that this run has started.

    Attributes:
        id: The session's id.
        task: The task that it runs.
    """

    def __init__(self, task: Task[..., R], session_id: str) -> None:
        self.task = task
        self.id = session_id

    def __repr__(self) -> str:
        return f"Child({self.id!r})"

    def result(self, *, timeout: Duration | None = None) -> PendingWait[R]:
        """Wait for the end of its run; a blocked run has not ended.

        Args:
            timeout: Afterwards the result has `WaitTimeout`, and the child goes on.

        Returns:
            A lazy awaitable: `await` gives a `WaitResult`, `.unwrap()` the value. A child that was cancelled gives
            `WaitCancelled`.

        Raises:
            ChildFailed: Its run failed; on `await`.
        """
        call = _call((self,), timeout)

        async def perform() -> WaitResult[R]:
            outcome = await require_run("child.result()").wait(call)
            if outcome.status != "fulfilled":
                return unfulfilled(outcome)
            ended = _ended(self, outcome)
            if ended.ok:
                return Fulfilled(value=ended.value)
            if isinstance(ended.error, ChildFailed):
                raise ended.error
            return Unfulfilled(error=ended.error)

        return PendingWait("child.result()", perform)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Succeeded(Ending, Generic[R]):
    """A child whose run succeeded. `value` is its result."""

    child: Child[R]
    value: R
    ok: Literal[True] = True
    error: None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unsuccessful(Ending, Generic[R]):
    """A child whose run failed, or was cancelled."""

    child: Child[R]
    error: ChildFailed | WaitCancelled
    ok: Literal[False] = False
    value: None = None


Ended: TypeAlias = Succeeded[R] | Unsuccessful[R]
"""The end of a child. Type checkers narrow it by `ok`."""


@overload
async def start(
    task: Task[[A], R],
    payload: A,
    *,
    tags: Iterable[str] = ...,
    metadata: Mapping[str, Any] | None = ...,
    on_parent_cancel: OnParentCancel = ...,
) -> Child[R]: ...
@overload
async def start(
    task: Task[[A, TaskContext], R],
    payload: A,
    *,
    tags: Iterable[str] = ...,
    metadata: Mapping[str, Any] | None = ...,
    on_parent_cancel: OnParentCancel = ...,
) -> Child[R]: ...
@durable_call("sessions.start()")
async def start(
    task: Task[..., R],
    payload: Any,
    *,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    on_parent_cancel: OnParentCancel = "cancel",
) -> Child[R]:
    """Start a session of a task, as a child of this one; a replay gives the same child.

    Args:
        task: The task that it runs.
        payload: What the task gets.
        tags: Tags to find it by.
        metadata: JSON to store with it.
        on_parent_cancel: `cancel` cancels it when this run is cancelled, `leave` lets it go on.

    Raises:
        SchemaMismatch: The payload does not fit the task.
        StepFailed: It can't be started; `.type` names the error.

    Durability: the child is on disk when this returns, once, whatever crashes.   Source: S-91.
    """
    if on_parent_cancel not in ("cancel", "leave"):
        raise UsageError("on_parent_cancel is `cancel` or `leave`")
    if not isinstance(task, Task):
        raise UsageError(
            f"sessions.start() in a task takes the task itself, not {str(task)[:100]!r}",
            hint="Import the function that @task decorates, and hand it over.",
        )
    call = ChildCall(
        task=task.id,
        payload=task.encode_payload(payload),
        tags=tag_list(tags),
        metadata=JSON.encode(metadata_object(metadata)),
        leaves=on_parent_cancel == "leave",
    )
    return Child(task, await require_run("sessions.start()").start_child(call))


async def as_ended(
    children: Iterable[Child[R]], *, timeout: Duration | None = None
) -> AsyncIterator[Ended[R]]:
    """Each of these children once, as they end; the run parks in between.

    Args:
        children: At most 1,000.
        timeout: Longest time until the next child ends.

    Raises:
        WaitTimeout: None ended in that time; the children go on.
    """
    left = {child.id: child for child in children}
    while left:
        call = _call(tuple(left.values()), timeout)
        outcome = await require_run("sessions.as_ended()").wait(call)
        if outcome.status != "fulfilled":
            raise unfulfilled(outcome).error
        yield _ended(left.pop(outcome.data["session_id"]), outcome)


def _call(children: tuple[Child[Any], ...], timeout: Duration | None) -> WaitCall:
    if len(children) > CHILDREN_AWAITED_MAX:
        raise UsageError(
            f"{len(children)} children are awaited at once, the limit is {CHILDREN_AWAITED_MAX}",
            hint="Await them in groups, or let children have children.",
        )
    return WaitCall(
        kind="session",
        session_ids=tuple(child.id for child in children),
        timeout_s=seconds(timeout) if timeout is not None else None,
    )


def _ended(child: Child[R], outcome: WaitOutcome) -> Ended[R]:
    """Return the child's end as recorded in its parent's journal.

    A result that no longer fits the task's type blocks the run, as other recorded data does.
    """
    told: Mapping[str, Any] = outcome.data
    if told["status"] == "succeeded":
        try:
            return Succeeded(child=child, value=child.task.result_codec.decode(told["result"]))
        except SchemaMismatch as refused:
            message = f"the result of {child.id} does not fit: {refused.message}"
            run = require_run("child.result()")
            raise run.unreadable(outcome.op, message, refused) from refused
    error: ChildFailed | WaitCancelled
    if told["status"] == "failed":
        failure = told["error"]
        said = f"{failure['type']}: {failure['message']}" if failure["message"] else failure["type"]
        error = ChildFailed(
            f"{child.id} ({child.task.id}) failed: {said}",
            session_id=child.id,
            type=failure["type"],
            text=failure["message"],
        )
    else:
        error = WaitCancelled(
            f"{child.id} ({child.task.id}) was cancelled",
            session_id=child.id,
            reason="child_cancelled",
        )
    error.op = outcome.op
    return Unsuccessful(child=child, error=error)
