"""Words about a wait that the command line and the console share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from helmr import durations
from helmr.safe_text import one_line

if TYPE_CHECKING:
    from datetime import datetime

    from helmr.models import Rehearsal, WaitInfo


def rung_text(rung: Mapping[str, Any]) -> str:
    """A rung of a ladder as the wire has it: `default after 1d 12h: false`. Its texts are not made safe."""
    what = {
        "assign": f" to {rung.get('to')}",
        "default": f": {json.dumps(rung.get('value'), ensure_ascii=False)}",
    }
    since = " of its newest assignment" if rung.get("from") == "assigned" else ""
    after = durations.spell(float(rung["after_s"]))
    return f"{rung['do']} after {after}{since}{what.get(rung['do'], '')}"


def rung_texts(wait: WaitInfo, spell: Callable[[datetime], str]) -> list[str]:
    """The rungs of a wait's ladder, and of the one that comes next when it does; `spell` writes that time."""
    texts = [rung_text(rung) for rung in wait.ladder]
    if wait.next_rung is not None and wait.next_rung_at is not None:
        texts[wait.next_rung] += f"; next, at {spell(wait.next_rung_at)}"
    return texts


def rehearsal_end(one: Rehearsal) -> str:
    """Where a rehearsal ended, on one line, safe."""
    last = one.ops[-1] if one.ops else None
    match one.ended:
        case "step" | "wait" | "token" if last is not None:
            text = f"before {last.kind} {last.name}, which a rehearsal does not do"
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
