"""Simulated operators: who answers waits, how, after how long and when they are at work."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random  # noqa: TID251 - given by the experiment, seeded
from typing import Any, Literal

from helmr.errors import UsageError
from helmr.experiments.chance import NO_DELAY, Delay
from helmr.experiments.hours import WorkingHours


@dataclass(frozen=True)
class Asked:
    """A wait as a policy sees it.

    Attributes:
        session: Number of the session in the experiment, from 0.
        number: Number of the wait in its session, from 1.
        payload: What the session was started with, as JSON.
        deadline_at: None if it waits for ever.
        random: This operator's chance for this wait; draw from nothing else, or runs differ.
        assignee: Whom it concerns.
        reminders: How often its escalation has reminded; each time everybody is asked again.
    """

    session: int
    number: int
    payload: Any
    task: str
    kind: str
    stream: str | None
    correlation_id: str | None
    subject: str | None
    body: str | None
    opened_at: datetime
    deadline_at: datetime | None
    random: Random = field(compare=False)
    assignee: str | None = None
    reminders: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer to be given as it is: how a policy answers `null`."""

    data: Any


Policy = Callable[[Asked], Any]
"""What an operator answers: JSON data or a model; None leaves the wait to others."""


def always(data: Any) -> Policy:
    """The same answer to everything."""
    return lambda asked: Answer(data)


def ignore(asked: Asked) -> None:
    """Answer nothing."""


def choose(weights: Mapping[str, float], *, field_name: str = "decision") -> Policy:
    """One of several decisions by chance: `choose({"approve": 0.8, "reject": 0.2})` answers `{"decision": …}`.

    Args:
        weights: How likely each is, relative to the others; > 0.
        field_name: The field that the decision is put in.

    Raises:
        UsageError: No decision, or a weight that is not positive.
    """
    if not weights or not all(_is_weight(weight) for weight in weights.values()):
        raise UsageError(f"choose needs decisions with weights > 0, not {dict(weights)!r}")
    decisions, total = list(weights.items()), sum(weights.values())

    def policy(asked: Asked) -> Any:
        drawn = asked.random.random() * total
        for decision, weight in decisions:
            drawn -= weight
            if drawn < 0:
                return {field_name: decision}
        return {field_name: decisions[-1][0]}

    return policy


@dataclass(frozen=True)
class Operator:
    """One who answers.

    Args:
        name: Unique in the experiment; a live runtime records it as the person on whose behalf the answer came.
        policy: What they answer.
        delay: From taking a wait up to answering it, in their working time.
        hours: When they are at work; None is always.
        at_once: How many waits they have in hand at a time; None has no limit, 1 makes a queue.
        takes: `any` wait, or only those that are `assigned` to them by this name.

    Raises:
        UsageError: One of them can't be.
    """

    name: str
    policy: Policy
    delay: Delay = NO_DELAY
    hours: WorkingHours | None = None
    at_once: int | None = None
    takes: Literal["any", "assigned"] = "any"

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 100:
            raise UsageError(f"an operator needs a name of 1 to 100 characters, not {self.name!r}")
        if not callable(self.policy):
            raise UsageError(f"the policy of {self.name} is no function: {self.policy!r}")
        if inspect.iscoroutinefunction(self.policy):
            raise UsageError(f"the policy of {self.name} is an `async def`, not a plain function")
        if not isinstance(self.delay, Delay):
            raise UsageError(
                f"the delay of {self.name} is no Delay: {self.delay!r}",
                hint='Delay.fixed("5m"), Delay.lognormal("20m"), …',
            )
        if self.at_once is not None and (type(self.at_once) is not int or self.at_once < 1):
            raise UsageError(f"at_once of {self.name} must be an int >= 1 or None")
        if self.takes not in ("any", "assigned"):
            raise UsageError(f"takes of {self.name} must be 'any' or 'assigned'")

    def is_asked(self, assignee: str | None) -> bool:
        """Whether a wait that concerns that one is offered to them."""
        return self.takes == "any" or assignee == self.name

    def is_at_work(self, moment: datetime) -> bool:
        """True within their hours."""
        return self.hours is None or self.hours.is_open(moment)


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf
