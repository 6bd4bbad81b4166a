"""A wait's escalation: reminders, assignments and a default answer while no one answers (S-82).

```python
await approval.wait(
    timeout="2d",
    escalation=[
        escalation.remind("4h"),
        escalation.assign("1d", to="lead"),
        escalation.default("36h", False),
    ],
)
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from helmr.errors import BadEscalation
from helmr.models import ASSIGNEE_MAX, ESCALATION_STEPS_MAX, RECORD_BYTES_MAX
from helmr.wire.durations import Duration, seconds
from helmr.wire.schema import Codec

Start = Literal["opened", "assigned"]
"""Start of an escalation step's time: the wait's opening, or its newest assignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationStep:
    """One thing that happens once, when its time has come and the wait is pending."""

    do: Literal["remind", "assign", "default"]
    after_s: float
    from_: Start = "opened"
    to: str | None = None
    value: Any = None


def remind(after: Duration, *, from_: Start = "opened") -> EscalationStep:
    """Notify people again."""
    return EscalationStep(do="remind", after_s=seconds(after), from_=from_)


def assign(after: Duration, *, to: str, from_: Start = "opened") -> EscalationStep:
    """Assign the wait to someone else."""
    if not 1 <= len(to) <= ASSIGNEE_MAX or not to.isprintable():
        raise BadEscalation(f"an assignee is one line of 1 to {ASSIGNEE_MAX} characters")
    return EscalationStep(do="assign", after_s=seconds(after), from_=from_, to=to)


def default(after: Duration, value: Any, *, from_: Start = "opened") -> EscalationStep:
    """Answer with this value; it must fit the wait's schema and come before its timeout."""
    return EscalationStep(do="default", after_s=seconds(after), from_=from_, value=value)


def escalation_json(
    steps: Iterable[EscalationStep], codec: Codec[Any], timeout_s: float | None
) -> tuple[dict[str, Any], ...]:
    """The escalation steps as a wait's entry holds them: `{do, after_s, from, to?, value?}`.

    Raises:
        BadEscalation: Too many, two defaults, or a default that is too large or that the timeout comes before.
        SchemaMismatch: The default does not fit the wait.
    """
    given = tuple(steps)
    if len(given) > ESCALATION_STEPS_MAX:
        raise BadEscalation(f"an escalation has at most {ESCALATION_STEPS_MAX} escalation steps")
    defaults = [step for step in given if step.do == "default"]
    if len(defaults) > 1:
        raise BadEscalation(
            "an escalation has one default", hint="After the first one, nothing is left to answer."
        )
    if timeout_s is not None and any(step.after_s >= timeout_s for step in defaults):
        raise BadEscalation(
            "the default comes at or after the wait's timeout, which ends the wait first",
            hint="Give the default less time than the timeout, or the wait a longer timeout.",
        )
    return tuple(_step_json(step, codec) for step in given)


def _step_json(step: EscalationStep, codec: Codec[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"do": step.do, "after_s": step.after_s, "from": step.from_}
    if step.to is not None:
        found["to"] = step.to
    if step.do == "default":
        found["value"] = codec.encode(step.value)
        if len(json.dumps(found["value"], ensure_ascii=False).encode()) > RECORD_BYTES_MAX:
            raise BadEscalation(f"a default has at most {RECORD_BYTES_MAX} bytes, as any answer")
    return found
