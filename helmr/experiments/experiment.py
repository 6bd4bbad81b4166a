"""What an experiment is: a task, how many sessions of it arrive and when, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - given by the experiment, seeded
from typing import Any

from pydantic import BaseModel, TypeAdapter

from helmr.durations import Duration, seconds
from helmr.errors import UsageError
from helmr.experiments.chance import NO_DELAY, Delay
from helmr.experiments.operators import Operator
from helmr.tasks import Task

SESSIONS_MAX = 1_000_000


@dataclass(frozen=True)
class Case:
    """One session to be, as the payload function sees it.

    Attributes:
        session: Its number, from 0.
        random: Its chance.
    """

    session: int
    random: Random


@dataclass(frozen=True)
class Experiment:
    """Sessions of one task and the operators who answer their waits.

    Args:
        task: The task; its id is enough for a live runtime, the harness needs the task itself.
        sessions: How many.
        operators: Who answers. A wait goes to one who is at work and has a hand free, by lot if there are
            several; one whose policy gives None leaves it to the others. With nobody free it queues, oldest first.
        payload: JSON, a model, or a function of a `Case` that gives one.
        gap: From one session's start to the next one's.
        until: The experiment ends so long after it began, whatever still waits; None: when all have ended or
            nothing can happen any more.
        also: Further tasks that the harness needs.

    Raises:
        UsageError: One of them can't be.
    """

    task: Task[..., Any] | str
    sessions: int
    operators: Sequence[Operator]
    payload: Any | Callable[[Case], Any] = None
    gap: Delay = NO_DELAY
    until: Duration | None = None
    also: Sequence[Task[..., Any]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task | str):
            raise UsageError(f"task is neither a task nor an id: {self.task!r}")
        if type(self.sessions) is not int or not 1 <= self.sessions <= SESSIONS_MAX:
            raise UsageError(f"sessions must be 1 to {SESSIONS_MAX:,}, not {self.sessions!r}")
        if not _are_all(self.operators, Operator):
            raise UsageError("operators must be a sequence of Operator")
        if not _are_all(self.also, Task):
            raise UsageError("also must be a sequence of tasks")
        names = [one.name for one in self.operators]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"two operators are called {twice[0]}", hint="Chance goes by name.")
        if not isinstance(self.gap, Delay):
            raise UsageError(
                f"gap is no Delay: {self.gap!r}", hint='Delay.fixed("1m"), Delay.exponential("5m")'
            )
        if self.until is not None:
            seconds(self.until)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.task if isinstance(self.task, str) else self.task.id

    def payload_of(self, case: Case) -> Any:
        """The payload of one session, as JSON."""
        return to_json(self.payload(case) if callable(self.payload) else self.payload)


def _are_all(values: Any, kind: type) -> bool:
    return isinstance(values, Sequence) and all(isinstance(one, kind) for one in values)


def to_json(value: Any) -> Any:
    """A value as JSON: models and dataclasses by pydantic.

    Raises:
        UsageError: It has no JSON.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    try:
        return TypeAdapter(Any).dump_python(value, mode="json")
    except ValueError as error:
        raise UsageError(f"{value!r} is not JSON") from error
