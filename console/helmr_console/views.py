"""From wire models to what a row shows. Pure: text, role and sign, no widget.

All text of a session leaves here through `helmr.safe_text`; a role is a colour's name and only repeats what
the words say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard

from helmr import ids
from helmr.forms import MISSING, pretty
from helmr.models import (
    Activity,
    ClaimInfo,
    EntryInfo,
    PrincipalInfo,
    RunInfo,
    SessionInfo,
    WaitInfo,
    WaitKind,
    WaitPriority,
    WaitStatus,
)
from helmr.safe_text import one_line, plain
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


def wait_over(wait: WaitInfo, now: datetime) -> str:
    """Why a wait can't be answered, or not any more; empty if it can."""
    if wait.kind is WaitKind.TIMER:
        return "a timer is answered by the clock"
    if wait.kind is WaitKind.SESSION:
        return "its child sessions answer it"
    if wait.status is not WaitStatus.PENDING:
        by = f" by {who(wait.resolved_by)}" if wait.resolved_by else ""
        return f"the wait is {wait.status.value.replace('_', ' ')}{by}"
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
) -> Row:
    """signs, due, age, subject, stream, reference.

    The signs are those of urgency and priority: `!+` is under a minute and high, `·-` later and low.

    Args:
        gone: It is no longer open.
        stuck_since: It is over, and its run has not gone on.
        snoozed: When it is back, `back in 20m`.
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
        left = countdown.due(wait.deadline_at, now)
        role = DUE_ROLE.get(left.urgency, "muted")
        sign, due = left.sign(), Cell(left.text, role)
        role = "muted" if left.urgency is Urgency.OVER or snoozed else ""
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


def session_row(session: SessionInfo, now: datetime) -> Row:
    """sign, state, task, waits for, external id, quiet for, session."""
    ended = session.status.value != "open"
    state = session.status.value if ended else session.activity.value
    sign, role = (" ", "muted") if ended else _ACTIVITY[session.activity]
    wait = session.wait
    about = ""
    if wait is not None:
        left = countdown.due(wait.deadline_at, now)
        due = f" ({left.text})" if wait.deadline_at is not None else ""
        about = f"{subject_of(wait)}{due}"
    elif session.queued_at is not None:
        about = queued_text(session.queued_at, now)
    return (
        Cell(sign, role),
        Cell(state, role),
        Cell(one_line(session.task, 60), "muted" if ended else ""),
        Cell(about, "muted" if ended else ""),
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
    said = f"{error.type or error.code}: {error.message}" if error else ""
    if not said and run.retry_at is not None:
        said = f"next attempt at {countdown.clock(run.retry_at)}"
    if not said and run.result is not None:
        said = f"result {_json(run.result)}"
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


# --- entries ------------------------------------------------------------------------------------

_RULE_KINDS = ("run.created", "run.started", "run.retried", "run.rewound", "session.forked")
"""Entries that begin something and are drawn with a line."""

_WORDS = {
    "session.created": ("session", ""),
    "session.forked": ("session", "accent"),
    "session.closed": ("session", "warning"),
    "session.cancelled": ("session", "warning"),
    "note.added": ("note", "accent"),
    "input.accepted": ("input", "accent"),
    "input.returned": ("input", "warning"),
    "output.appended": ("output", ""),
    "wait.opened": ("wait", "accent"),
    "wait.claimed": ("wait", "muted"),
    "wait.claim_ended": ("wait", "muted"),
    "wait.assigned": ("wait", "accent"),
    "wait.reminded": ("wait", "warning"),
    "wait.fulfilled": ("wait", "success"),
    "wait.timed_out": ("wait", "warning"),
    "wait.cancelled": ("wait", "muted"),
    "step.started": ("step", "muted"),
    "step.succeeded": ("step", ""),
    "step.try_failed": ("step", "warning"),
    "step.failed": ("step", "error"),
    "step.abandoned": ("step", "muted"),
    "run.failed": ("run", "error"),
    "run.blocked": ("run", "error"),
    "run.actor_died": ("run", "error"),
    "run.attempt_failed": ("run", "warning"),
    "run.succeeded": ("run", "success"),
    "run.cancelled": ("run", "warning"),
    "token.created": ("token", "accent"),
    "token.completed": ("token", "success"),
    "token.expired": ("token", "warning"),
    "token.cancelled": ("token", "muted"),
    "public_token.created": ("public", "accent"),
    "public_token.spent": ("public", "muted"),
    "public_token.revoked": ("public", "warning"),
    "api_key.created": ("key", "accent"),
    "api_key.revoked": ("key", "warning"),
    "catalog.written": ("catalog", ""),
    "schedule.written": ("schedule", "accent"),
    "schedule.paused": ("schedule", "warning"),
    "schedule.resumed": ("schedule", "accent"),
    "schedule.skipped": ("schedule", "muted"),
    "schedule.deleted": ("schedule", "warning"),
    "notices.moved": ("notices", "muted"),
    "sessions.pruned": ("ledger", "warning"),
    "ledger.promoted": ("ledger", "accent"),
}


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One entry on one line. `rule` is drawn as a heading."""

    seq: int
    word: str
    text: str
    role: str
    by: str = ""
    rule: bool = False


def entry_line(entry: EntryInfo) -> EntryLine:
    """An entry in one line of words."""
    word, role = _WORDS.get(entry.kind, (entry.kind.partition(".")[0], "muted"))
    text = _entry_text(entry.kind, entry.body)
    if session_named_in(entry) is not None:
        word, role = "session", "accent"
    person = entry.principal.type not in ("task", "runtime")
    return EntryLine(
        seq=entry.seq,
        word=one_line(word, 12),
        text=one_line(text, LINE_CELLS),
        role=role,
        by=who(entry.principal) if person else "",
        rule=entry.kind in _RULE_KINDS,
    )


def session_named_in(entry: EntryInfo) -> str | None:
    """The session that an entry is about besides its own: what a step came to, as that
    of a child's start, or the only one waited for."""
    value = entry.body.get("value") if entry.kind == "step.succeeded" else None
    if entry.kind == "wait.opened" and entry.body.get("kind") == WaitKind.SESSION.value:
        found = entry.body.get("session_ids")
        value = found[0] if isinstance(found, list) and len(found) == 1 else None
    return value if _is_session(value) else None


def _is_session(value: Any) -> TypeGuard[str]:
    is_one = isinstance(value, str) and value.startswith(f"{ids.SESSION}_")
    return is_one and ids.made_at(value) is not None


def set_aside_line(first: int, last: int, reason: str, by: str) -> EntryLine:
    """A folded stretch of entries that a rewind set aside, on one line."""
    text = f"{last - first + 1} entries: {reason}"
    return EntryLine(first, "aside", one_line(text, LINE_CELLS), "muted", by=by)


def entry_full(entry: EntryInfo, limit: int) -> str:
    """An entry's body to read: texts as they are, everything else as JSON; cut at `limit` cells."""
    value = entry.body.get("data", entry.body.get("value"))
    if entry.kind == "note.added":
        value = entry.body.get("text")
    if isinstance(value, str):
        return plain(value, limit)
    if value is not None:
        return plain(pretty(value), limit)
    return plain(pretty({k: v for k, v in entry.body.items() if k != "operation"}), limit)


def _entry_text(kind: str, body: Mapping[str, Any]) -> str:
    get = body.get
    tails: dict[str, Callable[[], str]] = {
        "session.created": lambda: f"started {get('task')}{_of_parent(get('parent'))}",
        "session.forked": lambda: f"forked at op {get('to_op')}: {get('reason')}",
        "session.closed": lambda: "closed",
        "session.cancelled": lambda: (
            f"cancelled{': ' + why.replace('_', ' ') if isinstance(why := get('reason'), str) else ''}"
        ),
        "note.added": lambda: f"{get('text')}",
        "run.created": lambda: f"run created by {_kind(get('started_by'))}",
        "run.started": lambda: f"attempt {get('attempt')} started",
        "run.resumed": lambda: "resumed",
        "run.retried": lambda: f"retried as attempt {get('attempt')}",
        "run.rewound": lambda: f"taken back to op {get('to_op')}: {get('reason')}",
        "run.attempt_failed": lambda: f"attempt failed: {_error(get('error'))}",
        "run.succeeded": lambda: f"succeeded {_json(get('result'))}",
        "run.failed": lambda: f"failed: {_error(get('error'))}",
        "run.cancelled": lambda: f"cancelled: {get('reason')}",
        "run.blocked": lambda: f"blocked, {get('code')}: {get('message')}",
        "run.actor_died": lambda: f"actor died, {get('cause')}, count {get('count')}",
        "step.started": lambda: f"{get('name')} started",
        "step.try_failed": lambda: f"try {get('try')} failed: {_error(get('error'))}",
        "step.succeeded": lambda: _done(get("value")),
        "step.failed": lambda: f"failed: {_error(get('error'))}",
        "step.abandoned": lambda: f"abandoned: {get('reason')}",
        "wait.opened": lambda: _opened(body),
        "wait.fulfilled": lambda: (
            "fulfilled"
            + (f" by {get('stream')} #{n}" if (n := get("record_seq")) else "")
            + (", its ladder's default" if get("mode") == "default" else "")
            + (", an answer held for it" if get("kept_from") else "")
            + (f", one of batch {batch}" if (batch := get("batch_id")) else "")
        ),
        "wait.claimed": lambda: f"claimed until {get('until_at')}",
        "wait.claim_ended": lambda: f"claim {get('reason')}",
        "wait.assigned": lambda: (
            f"assigned to {get('assignee') or 'nobody'}"
            + (f", before to {was}" if (was := get("from_assignee")) else "")
            + (" by its ladder" if "rung" in body else "")
            + _coming(body)
        ),
        "wait.reminded": lambda: "reminded" + _coming(body),
        "wait.timed_out": lambda: "timed out",
        "wait.cancelled": lambda: f"cancelled: {get('reason')}",
        "input.accepted": lambda: (
            f"{get('stream')} #{get('stream_seq')} {get('outcome')}: {_json(get('data'))}"
        ),
        "input.returned": lambda: (
            f"{get('stream')} #{get('record_seq')} given back: the code gave its wait up"
        ),
        "output.appended": lambda: f"{get('stream')}: {_json(get('data'))}",
        "clock.read": lambda: f"now {get('now')}",
        "peek.read": lambda: f"peek at {get('stream')}",
        "history.read": lambda: f"history of {get('stream')}",
        "patch.marked": lambda: f"takes the new way of {get('name')}",
        "token.created": lambda: f"{_short('token_id', body)} created{_about(body)}",
        "token.completed": lambda: f"{_short('token_id', body)} completed: {_json(get('data'))}",
        "token.expired": lambda: f"{_short('token_id', body)} expired",
        "token.cancelled": lambda: f"{_short('token_id', body)} cancelled",
        "public_token.created": lambda: (
            f"{_short('public_token_id', body)} created for {_scope(get('scope'))}, "
            f"{get('max_uses') or 'any number of'} uses"
        ),
        "public_token.spent": lambda: (
            f"{_short('public_token_id', body)} used, {get('uses')} so far"
        ),
        "public_token.revoked": lambda: f"{_short('public_token_id', body)} revoked",
        "api_key.created": lambda: (
            f"{_short('key_id', body)} created: {get('name')}, {get('role')}"
        ),
        "api_key.revoked": lambda: f"{_short('key_id', body)} revoked",
        "catalog.written": lambda: f"tasks {_ids(get('tasks'))}",
        "schedule.written": lambda: f"{get('name')} starts {get('task')}",
        "schedule.paused": lambda: f"{get('name')} paused",
        "schedule.resumed": lambda: f"{get('name')} goes on",
        "schedule.skipped": lambda: (
            f"{get('name')} started nothing for {get('due_at')}: {get('reason')}"
        ),
        "schedule.deleted": lambda: f"{get('name')} deleted",
        "notices.moved": lambda: "the positions of notice targets were stored",
        "sessions.pruned": lambda: f"{len(get('sessions') or ())} old sessions were removed",
        "ledger.promoted": lambda: f"a follower was promoted: generation {get('generation')}",
    }
    make = tails.get(kind)
    return make() if make is not None else f"{kind} {_json(dict(body))}"


def _done(value: Any) -> str:
    if _is_session(value):
        return f"done {value}, o opens it"
    return f"done {_json(value)}"


def _of_parent(parent: Any) -> str:
    return f", child of {_short('session_id', parent)}" if isinstance(parent, Mapping) else ""


def _opened(body: Mapping[str, Any]) -> str:
    children = body.get("session_ids")
    if body.get("kind") == WaitKind.SESSION.value and isinstance(children, list):
        which = short_id(str(children[0])) if len(children) == 1 else f"{len(children)} sessions"
        return f"waits for {which} to end"
    what = body.get("stream") or body.get("token_id") or body.get("kind")
    due = body.get("deadline_at")
    tail = f", due {str(due)[11:19]}" if due else ""
    return f"{body.get('kind')} {what} opened{tail}{_about(body)}"


def _about(body: Mapping[str, Any]) -> str:
    about = body.get("subject") or body.get("correlation_id")
    return f": {about}" if about else ""


def _coming(body: Mapping[str, Any]) -> str:
    """When the next rung of the wait's ladder comes."""
    return f", next rung at {at}" if (at := body.get("next_rung_at")) else ""


def _short(key: str, body: Mapping[str, Any]) -> str:
    return short_id(str(body.get(key, "")))


def _scope(scope: Any) -> str:
    if not isinstance(scope, Mapping):
        return "?"
    return " ".join(str(scope[key]) for key in ("type", "stream") if scope.get(key))


def _ids(tasks: Any) -> str:
    if not isinstance(tasks, list):
        return ""
    return ", ".join(str(task.get("id")) for task in tasks if isinstance(task, Mapping))


def _error(error: Any) -> str:
    if not isinstance(error, Mapping):
        return ""
    return f"{error.get('type') or error.get('code')}: {error.get('message')}"


def _kind(started_by: Any) -> str:
    return str(started_by.get("type")) if isinstance(started_by, Mapping) else "?"


def _json(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
