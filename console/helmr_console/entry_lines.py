"""Entries of transcripts in words: one line each, or in full. Pure.

`_WORDS`, and `_TEXTS` at the end, hold a kind's word, colour and line; a kind in neither shows generically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeGuard

from helmr.gate import RULED, GateAction
from helmr.gate.grants import TELLING
from helmr.models import AnswerMode, EntryInfo, WaitKind
from helmr.person.forms import pretty
from helmr.person.review import words
from helmr.person.review.words import person, short_id
from helmr.wire import ids
from helmr.wire.safe_text import one_line, plain
from helmr_console.views import LINE_CELLS, json_words

_RULE_KINDS = ("run.created", "run.started", "run.retried", "run.rewound", "session.forked")
"""Entries that begin something and are drawn with a line."""

_ANSWERED = ("wait.fulfilled", "input.accepted")


@dataclass(frozen=True, slots=True)
class EntryLook:
    """The look of entries of a kind.

    Attributes:
        word: In front of the line.
        role: Colour of the word.
        text: The rest, from the body.
        is_act: They record an act of a principal, not its consequences; Activity lists those of people.
    """

    word: str
    role: str
    text: Callable[[Mapping[str, Any]], str]
    is_act: bool = False


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
    "wait.voted": ("wait", "accent"),
    "wait.vote_withdrawn": ("wait", "muted"),
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
    "person.bound": ("person", "accent"),
    "person.unbound": ("person", "warning"),
    "person.disabled": ("person", "warning"),
    "person.enabled": ("person", "accent"),
    "person.key_added": ("person", "accent"),
    "person.key_revoked": ("person", "warning"),
    "catalog.written": ("catalog", ""),
    "notices.moved": ("notices", "muted"),
    "sessions.pruned": ("ledger", "warning"),
    "ledger.promoted": ("ledger", "accent"),
    "ledger.opened": ("ledger", "muted"),
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
    took: str = ""
    """Duration of a step, in words."""
    is_live: bool = False
    """True while the step runs."""


def entry_line(entry: EntryInfo) -> EntryLine:
    """An entry in one line of words."""
    word, role = _WORDS.get(entry.kind, (entry.kind.partition(".")[0], "muted"))
    say = _TEXTS.get(entry.kind)
    timed = _TIMED.get(entry.kind)
    if timed is not None:
        say = partial(timed, entry.recorded_at)
    text = say(entry.body) if say else f"{entry.kind} {json_words(dict(entry.body))}"
    if session_named_in(entry) is not None:
        word, role = "session", "accent"
    return EntryLine(
        seq=entry.seq,
        word=one_line(word, 12),
        text=one_line(text, LINE_CELLS),
        role=role,
        by=person(entry.principal) if entry.principal.type not in ("task", "runtime") else "",
        rule=entry.kind in _RULE_KINDS,
    )


_SAID = (
    "note.added",
    "input.accepted",
    "output.appended",
    "step.succeeded",
    "step.failed",
    "wait.voted",
    "wait.fulfilled",
    "run.failed",
    "run.attempt_failed",
    "token.completed",
)
"""Entries by which a person or a step says something."""


def is_said(entry: EntryInfo) -> bool:
    """True if a person or a step says something with it; entries that only begin, open or count say nothing."""
    is_of_record = entry.kind == "wait.fulfilled" and entry.body.get("record_seq")
    return entry.kind in _SAID and not is_of_record


def by_whom(entry: EntryInfo) -> str:
    """The acting principal in words, or the escalation's default where that answered. Safe."""
    is_default = entry.kind in _ANSWERED and entry.body.get("mode") == AnswerMode.DEFAULT.value
    return words.ESCALATION_DEFAULT if is_default else words.who(entry.principal)


def session_named_in(entry: EntryInfo) -> str | None:
    """The other session that an entry names: a step's result, such as a started child, or the only one waited for."""
    value = entry.body.get("value") if entry.kind == "step.succeeded" else None
    if entry.kind == "input.accepted":
        value = (_decided(entry.body) or {}).get("session_id")
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


def _done(value: Any) -> str:
    if _is_session(value):
        return f"done {short_id(value)}, o opens it"
    return f"done {json_words(value)}"


def _of_parent(parent: Any) -> str:
    return f", child of {_short('session_id', parent)}" if isinstance(parent, Mapping) else ""


def _opened(at: datetime, body: Mapping[str, Any]) -> str:
    children = body.get("session_ids")
    if body.get("kind") == WaitKind.SESSION.value and isinstance(children, list):
        which = short_id(str(children[0])) if len(children) == 1 else f"{len(children)} sessions"
        return f"waits for {which} to end"
    what = body.get("stream") or body.get("token_id") or body.get("kind")
    ends = _span(at, body.get("default_at") or body.get("deadline_at"))
    tail = f", due in {ends}" if ends else ""
    return f"{body.get('kind')} {what} opened{tail}{_about(body)}"


def _about(body: Mapping[str, Any]) -> str:
    about = body.get("subject") or body.get("correlation_id")
    return f": {about}" if about else ""


def _coming(at: datetime, body: Mapping[str, Any]) -> str:
    """`, next escalation step in 5m`; empty without one."""
    span = _span(at, body.get("next_escalation_at"))
    return f", next escalation step in {span}" if span else ""


def _span(since: datetime, moment: Any) -> str:
    """Span from `since` to a time in a body; empty if it is not a time."""
    at = _time(moment)
    return words.span((at - since).total_seconds()) if at is not None else ""


def _time(moment: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(moment) if isinstance(moment, str) else None
    except ValueError:
        return None


def _claimed(at: datetime, body: Mapping[str, Any]) -> str:
    until = _time(body.get("until_at"))
    return f"claimed until {words.moment(until, at)}" if until is not None else "claimed"


def _assigned(at: datetime, body: Mapping[str, Any]) -> str:
    before = f", before to {was}" if (was := body.get("from_assignee")) else ""
    by = " by its escalation" if "escalation_step" in body else ""
    to = body.get("assignee")
    return f"{f'assigned to {to}' if to else 'assigned to none'}{before}{by}{_coming(at, body)}"


def _voted(body: Mapping[str, Any]) -> str:
    return f"voted: {json_words(body.get('data'))}{_agreed(body)}{_signed(body)}"


def _vote_withdrawn(body: Mapping[str, Any]) -> str:
    person = body.get("person")
    why = ", who is disabled" if body.get("reason") == "disabled" else ""
    return f"vote of {person or 'someone'}{why} taken back{_agreed(body)}"


def _agreed(body: Mapping[str, Any]) -> str:
    """`, 1 of 2 agree`; empty where the body has no count."""
    return f", {body['have']} of {body['need']} agree" if {"have", "need"} <= body.keys() else ""


def _decided(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The decision about a call, if the record is of an agent's session."""
    data = body.get("data")
    if body.get("stream") != RULED or not isinstance(data, Mapping):
        return None
    return data if all(name in data for name in ("action", "tool", "input")) else None


def _call(decided: Mapping[str, Any]) -> str:
    """`allowed by the rule looks: Bash ls -l`."""
    given = decided["input"]
    arguments = given if isinstance(given, Mapping) else {}
    telling = (arguments[name] for name in TELLING if isinstance(arguments.get(name), str))
    what = f"{decided['tool']} {next(telling, None) or json_words(given)}"
    if decided["action"] == GateAction.ASK:
        return f"people are asked: {what}, o opens it"
    verb = "allowed" if decided["action"] == GateAction.ALLOW else "denied"
    if decided.get("grant"):
        return f"{verb} by {_short('grant', decided)} of {decided.get('granted_by')}: {what}"
    if decided.get("rule"):
        return f"{verb} by the rule {decided['rule']}: {what}"
    return f"{verb} by people: {what}, o opens it"


def _accepted(body: Mapping[str, Any]) -> str:
    """The stream, the outcome unless it was fulfilled, and the data."""
    decided = _decided(body)
    if decided is not None:
        return _call(decided)
    outcome = body.get("outcome")
    became = "" if outcome == "fulfilled" else f" {outcome}"
    by = ", its escalation's default" if body.get("mode") == "default" else ""
    return f"{body.get('stream')}{became}  {json_words(body.get('data'))}{by}"


def _fulfilled(body: Mapping[str, Any]) -> str:
    by = f" by {body.get('stream')} #{n}" if (n := body.get("record_seq")) else ""
    if body.get("mode") == "default":
        by = " by its escalation's default"
    said = f": {json_words(body['data'])}" if "data" in body and not n else ""
    kept = ", with a kept answer" if body.get("kept_from") else ""
    return f"fulfilled{by}{said}{kept}{_signed(body)}" + (
        f", one of batch {batch}" if (batch := body.get("batch_id")) else ""
    )


def _signed(body: Mapping[str, Any]) -> str:
    """`, signed` if the answer carries a signature."""
    return ", signed" if body.get("signature") else ""


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


def _try(body: Mapping[str, Any]) -> str:
    """The outcome of a try: it failed, or found its limit closed."""
    closed = body.get("closed_limit")
    return f"try {body.get('try')} failed" if closed is None else f"limit {closed} is closed"


def _error(error: Any) -> str:
    if not isinstance(error, Mapping):
        return ""
    return f"{error.get('type') or error.get('code')}: {error.get('message')}"


def _kind(started_by: Any) -> str:
    return str(started_by.get("type")) if isinstance(started_by, Mapping) else "?"


_TEXTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "session.created": lambda body: f"started {body.get('task')}{_of_parent(body.get('parent'))}",
    "session.forked": lambda body: f"forked at op {body.get('to_op')}: {body.get('reason')}",
    "session.closed": lambda body: "closed",
    "session.cancelled": lambda body: (
        f"cancelled{': ' + why.replace('_', ' ') if isinstance(why := body.get('reason'), str) else ''}"
    ),
    "note.added": lambda body: f"{body.get('text')}",
    "run.created": lambda body: f"run created by {_kind(body.get('started_by'))}",
    "run.started": lambda body: f"attempt {body.get('attempt')} started",
    "run.resumed": lambda body: "resumed",
    "run.retried": lambda body: f"retried as attempt {body.get('attempt')}",
    "run.rewound": lambda body: f"taken back to op {body.get('to_op')}: {body.get('reason')}",
    "run.attempt_failed": lambda body: f"attempt failed: {_error(body.get('error'))}",
    "run.succeeded": lambda body: f"succeeded {json_words(body.get('result'))}",
    "run.failed": lambda body: f"failed: {_error(body.get('error'))}",
    "run.cancelled": lambda body: f"cancelled: {body.get('reason')}",
    "run.blocked": lambda body: f"blocked, {body.get('code')}: {body.get('message')}",
    "run.actor_died": lambda body: f"actor died, {body.get('cause')}, count {body.get('count')}",
    "step.started": lambda body: f"{body.get('name')} started",
    "step.try_failed": lambda body: f"{_try(body)}: {_error(body.get('error'))}",
    "step.succeeded": lambda body: _done(body.get("value")),
    "step.failed": lambda body: f"failed: {_error(body.get('error'))}",
    "step.abandoned": lambda body: f"abandoned: {body.get('reason')}",
    "wait.voted": _voted,
    "wait.vote_withdrawn": _vote_withdrawn,
    "wait.fulfilled": _fulfilled,
    "wait.claim_ended": lambda body: f"claim {body.get('reason')}",
    "wait.timed_out": lambda body: "timed out",
    "wait.cancelled": lambda body: f"cancelled: {body.get('reason')}",
    "input.accepted": _accepted,
    "input.returned": lambda body: (
        f"{body.get('stream')} #{body.get('record_seq')} given back: the code gave its wait up"
    ),
    "output.appended": lambda body: f"{body.get('stream')}: {json_words(body.get('data'))}",
    "clock.read": lambda body: f"now {body.get('now')}",
    "peek.read": lambda body: f"peek at {body.get('stream')}",
    "history.read": lambda body: f"history of {body.get('stream')}",
    "patch.marked": lambda body: f"takes the new way of {body.get('name')}",
    "token.created": lambda body: f"{_short('token_id', body)} created{_about(body)}",
    "token.completed": lambda body: (
        f"{_short('token_id', body)} completed: {json_words(body.get('data'))}"
    ),
    "token.expired": lambda body: f"{_short('token_id', body)} expired",
    "token.cancelled": lambda body: f"{_short('token_id', body)} cancelled",
    "public_token.created": lambda body: (
        f"{_short('public_token_id', body)} created for {_scope(body.get('scope'))}, "
        f"{body.get('max_uses') or 'any number of'} uses"
    ),
    "public_token.spent": lambda body: (
        f"{_short('public_token_id', body)} used, {body.get('uses')} so far"
    ),
    "public_token.revoked": lambda body: f"{_short('public_token_id', body)} revoked",
    "api_key.created": lambda body: (
        f"{_short('key_id', body)} created: {body.get('name')}, {body.get('role')}"
    ),
    "api_key.revoked": lambda body: f"{_short('key_id', body)} revoked",
    "person.bound": lambda body: f"{body.get('person')} signed in for the first time",
    "person.unbound": lambda body: f"{body.get('person')} may sign in with another account",
    "person.disabled": lambda body: f"{body.get('person')} disabled",
    "person.enabled": lambda body: f"{body.get('person')} enabled",
    "person.key_added": lambda body: f"{body.get('person')} signs with {body.get('fingerprint')}",
    "person.key_revoked": lambda body: (
        f"{body.get('person')} signs no more with {body.get('fingerprint')}"
    ),
    "person.delegated": lambda body: (
        f"{body.get('deputy')} answers for {body.get('person')} until {body.get('ends_at')}"
    ),
    "person.delegation_ended": lambda body: (
        f"{body.get('deputy')} answers no more for {body.get('person')}"
    ),
    "catalog.written": lambda body: f"tasks {_ids(body.get('tasks'))}",
    "notices.moved": lambda body: "the positions of notice targets were stored",
    "sessions.pruned": lambda body: f"{len(body.get('sessions') or ())} old sessions were removed",
    "ledger.promoted": lambda body: (
        f"a follower's copy became the ledger: generation {body.get('generation')}"
    ),
    "ledger.opened": lambda body: f"a runtime opened the log: generation {body.get('generation')}",
}
"""The text of each kind, made from its body. A kind without a line here shows its body as JSON."""

_ACTS = {
    "session.created",
    "session.closed",
    "session.cancelled",
    "note.added",
    "run.created",
    "run.retried",
    "run.rewound",
    "run.cancelled",
    "input.accepted",
    "token.created",
    "token.completed",
    "token.cancelled",
    "public_token.created",
    "public_token.revoked",
    "api_key.created",
    "api_key.revoked",
    "person.unbound",
    "person.disabled",
    "person.enabled",
    "person.key_added",
    "person.key_revoked",
}
"""Kinds of entries that record an act of a principal, not its consequences."""


def add(kinds: Mapping[str, EntryLook]) -> None:
    """Have the entries of a feature shown so."""
    for kind, look in kinds.items():
        _WORDS[kind] = look.word, look.role
        _TEXTS[kind] = look.text
        if look.is_act:
            _ACTS.add(kind)


def is_act(kind: str) -> bool:
    """True for entries that record an act of a principal, not its consequences."""
    return kind in _ACTS


_TIMED: Mapping[str, Callable[[datetime, Mapping[str, Any]], str]] = {
    "wait.opened": _opened,
    "wait.claimed": _claimed,
    "wait.assigned": _assigned,
    "wait.reminded": lambda at, body: "reminded" + _coming(at, body),
}
"""Like `_TEXTS`, for kinds that show a span, counted from the entry's own time."""
