"""The details of a wait, for people and about itself: `WaitOptions` of the code, `WaitDetails` of the runtime.

Each option is a field of both, and keeps its name from the call to the entry `wait.opened` (`recorded`). Tags and
metadata must have the right type: a text is not a list of tags, nor a list an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Final, Literal, TypedDict

from helmr.errors import UsageError
from helmr.escalation import EscalationStep
from helmr.evidence import Diff, Links
from helmr.models import ASSIGNEE_MAX, Attachment, Evidence
from helmr.wire import jsonio
from helmr.wire.people import STARTER
from helmr.wire.schema import schema_digest


class _Unset(Enum):
    """The absence of a value, where None is one."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset.UNSET


class AnswererOptions(TypedDict, total=False):
    """Options for the answerers of a wait on a stream, and how many must agree (S-112, S-113). Any makes it restricted.

    Attributes:
        answerers: People and groups that may answer: `ada@example.com`, `group:finance`; empty for every person.
        not_by: People and groups that may not answer. `starter` is the person who started the session or its run.
        approvals: Number of different people who must give the same answer.
        refusals: Answers for which one person is enough; by default `on_decline`.
        comments: Fields of the answer in which people need not agree.
        signed: Each answer must carry the signature of its person (S-115).
        deputies: False refuses answers of deputies (S-142); by default they answer, but where answers are signed.
    """

    answerers: Iterable[str]
    not_by: Iterable[str]
    approvals: int
    refusals: Iterable[Any]
    comments: Iterable[str]
    signed: bool
    deputies: bool


class WaitOptions(AnswererOptions, total=False):
    """Presentation of a wait (S-17, S-71, S-72, S-82), and its answerers. Presentation never changes matching.

    Attributes:
        subject: One line for the person who answers; beyond 200 characters it is shortened.
        body: Markdown for that person; beyond 1 MiB it is cut.
        initial: Initial value of the form; need not be a whole answer.
        on_decline: The answer of anyone who declines; must fit the wait's schema.
        priority: `low`, `normal` or `high`.
        tags: Tags to find it by, at most 20 of 64 characters.
        assignee: The person to answer, at most 128 characters.
        escalation: Steps to take while no one answers (`helmr.escalation`).
        facts: Named values that help to decide, shown as a table; at most 50.
        links: Addresses of traces, tickets, dashboards: a list, or an object from labels to addresses; at most 20.
        diff: `(before, after)`, texts or JSON, shown as a diff; or a unified diff.
        attach: Files of the session that people look at: what `attachments.store` returned; at most 20.
        compare: False lets subject, body, schema and correlation id differ at a replay of the same code (S-126).
    """

    subject: str | None
    body: str | None
    initial: Any
    on_decline: Any
    priority: Literal["low", "normal", "high"]
    tags: Iterable[str]
    assignee: str | None
    escalation: Iterable[EscalationStep]
    facts: Mapping[str, Any] | None
    links: Links | None
    diff: Diff | None
    attach: Sequence[Attachment] | None
    compare: bool


def line(limit: int, what: str) -> Any:
    """Declare a field for one line of text, at most that long."""
    return field(default=None, metadata={"line_max": limit, "what": what})


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitDetails:
    """The details of a wait, checked and fitted by `helmr.wait_options`; JSON types only.

    Attributes:
        schema: JSON Schema that answers to this wait must fit; for a token wait, its completions from now on.
        shown_digest: Digest of the JSON Schema that people see, this one or the stream's.
        on_decline: The answer of anyone who declines.
        escalation: Escalation steps as JSON (`helmr.escalation.escalation_json`).
        compare: A replay compares subject, body, schema and correlation id with what is recorded.
        evidence: Facts, links, diff and files (`helmr.evidence`).
        answerers: People and groups in the form of `helmr.wire.people`; so are `not_by`.
    """

    subject: str | None = None
    body: str | None = None
    schema: Any = None
    shown_digest: str | None = None
    initial: Any = None
    on_decline: Any = UNSET
    priority: str = "normal"
    tags: tuple[str, ...] = ()
    assignee: str | None = line(ASSIGNEE_MAX, "an assignee")
    escalation: tuple[Mapping[str, Any], ...] = ()
    compare: bool = True
    evidence: Mapping[str, Any] | None = None
    answerers: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    approvals: int = 1
    refusals: tuple[Any, ...] = ()
    comments: tuple[str, ...] = ()
    signed: bool = False
    deputies: bool | None = None

    @property
    def restriction(self) -> dict[str, Any]:
        """The options that restrict its answerers, by name; empty if anyone may answer."""
        parts = {name: getattr(self, name) for name in RESTRICTING}
        return {k: _plain(v) for k, v in parts.items() if v != getattr(NOTHING_SAID, k)}


RESTRICTING = ("answerers", "not_by", "approvals", "refusals", "signed")
"""Any of them makes a wait restricted (S-112)."""

NOTHING_SAID: Final = WaitDetails()

NOT_RECORDED = frozenset({"shown_digest", "compare"})
"""Fields that count only when the wait opens."""


def recorded(said: WaitDetails) -> dict[str, Any]:
    """Return the details as parts of `wait.opened`, by name, without unset ones."""
    parts = {
        one.name: getattr(said, one.name) for one in fields(said) if one.name not in NOT_RECORDED
    }
    return {
        name: _plain(value)
        for name, value in parts.items()
        if value is not UNSET and value != getattr(NOTHING_SAID, name)
    }


QUESTION_HASH_CHARS = 32

ALSO_SHOWN = ("evidence", "deputies")
"""Parts that the question hash covers if they are set, beside the restriction."""


def question_hash(
    task: str,
    stream: str,
    correlation_id: str | None,
    details: WaitDetails,
    schema_digest: str | None,
) -> str:
    """Return a hash of the question as shown, and of its answerers if restricted (S-70), but not of its token.

    A part that came later goes into the object at the end, by name and only if it is set: the hash of a wait without
    it stays the same.
    """
    parts: list[Any] = [task, stream, correlation_id, details.subject, details.body, schema_digest]
    if details.restriction:
        parts.append(details.restriction)
    said = {name: getattr(details, name) for name in ALSO_SHOWN}
    if shown := {name: part for name, part in said.items() if part is not None and part != {}}:
        parts.append(shown)
    return jsonio.same_data_hash(parts)[:QUESTION_HASH_CHARS]


def asks(shown: Mapping[str, Any], hashed: str) -> bool:
    """Return True when the question hash matches this question (S-70).

    Args:
        shown: `task` and the body of `wait.opened`, or a `WaitInfo`, by name; with the JSON Schema of its answers.
        hashed: The question hash.
    """
    said_evidence = shown.get("evidence")
    said = WaitDetails(
        subject=shown.get("subject"),
        body=shown.get("body"),
        answerers=tuple(shown.get("answerers") or ()),
        approvals=shown.get("approvals") or 1,
        refusals=tuple(shown.get("refusals") or ()),
        signed=bool(shown.get("signed")),
        deputies=shown.get("deputies"),
        evidence=said_evidence.recorded() if isinstance(said_evidence, Evidence) else said_evidence,
    )
    task, stream = shown["task"], shown.get("stream") or shown["kind"]
    digest = schema_digest(shown["schema"]) if shown.get("schema") is not None else None
    # The people that `starter` stood for follow the code's own names, and are not part of the question.
    not_by = tuple(shown.get("not_by") or ())
    first = not_by.index(STARTER) + 1 if STARTER in not_by else len(not_by)
    return any(
        hashed
        == question_hash(
            task, stream, shown.get("correlation_id"), replace(said, not_by=not_by[:end]), digest
        )
        for end in range(first, len(not_by) + 1)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [dict(one) if isinstance(one, Mapping) else one for one in value]
    return value


def tag_list(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags, checked.

    Raises:
        UsageError: It is a text, whose letters would be the tags.
    """
    if isinstance(tags, str):
        raise UsageError("tags are a list of texts", hint=f"Write tags=[{tags[:64]!r}].")
    return tuple(tags)


def metadata_object(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata, checked; empty if there is none.

    Raises:
        UsageError: It is not an object.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise UsageError(
            f"metadata is an object of JSON, not {type(metadata).__name__}",
            hint='Write metadata={"key": …}.',
        )
    return dict(metadata)
