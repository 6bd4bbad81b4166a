"""Renders things for people: rows of tables, fields of one, lines of a follow, a session's entries.

On a terminal an entry shows its time of day, and the date has a line of its own where it changes. Text that does not
fit goes below. In a pipe an entry is one line, uncut. `--json` has everything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from helmr.cli import printing
from helmr.cli.printing import distance, fields, is_terminal
from helmr.models import (
    ApiKeyInfo,
    ApiKeyReceipt,
    AssignReceipt,
    ChunkInfo,
    ClaimInfo,
    ClaimReceipt,
    DelegationInfo,
    NoteReceipt,
    NoticeRetryReceipt,
    NoticeTestReceipt,
    PersonInfo,
    PublicTokenInfo,
    PublicTokenReceipt,
    RunCheck,
    RunInfo,
    SessionInfo,
    SigningKeyInfo,
    StartReceipt,
    TokenInfo,
    TokenReceipt,
    WaitInfo,
    WhoAmI,
    shown_facts,
)
from helmr.person.review.words import escalation_texts, next_end

if TYPE_CHECKING:
    from helmr.models import (
        AnswerLinkInfo,
        AwayInfo,
        ChunksEnd,
        DryRunOp,
        ForkOrigin,
        ParentInfo,
        PrincipalInfo,
        PublicTokenScopeInfo,
        RecordInfo,
    )


SESSION_COLUMNS = ("ID", "TASK", "STATUS", "ACTIVITY", "EXTERNAL ID", "UPDATED", "TAGS")
BRANCH_COLUMNS = ("SESSION", "TASK", "STATUS", "ACTIVITY", "WAITS FOR")
RUN_COLUMNS = ("ID", "SESSION", "TASK", "STATUS", "ATTEMPT", "CREATED", "ENDED", "ERROR")
WAIT_COLUMNS = ("ID", "TASK", "KIND", "STREAM", "CORRELATION ID", "SUBJECT", "DEADLINE", "SESSION")
OP_COLUMNS = ("OP", "KIND", "NAME", "DATA")

SCHEMA_PROPERTIES_MAX = 50


def time_text(moment: datetime | None) -> str | None:
    """A time to the second, UTC."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def time_and_distance(moment: datetime | None) -> str | None:
    """A time, and how far it is from now."""
    if moment is None:
        return None
    return f"{time_text(moment)} ({distance(moment)})"


def who(principal: PrincipalInfo | None) -> str | None:
    """A principal: its kind, its name or id, and for whom it acted."""
    if principal is None:
        return None
    if principal.on_behalf_of or principal.person:
        return principal.label
    # A task's id is its run, which stands elsewhere.
    name = None if principal.type == "task" else principal.name or principal.id
    return " ".join(part for part in (principal.type, name) if part)


def value_text(value: Any) -> str:
    """JSON of a value, on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def session_row(one: SessionInfo) -> tuple[object, ...]:
    """Cells of `SESSION_COLUMNS`."""
    updated = time_text(one.updated_at)
    doing = f"{one.doing}, failed" if one.run_status == "failed" else one.doing
    return (one.id, one.task, one.status, doing, one.external_id, updated, one.tags)


def run_row(one: RunInfo) -> tuple[object, ...]:
    """Cells of `RUN_COLUMNS`."""
    created, ended = time_text(one.created_at), time_text(one.ended_at)
    error = None if one.error is None else one.error.text
    return (one.id, one.session_id, one.task, one.doing, one.attempt, created, ended, error)


def op_row(one: DryRunOp) -> tuple[object, ...]:
    """Cells of `OP_COLUMNS`."""
    return (one.op, one.kind, one.name, None if one.data is None else value_text(one.data))


def wait_row(one: WaitInfo) -> tuple[object, ...]:
    """Cells of `WAIT_COLUMNS`."""
    return (
        one.id,
        one.task,
        one.kind,
        one.stream or one.token_id,
        one.correlation_id,
        one.subject,
        due(one) if is_terminal(sys.stdout) else time_text(one.ends_at),
        one.session_id,
    )


def due(one: WaitInfo) -> str | None:
    """Return the distance to the wait's next end, then the answer that this end gives by default."""
    end = next_end(one)
    if end is None:
        return None
    return f"{distance(end.at)}, then {end.then}" if end.is_default else distance(end.at)


def wait_lines(one: WaitInfo) -> list[str]:
    """A wait where there is no room for a table: what is copied and how urgent it is, then what it is about."""
    about = one.subject or " ".join(
        part for part in (one.stream or one.token_id or one.kind, one.correlation_id) if part
    )
    return [f"{one.id}  {due(one) or 'no deadline':<11}  {one.task}", f"  {about}"]


def branch_row(depth: int, one: SessionInfo) -> tuple[object, ...]:
    """Cells of `BRANCH_COLUMNS`: a session, that deep in its tree."""
    wait = one.wait
    about = (wait.subject or wait.stream or wait.kind) if wait is not None else None
    return (f"{'  ' * depth}{one.id}", one.task, one.status, one.doing, about)


def session_fields(one: SessionInfo) -> list[tuple[str, object]]:
    """A session without its wait."""
    return [
        ("session", one.id),
        ("task", one.task),
        ("external id", one.external_id),
        *((("forked from", _origin(one.forked_from)),) if one.forked_from is not None else ()),
        *((("child of", _parent(one.parent)),) if one.parent is not None else ()),
        ("status", one.status),
        ("activity", one.doing),
        *((("newest run", one.run_status),) if one.run_status is not None else ()),
        *((("error", one.error.text),) if one.error is not None else ()),
        *((("queued", time_and_distance(one.queued_at)),) if one.queued_at is not None else ()),
        ("tags", one.tags),
        ("metadata", value_text(one.metadata) if one.metadata else None),
        ("created", time_and_distance(one.created_at)),
        ("updated", time_and_distance(one.updated_at)),
        *((("unconsumed", _records(one.unconsumed)),) if one.unconsumed else ()),
        *(("warning", warning) for warning in one.warnings),
    ]


def _records(count: int) -> str:
    return "1 record of input" if count == 1 else f"{count} records of input"


def _some(session_ids: list[str]) -> str:
    shown = ", ".join(session_ids[:3])
    return shown if len(session_ids) <= 3 else f"{shown} and {len(session_ids) - 3} more"


def _parent(one: ParentInfo) -> str:
    return f"{one.session_id}, by op {one.op} of {one.run_id}"


def _origin(one: ForkOrigin) -> str:
    return f"{one.session_id}, behind entry {one.seq}"


def run_fields(one: RunInfo) -> list[tuple[str, object]]:
    """A run in full."""
    pairs: list[tuple[str, object]] = [
        ("run", one.id),
        ("session", one.session_id),
        ("task", one.task),
        ("status", one.doing),
        ("attempt", one.attempt),
        ("started by", _started_by(one.started_by)),
        ("created", time_and_distance(one.created_at)),
        ("ended", time_and_distance(one.ended_at)),
    ]
    if one.retry_at is not None:
        pairs.append(("next attempt", time_and_distance(one.retry_at)))
    pairs.append(("payload", value_text(one.payload)))
    pairs += outcome_fields(one)
    if one.error is not None:
        pairs.append(("traceback", one.error.traceback))
    return pairs


STARTED = {
    "start": "the start of its session",
    "operator": "a person, as the session's next run",
    "record": "input that came while the session was idle",
    "run": "the run before, which went on as this one",
}


def _started_by(by: Mapping[str, Any]) -> str | None:
    """Name the starter in words; one that only a newer runtime knows is shown as JSON."""
    kind = by.get("type")
    said = STARTED.get(kind) if isinstance(kind, str) else None
    if said is None:
        return value_text(by) if by else None
    return f"{said} ({by['id']})" if by.get("id") else said


def outcome_fields(one: RunInfo) -> list[tuple[str, object]]:
    """A run's result, or why it failed or is blocked; nothing while it goes on."""
    if one.error is not None:
        return [("error", one.error.type or one.error.code), ("message", one.error.message)]
    return [("result", value_text(one.result))] if one.status == "succeeded" else []


def wait_fields(one: WaitInfo) -> list[tuple[str, object]]:
    """A wait in full, with what an answer must look like."""
    pairs: list[tuple[str, object]] = [
        ("wait", one.id),
        ("kind", one.kind),
        ("stream", one.stream),
        ("correlation id", one.correlation_id),
        ("subject", one.subject),
        *_labels(one),
        ("since", time_and_distance(one.opened_at)),
        ("deadline", time_and_distance(one.deadline_at) or "none"),
        *((("ends", due(one)),) if one.default_at is not None else ()),
    ]
    if one.token_id is not None:
        pairs.append(("token", one.token_id))
    pairs += [("away", away_text(away)) for away in one.away]
    if one.session_ids:
        pairs.append(("first of", _some(one.session_ids)))
    if (evidence := one.shown_evidence) is not None:
        pairs.append(("evidence", evidence.text))
    if one.body:
        pairs.append(("body", one.body))
    if one.json_schema is not None:
        pairs.append(("answer", schema_summary(one.json_schema)))
    if one.initial is not None:
        pairs.append(("starts with", value_text(one.initial)))
    if one.can_decline:
        pairs.append(("a decline says", value_text(one.on_decline)))
    pairs += [
        ("escalation", text)
        for text in escalation_texts(one, lambda at: str(time_and_distance(at)))
    ]
    if one.resolved_at is not None:
        pairs += [
            ("status", one.status),
            ("resolved", time_and_distance(one.resolved_at)),
            ("resolved by", who(one.resolved_by)),
            *((("answered with", value_text(one.answer)),) if one.status == "fulfilled" else ()),
            *_labels(one, at_end=True),
        ]
    return pairs


def _labels(one: WaitInfo, *, at_end: bool = False) -> list[tuple[str, object]]:
    """Return the facts of a wait besides its question, or those of its end."""
    return [
        (label, claim_text(value) if isinstance(value, ClaimInfo) else value)
        for _, label, value in shown_facts(one, at_end=at_end)
    ]


def away_text(one: AwayInfo) -> str:
    """Say who is away, until when, and who answers."""
    return f"{one.person}, until {time_and_distance(one.until)}: {one.deputy} answers"


def claim_text(one: ClaimInfo) -> str:
    """Name the holder and the end of a claim."""
    return f"{one.label}, until {time_and_distance(one.until)}"


def claim_fields(one: ClaimReceipt) -> list[tuple[str, object]]:
    """Return the fields of a claim's receipt."""
    return [("wait", one.wait_id), ("claimed by", claim_text(one.claim) if one.claim else "no one")]


def check_fields(one: RunCheck) -> list[tuple[str, object]]:
    """Return the verdict on a run, and the place where the code differs."""
    found: list[tuple[str, object]] = [
        ("session", one.session_id),
        ("run", one.run_id),
        ("task", one.task),
        ("status", one.status),
        ("verdict", one.verdict),
    ]
    where = {
        "op": one.op,
        "recorded": one.recorded,
        "met": one.met,
        "place": one.place,
        "path": one.path,
        "message": one.message,
    }
    found += [(name, value) for name, value in where.items() if value is not None]
    return found + [("drift", line) for line in one.drift]


def record_line(one: RecordInfo) -> str:
    """A record as one line: seq, time, data."""
    return f"{one.seq:>5}  {time_text(one.created_at)}  {value_text(one.data)}"


def chunk_line(one: ChunkInfo | ChunksEnd) -> str:
    """A chunk as one line: the step that it comes from, data; or how that ended. First what was lost before it."""
    place = f"op {one.op}" if one.op is not None else ""
    said = value_text(one.data) if isinstance(one, ChunkInfo) else one.outcome.replace("_", " ")
    sign = "·" if isinstance(one, ChunkInfo) else "■"
    lost = f"({one.lost} lost) " if one.lost else ""
    return f"{sign:>5}  {place:<8} {lost}{said}"


def schema_summary(schema: Mapping[str, Any] | bool) -> str:
    """Describe data of this JSON Schema, a line per property of an object."""
    if not isinstance(schema, Mapping):
        return "any JSON" if schema else "nothing fits"
    definitions = schema.get("$defs", {})
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return _type_text(schema, definitions)
    required = schema.get("required", ())
    lines = [
        f"{name}: {_type_text(one, definitions)}{'' if name in required else ' (optional)'}"
        for name, one in list(properties.items())[:SCHEMA_PROPERTIES_MAX]
    ]
    if len(properties) > SCHEMA_PROPERTIES_MAX:
        lines.append(f"… and {len(properties) - SCHEMA_PROPERTIES_MAX} more")
    return "\n".join(lines) or "{}"


def _type_text(schema: Any, definitions: Mapping[str, Any], depth: int = 0) -> str:
    if not isinstance(schema, Mapping) or depth > 4:
        return "any JSON"
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rpartition("/")[2]
        return _type_text(definitions.get(name), definitions, depth + 1)
    if "const" in schema:
        return value_text(schema["const"])
    if isinstance(schema.get("enum"), list):
        return " | ".join(value_text(one) for one in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return _joined(_type_text(one, definitions, depth + 1) for one in schema[word])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type_text(schema.get('items', True), definitions, depth + 1)}"
    if isinstance(kind, list):
        return " | ".join(str(one) for one in kind)
    return str(kind) if kind else "any JSON"


def _joined(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts))


TOKEN_COLUMNS = ("ID", "STATUS", "SUBJECT", "EXPIRES", "ENDED", "BY", "TAGS", "SESSION")
PUBLIC_TOKEN_COLUMNS = ("ID", "MAY", "USES LEFT", "LAST USE", "EXPIRES", "REVOKED")
LINK_COLUMNS = ("ID", "PERSON", "LIVE", "CREATED", "EXPIRES", "REVOKED")
KEY_COLUMNS = ("ID", "NAME", "ROLE", "PERSON", "CREATED", "EXPIRES", "REVOKED")

Fields = list[tuple[str, object]]


def token_row(one: TokenInfo) -> tuple[object, ...]:
    """Cells of `TOKEN_COLUMNS`."""
    return (
        one.id,
        one.status,
        one.subject,
        time_text(one.expires_at),
        time_text(one.ended_at),
        who(one.ended_by),
        one.tags,
        one.session_id,
    )


def token_fields(one: TokenInfo) -> Fields:
    """A token in full."""
    pairs: Fields = [
        ("token", one.id),
        ("status", one.status),
        ("session", one.session_id),
        ("tags", one.tags),
        ("metadata", value_text(one.metadata) if one.metadata else None),
        ("subject", one.subject),
        ("created", time_and_distance(one.created_at)),
        ("expires", time_and_distance(one.expires_at)),
    ]
    if one.evidence is not None:
        pairs.append(("evidence", one.evidence.text))
    if one.body:
        pairs.append(("body", one.body))
    if one.json_schema is not None:
        pairs.append(("data must be", schema_summary(one.json_schema)))
    if one.verify is not None:
        pairs.append(("signed by", one.verify))
    if one.ended_at is not None:
        pairs += [("ended", time_and_distance(one.ended_at)), ("by", who(one.ended_by))]
    if one.status == "completed":
        pairs.append(("data", value_text(one.data)))
    return pairs


def token_receipt_fields(one: TokenReceipt) -> Fields:
    """A token with its secrets."""
    return [
        ("token", one.id),
        ("expires", time_and_distance(one.expires_at)),
        ("callback url", one.callback_url),
        ("public access token", one.public_access_token),
    ]


def public_token_row(one: PublicTokenInfo) -> tuple[object, ...]:
    """Cells of `PUBLIC_TOKEN_COLUMNS`."""
    return (
        one.id,
        _scope(one.scope),
        one.uses_left if one.max_uses is not None else "unlimited",
        time_text(one.last_used_at),
        time_text(one.expires_at),
        time_text(one.revoked_at),
    )


def public_token_fields(one: PublicTokenInfo) -> Fields:
    """A public token."""
    return [
        ("public token", one.id),
        ("may", _scope(one.scope)),
        ("uses", f"{one.uses} of {one.max_uses}" if one.max_uses is not None else one.uses),
        ("last use", time_and_distance(one.last_used_at)),
        ("expires", time_and_distance(one.expires_at)),
        ("origins", one.allowed_origins),
        ("revoked", time_and_distance(one.revoked_at)),
    ]


def public_token_receipt_fields(one: PublicTokenReceipt) -> Fields:
    """A public token with its secret."""
    return [*public_token_fields(one), ("public access token", one.public_access_token)]


def link_row(one: AnswerLinkInfo) -> tuple[object, ...]:
    """Cells of `LINK_COLUMNS`."""
    live = "yes" if one.is_live else "no"
    times = (time_text(at) for at in (one.created_at, one.expires_at, one.revoked_at))
    return (one.id, one.person, live, *times)


def key_row(one: ApiKeyInfo) -> tuple[object, ...]:
    """Cells of `KEY_COLUMNS`."""
    times = (time_text(at) for at in (one.created_at, one.expires_at, one.revoked_at))
    return (one.id, one.name, one.role, one.person, *times)


def key_fields(one: ApiKeyInfo) -> Fields:
    """An API key."""
    return [
        ("key", one.id),
        ("name", one.name),
        ("role", one.role),
        ("person", one.person),
        ("created", time_and_distance(one.created_at)),
        ("expires", time_and_distance(one.expires_at)),
        ("revoked", time_and_distance(one.revoked_at)),
    ]


def key_receipt_fields(one: ApiKeyReceipt) -> Fields:
    """An API key with its secret."""
    return [
        ("key", one.id),
        ("name", one.name),
        ("role", one.role),
        ("person", one.person),
        ("expires", time_and_distance(one.expires_at)),
        ("secret", one.secret),
    ]


PERSON_COLUMNS = ("ID", "EMAIL", "GROUPS", "ROLE", "STATUS", "SIGNED IN AS")


def person_row(one: PersonInfo) -> tuple[object, ...]:
    """Cells of `PERSON_COLUMNS`."""
    return (one.id, one.email, " ".join(one.groups), one.role, one.status, one.subject)


def person_fields(one: PersonInfo) -> Fields:
    """A person."""
    return [
        ("person", one.id),
        ("e-mail", one.email),
        ("groups", ", ".join(one.groups)),
        ("role", one.role),
        ("status", one.status),
        ("disabled", time_and_distance(one.disabled_at)),
        ("reason", one.reason),
        ("issuer", one.issuer),
        ("subject", one.subject),
        ("first sign-in", time_and_distance(one.bound_at)),
        *(("signs with", _signing_key(key)) for key in one.signing_keys),
        *(("delegation", delegation_text(other)) for other in one.delegations),
    ]


DELEGATION_COLUMNS = ("ID", "AWAY", "DEPUTY", "FROM", "UNTIL", "FOR", "BY")


def delegation_row(one: DelegationInfo) -> tuple[object, ...]:
    """Cells of `DELEGATION_COLUMNS`."""
    times = (time_text(one.starts_at), time_text(one.ends_at))
    return (one.id, one.delegator, one.deputy, *times, one.scope, who(one.made_by))


def delegation_text(one: DelegationInfo) -> str:
    """Say who is away, until when, and who answers."""
    until = time_and_distance(one.ends_at)
    return f"{one.deputy} answers for {one.delegator} until {until}: {one.scope} · {one.id}"


def delegation_fields(one: DelegationInfo) -> Fields:
    """A delegation."""
    return [
        ("delegation", one.id),
        ("away", one.delegator),
        ("deputy", one.deputy),
        ("from", time_and_distance(one.starts_at)),
        ("until", time_and_distance(one.ends_at)),
        ("for", one.scope),
        ("made by", who(one.made_by)),
        ("made", time_and_distance(one.made_at)),
        ("reason", one.reason),
        ("ended", time_and_distance(one.ended_at)),
    ]


def _signing_key(key: SigningKeyInfo) -> str:
    parts = [key.fingerprint, key.key.partition(" ")[0], key.comment]
    if key.revoked_at is not None:
        parts.append(f"revoked {time_and_distance(key.revoked_at)}")
    return " ".join(part for part in parts if part)


def whoami_fields(one: WhoAmI) -> Fields:
    """Return the fields of the caller's identity."""
    person = one.person
    groups = ", ".join(person.groups) if person is not None else None
    if person is not None and one.groups_at is None:
        groups = f"{groups or 'none'} by helmr.toml; those of the issuer after `helmr login`"
    return [
        ("you are", person.id if person is not None else who(one.principal)),
        ("e-mail", person.email if person is not None else None),
        ("groups", groups),
        ("role", one.role),
        ("by", one.principal.via),
        ("expires", time_and_distance(one.expires_at)),
        *(
            ("delegation", delegation_text(other))
            for other in (person.delegations if person else ())
        ),
    ]


def _scope(scope: PublicTokenScopeInfo) -> str:
    what = scope.stream or scope.token or scope.wait or ""
    where = f" of {scope.session}" if scope.session is not None else ""
    whom = scope.correlation_id or scope.person
    for_ = f" for {whom}" if whom is not None else ""
    verbs = {
        "session.input.send": "send to",
        "session.output.read": "read",
        "wait.answer": "answer",
    }
    verb = verbs.get(scope.type, "complete")
    return f"{verb} {what}{where}{for_}"


# --- whatever an operation answers ------------------------------------------------------------------

_FIELDS: dict[type[BaseModel], Callable[[Any], Fields]] = {
    SessionInfo: session_fields,
    StartReceipt: lambda one: session_fields(one.session),
    RunInfo: run_fields,
    RunCheck: check_fields,
    WaitInfo: lambda one: [("session", one.session_id), ("task", one.task), *wait_fields(one)],
    ClaimReceipt: claim_fields,
    AssignReceipt: lambda one: [("wait", one.wait_id), ("assignee", one.assignee or "no one")],
    NoteReceipt: lambda one: [("note", one.note_id), ("seq", one.seq)],
    TokenInfo: token_fields,
    TokenReceipt: token_receipt_fields,
    PublicTokenInfo: public_token_fields,
    PublicTokenReceipt: public_token_receipt_fields,
    ApiKeyInfo: key_fields,
    ApiKeyReceipt: key_receipt_fields,
    PersonInfo: person_fields,
    DelegationInfo: delegation_fields,
    WhoAmI: whoami_fields,
    NoticeTestReceipt: lambda one: [
        ("target", one.target),
        ("taken", "yes" if one.taken else "no"),
        ("error", one.error),
        ("remark", one.remark),
    ],
    NoticeRetryReceipt: lambda one: [("target", one.target), ("tried now", one.count)],
}
"""Fields for people, where they are more than the model's own by name; a feature adds its own (`also_shown`)."""


def also_shown(model: type[BaseModel], as_fields: Callable[[Any], Fields]) -> None:
    """Show answers of a feature's operations by these fields."""
    _FIELDS[model] = as_fields


def fields_of(one: BaseModel) -> Fields:
    """Return the fields of an operation's answer; a receipt that is not in the table shows its fields by name."""
    known = _FIELDS.get(type(one))
    if known is not None:
        return known(one)
    parts: dict[str, Any] = one.model_dump(mode="json", exclude_none=True)
    return [(name.replace("_", " "), value_text(value).strip('"')) for name, value in parts.items()]


def show(one: BaseModel, as_json: bool) -> None:
    """Print what an operation answers, as JSON or as fields."""
    if as_json:
        printing.write_json(one)
    else:
        fields(fields_of(one))
