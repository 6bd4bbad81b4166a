"""Time, people and waits as a person reads them, the same in the console, on the command line and on the answer page.

How long a wait has left and how urgent that is, what ends it, who is at it, who did something. Every urgency has a
sign and a word, so that it reads without colour. Pure; what leaves here is safe to show unless it says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from helmr import durations
from helmr.forms import MISSING
from helmr.models import (
    AnswerMode,
    ClaimInfo,
    DryRun,
    PrincipalInfo,
    WaitInfo,
    WaitKind,
    WaitStatus,
)
from helmr.safe_text import one_line

BRIEF_CELLS = 24


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


NOW_S = 60
SOON_S = 600
DAY_S = 86_400


class Urgency(StrEnum):
    """How soon a wait is over; the value is the word for it."""

    NOW = "now"
    SOON = "soon"
    LATER = "later"
    NEVER = "no deadline"
    OVER = "ending"


SIGNS = {
    Urgency.NOW: "!",
    Urgency.SOON: "▲",
    Urgency.LATER: "·",
    Urgency.NEVER: "·",
    Urgency.OVER: "x",
}


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Time left: its text, and how urgent it is."""

    text: str
    urgency: Urgency
    then: str = ""
    """What is said when it is over, if that is not nothing: `then reject`."""

    @property
    def full_text(self) -> str:
        """`03:00 then reject`."""
        return f"{self.text} {self.then}".rstrip()

    def sign(self) -> str:
        """The sign that stands before the text."""
        return SIGNS[self.urgency]


def of_wait(wait: WaitInfo, now: datetime) -> TimeLeft:
    """How long a pending wait has, to the next thing that ends it, and what its escalation then says for people."""
    left, end = due(wait.ends_at, now), next_end(wait)
    return replace(left, then=f"then {end.then}") if end is not None and end.is_default else left


def due(deadline_at: datetime | None, now: datetime) -> TimeLeft:
    """What the due column says: `00:41` below ten minutes, then `12m`, `3h 05m`, `5d 2h`, else `none`.

    At and after the deadline it says `ending`: the wait is over, only its record may lag (S-14).
    """
    if deadline_at is None:
        return TimeLeft("none", Urgency.NEVER)
    left_s = (deadline_at - now).total_seconds()
    if left_s <= 0:
        return TimeLeft("ending", Urgency.OVER)
    whole = int(left_s)
    if whole < SOON_S:
        urgency = Urgency.NOW if whole < NOW_S else Urgency.SOON
        return TimeLeft(f"{whole // 60:02d}:{whole % 60:02d}", urgency)
    return TimeLeft(span(whole), Urgency.LATER)


def span(seconds: float) -> str:
    """A stretch of time in at most seven cells: `42s`, `12m`, `3h 05m`, `5d 2h`, `400d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m"
    if whole < DAY_S:
        return f"{whole // 3_600}h {whole % 3_600 // 60:02d}m"
    days, rest = divmod(whole, DAY_S)
    return f"{days}d {rest // 3_600}h" if days < 100 else f"{days}d"


def ago(moment: datetime, now: datetime) -> str:
    """`12m ago`; a moment in the future by a wrong clock is `now`."""
    passed_s = (now - moment).total_seconds()
    return "now" if passed_s < 1 else f"{span(passed_s)} ago"


def clock(moment: datetime) -> str:
    """`14:32:10`, UTC."""
    return moment.strftime("%H:%M:%S")


def day(moment: datetime, now: datetime) -> str:
    """`14:32`, and the day where it is another: `14:32 on 26 Nov`, `14:32 on 3 Jan 2027`; UTC."""
    text = moment.strftime("%H:%M")
    if moment.date() == now.date():
        return text
    year = "" if moment.year == now.year else f" {moment.year}"
    return f"{text} on {moment.day} {moment.strftime('%b')}{year}"


def moment(at: datetime, now: datetime) -> str:
    """`21:06 (14m)`: a time ahead, its day where it is another, and how far that is."""
    left_s = (at - now).total_seconds()
    return f"{day(at, now)} ({span(left_s)})" if left_s > 0 else f"{day(at, now)} (over)"


def stamp(moment: datetime) -> str:
    """`2026-11-24 14:32:10 UTC`."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int) -> str:
    """Bytes for people: `812 B`, `4.2 kB`, `1.3 MB`."""
    if count < 1_000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1_000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


SUBJECT_CELLS = 300


SHORT_ID_CHARS = 7


def short_id(value: str) -> str:
    """The end of an id, which is its random part: `ses_…k4d2a9f`; ids of one second begin alike."""
    prefix, _, rest = one_line(value, 60).partition("_")
    return f"{prefix}…{rest[-SHORT_ID_CHARS:]}" if len(rest) > SHORT_ID_CHARS else value


def subject_of(wait: WaitInfo) -> str:
    """What a wait is about (S-17), safe."""
    if wait.subject:
        return one_line(wait.subject, SUBJECT_CELLS)
    if wait.correlation_id:
        return one_line(wait.correlation_id, SUBJECT_CELLS)
    where = wait.stream or wait.token_id or wait.kind.value
    return one_line(f"{wait.task} waits on {where}" if wait.task else where, SUBJECT_CELLS)


def initial_of(wait: WaitInfo) -> Any:
    """What the wait's form starts with."""
    return wait.initial if wait.initial is not None else MISSING


def presence(claim: ClaimInfo | None, now: datetime) -> str:
    """Who is at a wait and for how long yet, `mia, 12m`; empty if nobody is. Safe."""
    if claim is None or claim.until <= now:
        return ""
    return f"{one_line(claim.label, 40)}, {span((claim.until - now).total_seconds())}"


def who(principal: PrincipalInfo | None) -> str:
    """Who acted, in words: `ana (api_key on-call)`, `callback`, `task`."""
    if principal is None:
        return "unknown"
    name = principal.name or ""
    if principal.on_behalf_of:
        return one_line(
            f"{principal.on_behalf_of} ({principal.type} {name})".replace(" )", ")"), 80
        )
    return one_line(f"{name} ({principal.type})" if name else principal.type, 80)


def person(principal: PrincipalInfo | None) -> str:
    """Who acted, in as few words as tell people apart: the person, else the key's name, else what it was."""
    if principal is None:
        return "unknown"
    return one_line(principal.on_behalf_of or principal.name or principal.type, 80)


def resolver(wait: WaitInfo) -> str:
    """Who ended a wait; its escalation, where that answered for people. Empty if that is not known."""
    if wait.mode is AnswerMode.DEFAULT:
        return "its escalation's default"
    return who(wait.resolved_by) if wait.resolved_by is not None else ""


def is_by(wait: WaitInfo | None, name: str) -> bool:
    """Whether this person ended the wait."""
    by = wait.resolved_by if wait is not None else None
    return by is not None and by.on_behalf_of == name


def wait_over(wait: WaitInfo, now: datetime) -> str:
    """Why a wait can't be answered, or not any more; empty if it can."""
    if wait.kind is WaitKind.TIMER:
        return "a timer is answered by the clock"
    if wait.kind is WaitKind.SESSION:
        return "its child sessions answer it"
    if wait.status is not WaitStatus.PENDING:
        by = f" by {name}" if (name := resolver(wait)) else ""
        return f"the wait is {wait.status.value.replace('_', ' ')}{by}"
    if wait.default_at is not None and wait.default_at <= now:
        return "its escalation's default answers it now"
    if wait.deadline_at is not None and wait.deadline_at <= now:
        return "the deadline has passed; the wait is ending"
    return ""
