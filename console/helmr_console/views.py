"""From wire models to what a row shows. Pure: text, role and sign, no widget.

All text of a session leaves here through `helmr.safe_text`; a role is a colour's name and only repeats what
the words say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr.filters import is_failed
from helmr.forms import MISSING
from helmr.models import (
    Activity,
    AnswerMode,
    ClaimInfo,
    PrincipalInfo,
    RunInfo,
    RunStatus,
    SessionInfo,
    SessionStatus,
    WaitInfo,
    WaitKind,
    WaitPriority,
    WaitStatus,
)
from helmr.safe_text import one_line
from helmr_console import countdown
from helmr_console.countdown import Urgency

SUBJECT_CELLS = 300
LINE_CELLS = 400
SHORT_ID_CHARS = 7


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a row."""

    text: str
    role: str = ""


Row = tuple[Cell, ...]

PRIORITY_SIGNS = {WaitPriority.HIGH: "+", WaitPriority.LOW: "-"}
DUE_ROLE = {Urgency.NOW: "error", Urgency.SOON: "warning"}
_ACTIVITY = {
    Activity.WAITING: ("?", "accent"),
    Activity.RUNNING: (">", "success"),
    Activity.QUEUED: (":", ""),
    Activity.IDLE: (" ", "muted"),
    Activity.BLOCKED: ("!", "error"),
}
"""Sign and role."""


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


def labelled(wait: WaitInfo) -> str:
    """What a wait is about, with what it says of itself: `Refund? @ada #money`; safe."""
    assignee = f"  @{one_line(wait.assignee, 40)}" if wait.assignee else ""
    tags = "".join(f" #{one_line(tag, 24)}" for tag in wait.tags)
    return f"{subject_of(wait)}{assignee}{tags and ' ' + tags}"


def presence(claim: ClaimInfo | None, now: datetime) -> str:
    """Who is at a wait and for how long yet, `mia, 12m`; empty if nobody is. Safe."""
    if claim is None or claim.until <= now:
        return ""
    return f"{one_line(claim.label, 40)}, {countdown.span((claim.until - now).total_seconds())}"


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


def wait_row(
    wait: WaitInfo,
    now: datetime,
    *,
    gone: bool,
    stuck_since: datetime | None = None,
    snoozed: str = "",
    draft: str = "",
) -> Row:
    """signs, due, age, subject, stream, reference.

    The signs are those of urgency and priority: `!+` is under a minute and high, `·-` later and low.

    Args:
        gone: It is no longer open.
        stuck_since: It is over, and its run has not gone on.
        snoozed: When it is back, `back in 20m`.
        draft: `~` if an answer was begun, `~ not sent:` if one was confirmed and did not leave.
    """
    at_it = presence(wait.claim, now)
    subject = f"{labelled(wait)}  ○ {at_it}" if at_it else labelled(wait)
    if wait.status is not WaitStatus.PENDING or gone:
        word = {
            WaitStatus.FULFILLED: "answered",
            WaitStatus.TIMED_OUT: "timed out",
            WaitStatus.CANCELLED: "cancelled",
        }.get(wait.status, "over")
        sign, due, role = "x", Cell(word, "muted"), "muted"
        if stuck_since is not None:
            due, role = Cell("queued", "warning"), "warning"
            age = countdown.span((now - stuck_since).total_seconds())
            subject = f"{word}, not gone on for {age}: {subject}"
    else:
        left = countdown.of_wait(wait, now)
        subject += f"  {one_line(left.then, 40)}" if left.then else ""
        role = DUE_ROLE.get(left.urgency, "muted")
        sign, due = left.sign(), Cell(left.text, role)
        role = "muted" if left.urgency is Urgency.OVER or snoozed else ""
        if draft:
            subject = f"{draft} {subject}"
        if snoozed:
            subject = f"snoozed, {snoozed}: {subject}"
    return (
        Cell(sign + PRIORITY_SIGNS.get(wait.priority, ""), due.role),
        due,
        Cell(countdown.span((now - wait.opened_at).total_seconds()), "muted"),
        Cell(subject, role),
        Cell(one_line(wait.stream or wait.kind.value, 60), "muted"),
        Cell(reference_of(wait), "muted"),
    )


def reference_of(wait: WaitInfo) -> str:
    """What it is about elsewhere: the correlation id, where the subject does not say it; else the session. Safe."""
    if wait.correlation_id and wait.subject and wait.correlation_id not in wait.subject:
        return one_line(wait.correlation_id, SUBJECT_CELLS)
    return short_id(wait.session_id)


def group_row(text: str) -> Row:
    """The heading of a group, across all columns."""
    return (Cell(one_line(text, LINE_CELLS), "accent"),)


def session_state(session: SessionInfo) -> tuple[str, str, str]:
    """A session's state in a word, its sign and role; that its newest run failed is one."""
    if session.status is not SessionStatus.OPEN:
        sign = "!" if session.run_status is RunStatus.FAILED else " "
        return session.status.value, sign, "muted"
    if is_failed(session):
        return RunStatus.FAILED.value, "!", "error"
    return session.activity.value, *_ACTIVITY[session.activity]


def error_line(session: SessionInfo) -> str:
    """Why its newest run failed or is blocked, the first line. Safe; empty if it did not."""
    if session.error is None:
        return ""
    return one_line(session.error.text.strip().partition("\n")[0], LINE_CELLS)


def failed_text(failed: int, blocked: int) -> str:
    """`2 failed, 1 blocked`; empty for none of either."""
    return ", ".join(f"{n} {word}" for n, word in ((failed, "failed"), (blocked, "blocked")) if n)


def session_row(session: SessionInfo, now: datetime) -> Row:
    """sign, state, task, waits for, external id, quiet for, session."""
    ended = session.status is not SessionStatus.OPEN
    state, sign, role = session_state(session)
    wait = session.wait
    about = ""
    if wait is not None:
        due = f" ({countdown.of_wait(wait, now).full_text})" if wait.ends_at is not None else ""
        about = f"{subject_of(wait)}{due}"
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
        Cell(countdown.span((now - session.updated_at).total_seconds()), "muted"),
        Cell(short_id(session.id), "muted"),
    )


def queued_text(queued_at: datetime, now: datetime) -> str:
    """How long a queued run has not gone on, or when its next attempt begins."""
    waited_s = (now - queued_at).total_seconds()
    if waited_s < 0:
        return f"next attempt in {countdown.span(-waited_s)}"
    return f"queued for {countdown.span(waited_s)}, not gone on yet"


def run_row(run: RunInfo, now: datetime) -> Row:
    """sign, status, attempt, started by, age, error or result, run."""
    role = {"failed": "error", "blocked": "error", "succeeded": "success", "cancelled": "muted"}
    status = run.status.value
    error = run.error
    said = error.text if error else ""
    if not said and run.retry_at is not None:
        said = f"next attempt at {countdown.clock(run.retry_at)}"
    if not said and run.result is not None:
        said = f"result {json_words(run.result)}"
    end = run.ended_at or now
    return (
        Cell("!" if status in ("failed", "blocked") else " ", role.get(status, "")),
        Cell(status, role.get(status, "")),
        Cell(f"{run.attempt}", "muted"),
        Cell(one_line(str(run.started_by.get("type", "")), 20), "muted"),
        Cell(countdown.span((end - run.created_at).total_seconds()), "muted"),
        Cell(one_line(said, LINE_CELLS), "error" if error else ""),
        Cell(short_id(run.id), "muted"),
    )


def json_words(value: Any) -> str:
    """A value in a line: a text as it is, nothing for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
