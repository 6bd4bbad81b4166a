"""Words about a wait that the command line and the console share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helmr import durations
from helmr.safe_text import one_line

BRIEF_CELLS = 24

if TYPE_CHECKING:
    from datetime import datetime

    from helmr.models import DryRun, WaitInfo


def escalation_text(step: Mapping[str, Any]) -> str:
    """A step of an escalation as the wire has it: `default after 1d 12h: false`. Its texts are not made safe."""
    what = {
        "assign": f" to {step.get('to')}",
        "default": f": {json.dumps(step.get('value'), ensure_ascii=False)}",
    }
    since = " of its newest assignment" if step.get("from") == "assigned" else ""
    after = durations.spell(float(step["after_s"]))
    return f"{step['do']} after {after}{since}{what.get(step['do'], '')}"


@dataclass(frozen=True, slots=True)
class NextEnd:
    """What ends a pending wait if nobody does, and when. `then` is what is said by that, one line, safe."""

    at: datetime
    then: str
    is_default: bool


def next_end(wait: WaitInfo) -> NextEnd | None:
    """The escalation's default, which then answers for people, or the deadline; None if only an answer ends the
    wait."""
    if wait.ends_at is None:
        return None
    if wait.default_at is None:
        return NextEnd(wait.ends_at, "no answer", is_default=False)
    values = [step.get("value") for step in wait.escalation if step.get("do") == "default"]
    said = brief(values[0]) if values else "its default"
    return NextEnd(wait.default_at, said, is_default=True)


def brief(value: Any) -> str:
    """An answer in a word or two: of an object the decision, or its only value; else its JSON. Safe."""
    if isinstance(value, Mapping):
        decision = value.get("decision")
        if isinstance(decision, str):
            return one_line(decision, BRIEF_CELLS)
        if len(value) == 1:
            return brief(next(iter(value.values())))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text, BRIEF_CELLS)


def escalation_texts(wait: WaitInfo, spell: Callable[[datetime], str]) -> list[str]:
    """The steps of a wait's escalation, and of the one that comes next when it does; `spell` writes that time."""
    texts = [escalation_text(step) for step in wait.escalation]
    if wait.next_escalation is not None and wait.next_escalation_at is not None:
        texts[wait.next_escalation] += f"; next, at {spell(wait.next_escalation_at)}"
    return texts


def dry_run_end(one: DryRun) -> str:
    """Where a dry run ended, on one line, safe."""
    last = one.ops[-1] if one.ops else None
    match one.ended:
        case "step" | "wait" | "token" if last is not None:
            text = f"before {last.kind} {last.name}, which a dry run does not do"
        case "returned":
            text = f"the run succeeds with {json.dumps(one.result, ensure_ascii=False)}"
        case "raised":
            text = f"the attempt fails: {one.message}"
        case "differs" | "schema":
            text = f"the run is blocked: {one.message}"
        case "open":
            text = "the code waits for a step that runs"
        case "time":
            text = "the code had not come further after ten seconds"
        case _:
            text = "after a thousand ops"
    return one_line(text, None)
