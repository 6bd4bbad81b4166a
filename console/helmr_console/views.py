"""Rows from wire models, alone or in groups. Pure: text, role and sign, no widget.

All session text passes through `helmr.wire.safe_text`. A role is a colour's name and only repeats what the words say. A
group's heading is an ordinary row with a key of its own, so that cursor, marks and merging need not know of groups.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median
from typing import Any

from helmr.gate import CALL_TASK, is_own_tag
from helmr.models import (
    Activity,
    AnswerMode,
    RunInfo,
    RunStatus,
    SessionInfo,
    SessionStatus,
    WaitInfo,
    WaitPriority,
    WaitStatus,
)
from helmr.person.filters import is_failed
from helmr.person.review import words
from helmr.person.review.agreement import tally
from helmr.person.review.words import SUBJECT_CELLS, Urgency, short_id, subject_of
from helmr.wire.safe_text import one_line

LINE_CELLS = 400


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a row.

    Attributes:
        rest: Dim text after `text`, in the remaining room.
        more: Text after `rest`, where the list is wide.
    """

    text: str
    role: str = ""
    rest: str = ""
    more: str = ""


Row = tuple[Cell, ...]

PRIORITY_CELLS = {WaitPriority.HIGH: Cell("◆", "accent"), WaitPriority.LOW: Cell("-", "muted")}
BRIGHT_S = 3_600
"""Seconds before its end from which a deadline is bright."""
DUE_ROLE = {Urgency.NOW: "error", Urgency.SOON: "warning"}
_ACTIVITY = {
    Activity.WAITING: ("?", "accent"),
    Activity.RUNNING: (">", "success"),
    Activity.QUEUED: (":", ""),
    Activity.IDLE: (" ", "muted"),
    Activity.BLOCKED: ("!", "error"),
}
"""Sign and role."""


def who_of(wait: WaitInfo, now: datetime) -> str:
    """The claimant, `○ gus`, else the assignee, `@ada`; once over, the person that ended it. Safe."""
    if wait.status is not WaitStatus.PENDING:
        is_default = wait.mode is AnswerMode.DEFAULT
        by = words.person(wait.resolved_by) if wait.resolved_by is not None else ""
        return "its default" if is_default else by
    if wait.claim is not None and now < wait.claim.until:
        return f"○ {one_line(wait.claim.label, 40)}"
    return f"@{one_line(wait.assignee, 40)}" if wait.assignee else ""


def rest_of(wait: WaitInfo, then: str = "") -> str:
    """Text after a subject: the default to come, the votes, the parent session. Safe."""
    parent = f"of {short_id(wait.parent_session_id)}" if wait.parent_session_id else ""
    return "  ".join(filter(None, (one_line(then, 40), tally(wait), parent)))


def more_of(wait: WaitInfo) -> str:
    """Text after `rest_of`, where there is room: the stream, the correlation id, people's tags. Safe."""
    where = one_line(wait.stream or wait.kind.value, 40) if wait.subject else ""
    said = wait.correlation_id if wait.subject else None
    about = one_line(said, SUBJECT_CELLS) if said and said not in (wait.subject or "") else ""
    tags = " ".join(f"#{one_line(tag, 24)}" for tag in wait.tags if not is_own_tag(tag))
    of_gate = wait.task == CALL_TASK
    return "  ".join(filter(None, ("" if of_gate else where, "" if of_gate else about, tags)))


def wait_row(
    wait: WaitInfo,
    now: datetime,
    *,
    gone: bool,
    stuck_since: datetime | None = None,
    snoozed: str = "",
    draft: str = "",
) -> Row:
    """priority, urgency, due, age, subject, person; each may be empty.

    Args:
        gone: True if the wait is no longer open.
        stuck_since: End of the wait, if its run has not gone on since.
        snoozed: Its return, `back in 20m`.
        draft: `~` if an answer was begun, `~ not sent:` if one was confirmed but not sent.
    """
    mark = PRIORITY_CELLS.get(wait.priority, Cell(""))
    who = Cell(who_of(wait, now), "muted")
    if wait.status is not WaitStatus.PENDING or gone:
        return (mark, *_ended_cells(wait, now, stuck_since), who)
    left = words.of_wait(wait, now)
    is_bright = wait.ends_at is not None and (wait.ends_at - now).total_seconds() < BRIGHT_S
    role = DUE_ROLE.get(left.urgency, "" if is_bright else "muted")
    has_sign = left.urgency not in (Urgency.LATER, Urgency.NEVER)
    subject = subject_of(wait)
    if draft:
        subject = f"{draft} {subject}"
    if snoozed:
        subject = f"snoozed, {snoozed}: {subject}"
    is_dim = left.urgency is Urgency.OVER or bool(snoozed)
    return (
        mark,
        Cell(left.sign() if has_sign else "", role),
        Cell("" if left.urgency is Urgency.NEVER else left.text, role),
        Cell(words.span((now - wait.opened_at).total_seconds()), "muted"),
        Cell(subject, "muted" if is_dim else "", rest_of(wait, left.then), more_of(wait)),
        who,
    )


def _ended_cells(wait: WaitInfo, now: datetime, stuck_since: datetime | None) -> Row:
    """Cells of an ended wait: its end, the time since, its answer."""
    word = words.ended(wait)
    due, role, stuck = Cell(word, "muted"), "muted", ""
    if stuck_since is not None:
        due, role = Cell("queued", "warning"), "warning"
        stuck = f"not gone on for {words.span((now - stuck_since).total_seconds())}"
    said = f"→ {words.brief(wait.answer)}" if wait.answer is not None else ""
    rest = "  ".join(filter(None, (stuck, said, rest_of(wait))))
    since = (now - (wait.resolved_at or wait.opened_at)).total_seconds()
    ago = Cell(words.span(since), "muted")
    return (Cell("x", due.role), due, ago, Cell(subject_of(wait), role, rest, more_of(wait)))


def group_row(text: str) -> Row:
    """The heading of a group, across all columns."""
    return (Cell(one_line(text, LINE_CELLS), "accent"),)


def session_state(session: SessionInfo) -> tuple[str, str, str]:
    """A session's state in a word, its sign and role; `failed` stands for the newest run."""
    if session.status is not SessionStatus.OPEN:
        sign = "!" if session.run_status is RunStatus.FAILED else " "
        return session.status.value, sign, "muted"
    if is_failed(session):
        return RunStatus.FAILED.value, "!", "error"
    return session.activity.value, *_ACTIVITY[session.activity]


def error_line(session: SessionInfo) -> str:
    """First line of the newest run's error. Safe; empty without one."""
    if session.error is None:
        return ""
    return one_line(session.error.text.strip().partition("\n")[0], LINE_CELLS)


def failed_text(failed: int, blocked: int) -> str:
    """`2 failed, 1 blocked`; empty for none of either."""
    return ", ".join(f"{n} {word}" for n, word in ((failed, "failed"), (blocked, "blocked")) if n)


def session_row(session: SessionInfo, now: datetime) -> Row:
    """sign, state, task, wait, external id, quiet time, session."""
    ended = session.status is not SessionStatus.OPEN
    state, sign, role = session_state(session)
    wait = session.wait
    about = ""
    if wait is not None:
        due = f" ({words.of_wait(wait, now).full_text})" if wait.ends_at is not None else ""
        about = f"{subject_of(wait)}{due}"
    elif session.queued_for is not None:
        about = session.queued_for.text
    elif session.queued_at is not None:
        about = queued_text(session.queued_at, now)
    elif session.error is not None:
        about = error_line(session)
    about_role = "muted" if ended else "error" if session.error is not None else ""
    return (
        Cell(sign, role),
        Cell(state, role),
        Cell(one_line(session.task, 60), "muted" if ended else ""),
        Cell(about, about_role),
        Cell(one_line(session.external_id or "", 80), "muted"),
        Cell(words.span((now - session.updated_at).total_seconds()), "muted"),
        Cell(short_id(session.id), "muted"),
    )


def queued_text(queued_at: datetime, now: datetime) -> str:
    """`queued for 5m, not gone on yet`, or the time until the next attempt."""
    waited_s = (now - queued_at).total_seconds()
    if waited_s < 0:
        return f"next attempt in {words.span(-waited_s)}"
    return f"queued for {words.span(waited_s)}, not gone on yet"


def run_row(run: RunInfo, now: datetime) -> Row:
    """sign, status, attempt, started by, age, error or result, run."""
    role = {"failed": "error", "blocked": "error", "succeeded": "success", "cancelled": "muted"}
    status = run.status.value
    error = run.error
    said = error.text if error else ""
    if not said and run.retry_at is not None:
        said = f"next attempt at {words.clock(run.retry_at)}"
    if not said and run.queued_for is not None:
        said = run.queued_for.text
    if not said and run.result is not None:
        said = f"result {json_words(run.result)}"
    end = run.ended_at or now
    return (
        Cell("!" if status in ("failed", "blocked") else " ", role.get(status, "")),
        Cell(status, role.get(status, "")),
        Cell(f"{run.attempt}", "muted"),
        Cell(one_line(str(run.started_by.get("type", "")), 20), "muted"),
        Cell(words.span((end - run.created_at).total_seconds()), "muted"),
        Cell(one_line(said, LINE_CELLS), "error" if error else ""),
        Cell(short_id(run.id), "muted"),
    )


def json_words(value: Any) -> str:
    """A value on a line: a string as it is, empty for None, else JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_HEAD = "group "


class By(StrEnum):
    """Property by which waits are grouped; the value is its word."""

    NOTHING = ""
    STREAM = "stream"
    TASK = "task"
    TAG = "tag"
    ASSIGNEE = "assignee"
    AGENT = "agent"
    """The agent session that asks about its calls."""

    @property
    def next(self) -> By:
        """The next property; the last is followed by the first."""
        found = tuple(By)
        return found[(found.index(self) + 1) % len(found)]


def head_of(name: str) -> str:
    """Key of a group's heading."""
    return f"{_HEAD}{name}"


def group_of(key: str) -> str | None:
    """The group whose heading has this key; None for a wait's key."""
    return key.removeprefix(_HEAD) if key.startswith(_HEAD) else None


def name_of(wait: WaitInfo, by: By) -> str:
    """The group of a wait, empty for none; the first of several tags counts."""
    found = {
        By.STREAM: wait.stream or wait.kind.value,
        By.TASK: wait.task,
        By.TAG: next(iter((*wait.tags, *wait.session_tags)), ""),
        By.ASSIGNEE: wait.assignee or "",
        By.AGENT: next(iter(wait.session_tags), "") if wait.task == CALL_TASK else "",
    }
    return found.get(by, "")


def in_groups(waits: Sequence[WaitInfo], by: By) -> dict[str, list[WaitInfo]]:
    """Groups by name, the nameless one last; waits keep their order."""
    found: dict[str, list[WaitInfo]] = {}
    for wait in waits:
        found.setdefault(name_of(wait, by), []).append(wait)
    return dict(sorted(found.items(), key=lambda one: (not one[0], one[0].casefold(), one[0])))


def head_text(name: str, by: By, waits: Sequence[WaitInfo], now: datetime) -> str:
    """`stream approval: 4 waits, oldest 2h 10m`. Unsafe: the name is as stored."""
    what = f"{by.value} {name}" if name else f"no {by.value}"
    if not waits:
        return f"{what}: nothing more"
    return f"{what}: {len(waits)} {'wait' if len(waits) == 1 else 'waits'}, oldest {_span(_ages(waits, now)[-1])}"


def figures(waits: Sequence[WaitInfo], now: datetime) -> list[str]:
    """Oldest and median age of the waits; empty without waits."""
    if not waits:
        return []
    ages = _ages(waits, now)
    return [f"oldest {_span(ages[-1])}", f"median {_span(median(ages))}"]


def _ages(waits: Sequence[WaitInfo], now: datetime) -> list[float]:
    return sorted((now - wait.opened_at).total_seconds() for wait in waits)


def _span(seconds: float) -> str:
    return words.span(max(0.0, seconds))
