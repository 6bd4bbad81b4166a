"""A wait's ladder: what is to happen while nobody answers (S-82).

```python
await approval.wait(
    timeout="2d",
    ladder=[ladder.remind("4h"), ladder.assign("1d", to="lead"), ladder.default("36h", False)],
)
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from helmr.durations import Duration, seconds
from helmr.errors import BadLadder
from helmr.models import ASSIGNEE_MAX, LADDER_RUNGS_MAX, RECORD_BYTES_MAX
from helmr.schema import Codec

Start = Literal["opened", "assigned"]
"""What a rung's time is counted from: the wait's opening, or its newest assignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One thing that happens once, when its time has come and the wait is pending."""

    do: Literal["remind", "assign", "default"]
    after_s: float
    from_: Start = "opened"
    to: str | None = None
    value: Any = None


def remind(after: Duration, *, from_: Start = "opened") -> Rung:
    """Tell people again."""
    return Rung(do="remind", after_s=seconds(after), from_=from_)


def assign(after: Duration, *, to: str, from_: Start = "opened") -> Rung:
    """Make it somebody else's."""
    if not 1 <= len(to) <= ASSIGNEE_MAX or not to.isprintable():
        raise BadLadder(f"an assignee is one line of 1 to {ASSIGNEE_MAX} characters")
    return Rung(do="assign", after_s=seconds(after), from_=from_, to=to)


def default(after: Duration, value: Any, *, from_: Start = "opened") -> Rung:
    """Answer with this value; it must fit the wait's schema and come before its timeout."""
    return Rung(do="default", after_s=seconds(after), from_=from_, value=value)


def rungs_json(
    rungs: Iterable[Rung], codec: Codec[Any], timeout_s: float | None
) -> tuple[dict[str, Any], ...]:
    """The rungs as a wait's entry holds them: `{do, after_s, from, to?, value?}`.

    Raises:
        BadLadder: Too many, two defaults, or a default that is too large or that the timeout comes before.
        SchemaMismatch: The default does not fit the wait.
    """
    given = tuple(rungs)
    if len(given) > LADDER_RUNGS_MAX:
        raise BadLadder(f"a ladder has at most {LADDER_RUNGS_MAX} rungs")
    defaults = [rung for rung in given if rung.do == "default"]
    if len(defaults) > 1:
        raise BadLadder("a ladder has one default", hint="The first would leave nothing to answer.")
    if timeout_s is not None and any(rung.after_s >= timeout_s for rung in defaults):
        raise BadLadder(
            "the default comes at or after the wait's timeout, which ends the wait first",
            hint="Give it less time than the timeout, or the wait a longer one.",
        )
    return tuple(_rung_json(rung, codec) for rung in given)


def _rung_json(rung: Rung, codec: Codec[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"do": rung.do, "after_s": rung.after_s, "from": rung.from_}
    if rung.to is not None:
        found["to"] = rung.to
    if rung.do == "default":
        found["value"] = codec.encode(rung.value)
        if len(json.dumps(found["value"], ensure_ascii=False).encode()) > RECORD_BYTES_MAX:
            raise BadLadder(f"a default has at most {RECORD_BYTES_MAX} bytes, as any answer")
    return found
