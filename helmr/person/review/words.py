"""Time, people, waits and values as a person reads them, the same in the console, on the command line, on the page.

How long a wait has left and how urgent that is, what ends it, who has claimed it, who did something, and two JSON
values side by side. Every urgency has a sign and a word, so that it reads without colour. Pure; what leaves here is
safe to show unless it says otherwise.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from helmr.gate import CALL_TASK
from helmr.models import (
    AnswerMode,
    ClaimInfo,
    DryRun,
    PrincipalInfo,
    WaitInfo,
    WaitKind,
    WaitStatus,
)
from helmr.wire import durations
from helmr.wire.safe_text import one_line

BRIEF_CELLS = 24
ENDED = {
    WaitStatus.FULFILLED: "answered",
    WaitStatus.TIMED_OUT: "timed out",
    WaitStatus.CANCELLED: "cancelled",
}
"""Words for the ends of waits."""


def escalation_text(step: Mapping[str, Any]) -> str:
    """A step of an escalation as the wire has it: `default after 1d 12h: false`. Its texts are not made safe."""
    what = {
        "assign": f" to {step.get('to')}",
        "default": f": {json.dumps(step.get('value'), ensure_ascii=False)}",
    }
    since = " of its newest assignment" if step.get("from") == "assigned" else ""
    after = durations.spell(float(step["after_s"]))
    return f"{step['do']} after {after}{since}{what.get(step['do'], '')}"


def unknown_name(name: str, known: Collection[str]) -> str:
    """Return a warning if none of the known people has this name; empty if one has, or if none is known."""
    names = {one.casefold(): one for one in known}
    if not name or not names or name in known:
        return ""
    close = difflib.get_close_matches(name.casefold(), names, n=1)
    guess = f" Did you mean {names[close[0]]}?" if close else ""
    return one_line(f"No one here has the name {name}.{guess}", 300)


@dataclass(frozen=True, slots=True)
class NextEnd:
    """Time and cause of a wait's end without an answer. `then` is the answer that this gives, one line, safe."""

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


Line = tuple[str | datetime, ...]
"""A line of text whose times each face spells in its own way."""


def end_line(end: NextEnd) -> Line:
    """Say when the wait's time ends and what then answers. A default's answer is said if `then` has it."""
    if end.is_default:
        then = f"the answer is: {end.then}" if end.then else "its default answers"
        return ("If no one answers by ", end.at, f", {then}")
    return ("It waits until ", end.at, ", and goes on without an answer then")


def spelt(line: Line, spell: Callable[[datetime], str]) -> str:
    """The line as one text; `spell` writes its times."""
    return "".join(spell(part) if isinstance(part, datetime) else part for part in line)


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
    """Describe the end of a dry run, on one safe line."""
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
    """Urgency of a wait; the value is the word shown."""

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
    """The answer that its end gives, if any: `then reject`."""

    @property
    def full_text(self) -> str:
        """`03:00 then reject`."""
        return f"{self.text} {self.then}".rstrip()

    def sign(self) -> str:
        """The sign that stands before the text."""
        return SIGNS[self.urgency]


def of_wait(wait: WaitInfo, now: datetime) -> TimeLeft:
    """Return the time left to the wait's next end, and the answer that this end gives by default."""
    left, end = due(wait.ends_at, now), next_end(wait)
    return replace(left, then=f"then {end.then}") if end is not None and end.is_default else left


def due(deadline_at: datetime | None, now: datetime) -> TimeLeft:
    """Return the due column: `00:41` below ten minutes, then `12m`, `3h 05m`, `5d 2h`, else `none`.

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


def moment_ago(at: datetime, now: datetime) -> str:
    """`21:06 (14m ago)`: a time that has passed, its day where it is another, and how far that is."""
    return f"{day(at, now)} ({ago(at, now)})"


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
    """Return the subject of a wait, or a substitute (S-17). Safe."""
    if wait.subject:
        return one_line(wait.subject, SUBJECT_CELLS)
    if wait.correlation_id:
        return one_line(wait.correlation_id, SUBJECT_CELLS)
    where = wait.stream or wait.token_id or wait.kind.value
    return one_line(f"{wait.task} waits on {where}" if wait.task else where, SUBJECT_CELLS)


def presence(claim: ClaimInfo | None, now: datetime) -> str:
    """Return a claim's holder and time left, `mia, 12m`; empty without a claim. Safe."""
    if claim is None or claim.until <= now:
        return ""
    return f"{one_line(claim.label, 40)}, {span((claim.until - now).total_seconds())}"


def who(principal: PrincipalInfo | None) -> str:
    """Name a principal: `ana`, `ana, said by key on-call`, `app (api_key)`, `callback`, `task`."""
    if principal is None:
        return "unknown"
    name = principal.name or ""
    if principal.person:
        return one_line(principal.label, 80)
    return one_line(f"{name} ({principal.type})" if name else principal.type, 80)


def person(principal: PrincipalInfo | None) -> str:
    """Name a principal briefly: the person, else the key's name, else its type."""
    if principal is None:
        return "unknown"
    return one_line(principal.person or principal.name or principal.type, 80)


def resolver(wait: WaitInfo) -> str:
    """Name the one that ended a wait, or its escalation if that answered. Empty if unknown."""
    if wait.mode is AnswerMode.DEFAULT:
        return ESCALATION_DEFAULT
    return who(wait.resolved_by) if wait.resolved_by is not None else ""


ESCALATION_DEFAULT = "its escalation's default"


def is_by(wait: WaitInfo | None, name: str) -> bool:
    """True if this person ended the wait."""
    by = wait.resolved_by if wait is not None else None
    return by is not None and by.person == name


def ended(wait: WaitInfo) -> str:
    """Describe a wait's end in a word or a few; an agent's call whose time is up is decided where the agent runs."""
    if wait.status is WaitStatus.TIMED_OUT and wait.task == CALL_TASK:
        return "left to the client"
    return ENDED.get(wait.status, "over")


def wait_over(wait: WaitInfo, now: datetime) -> str:
    """Explain why a wait can't be answered; empty if it can."""
    if wait.kind is WaitKind.TIMER:
        return "a timer is answered by the clock"
    if wait.kind is WaitKind.SESSION:
        return "its child sessions answer it"
    if wait.status is not WaitStatus.PENDING:
        by = f" by {name}" if (name := resolver(wait)) else ""
        is_late = wait.status is WaitStatus.TIMED_OUT
        return f"the wait is {ended(wait) if is_late else wait.status.value}{by}"
    if wait.resolving is not None:
        by = f" by {name}" if (name := resolver(wait)) else ""
        return f"its token is {wait.resolving.value}{by}"
    if wait.default_at is not None and wait.default_at <= now:
        return "its escalation's default answers it now"
    if wait.deadline_at is not None and wait.deadline_at <= now:
        return "the deadline has passed; the wait is ending"
    return ""


LINES_MAX = 400
TEXT_MAX = 20_000


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line: `~` changed, `+` only in the second, `-` only in the first, a space for the same."""

    sign: str
    path: str
    text: str


def diff(first: Any, second: Any) -> list[DiffLine]:
    """Diff two JSON values line by line, equal lines too, cut at `LINES_MAX`."""
    lines: list[DiffLine] = []
    for line in _walk(first, second, ""):
        if len(lines) >= LINES_MAX:
            lines.append(DiffLine(" ", "", f"… cut at {LINES_MAX} lines"))
            break
        lines.append(line)
    return lines


def summary(lines: list[DiffLine]) -> str:
    """`3 changed, 1 added, 0 removed`."""
    count = {sign: sum(line.sign == sign for line in lines) for sign in "~+-"}
    if not any(count.values()):
        return "the same"
    return f"{count['~']} changed, {count['+']} added, {count['-']} removed"


def words(first: str, second: str) -> list[tuple[str, str]]:
    """A text as runs of (sign, words): what stayed, went and came."""
    before, after = _split(first), _split(second)
    runs: list[tuple[str, str]] = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for tag, a_from, a_to, b_from, b_to in matcher.get_opcodes():
        if tag == "equal":
            runs.append((" ", "".join(before[a_from:a_to])))
            continue
        if a_to > a_from:
            runs.append(("-", "".join(before[a_from:a_to])))
        if b_to > b_from:
            runs.append(("+", "".join(after[b_from:b_to])))
    return runs


def _walk(first: Any, second: Any, path: str) -> Iterator[DiffLine]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _member(first, second, key, f"{path}.{key}" if path else str(key))
    elif isinstance(first, list) and isinstance(second, list):
        for index in range(max(len(first), len(second))):
            place = f"{path}[{index}]"
            if index >= len(first):
                yield DiffLine("+", place, _short(second[index]))
            elif index >= len(second):
                yield DiffLine("-", place, _short(first[index]))
            else:
                yield from _walk(first[index], second[index], place)
    elif _same(first, second):
        yield DiffLine(" ", path, _short(first))
    elif isinstance(first, str) and isinstance(second, str):
        marked = {" ": "{}", "-": "[-{}-]", "+": "[+{}+]"}
        runs = words(first[:TEXT_MAX], second[:TEXT_MAX])
        yield DiffLine("~", path, "".join(marked[sign].format(text) for sign, text in runs))
    else:
        yield DiffLine("~", path, f"{_short(first)} → {_short(second)}")


def _member(
    first: dict[str, Any], second: dict[str, Any], key: str, path: str
) -> Iterator[DiffLine]:
    if key not in second:
        yield DiffLine("-", path, _short(first[key]))
    elif key not in first:
        yield DiffLine("+", path, _short(second[key]))
    else:
        yield from _walk(first[key], second[key], path)


def _same(first: Any, second: Any) -> bool:
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _split(text: str) -> list[str]:
    parts, word = [], ""
    for char in text:
        if char.isspace():
            parts += [word, char] if word else [char]
            word = ""
        else:
            word += char
    return [*parts, word] if word else parts
