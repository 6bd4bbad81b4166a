"""What a wait says to people and about itself: as code gives it (`WaitOptions`), and as the runtime has it.

An option is a field of both. It goes as one value from the call to `wait.opened` (`recorded`), and under its own name.
Tags and metadata are as callers give them: a text is not a list of tags, and a list no object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Final, Literal, TypedDict

from helmr import jsonio
from helmr.errors import UsageError
from helmr.escalation import EscalationStep
from helmr.models import ASSIGNEE_MAX
from helmr.people import STARTER
from helmr.schema import schema_digest


class _Unset(Enum):
    """The absence of a value, where None is one."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset.UNSET


class AnswererOptions(TypedDict, total=False):
    """Who may answer a wait on a stream, and how many must agree (S-112, S-113); one that says any is restricted.

    Attributes:
        answerers: People and groups that may: `ada@example.com`, `group:finance`; none named admits every person.
        not_by: People and groups that may not. `starter` is the person who started the session or its run.
        approvals: So many different people must give the same answer.
        refusals: Answers that one person is enough for; unless given, `on_decline`.
        comments: Fields of the answer in which people need not agree.
        signed: Each answer carries the signature of the person who gives it (S-115).
    """

    answerers: Iterable[str]
    not_by: Iterable[str]
    approvals: int
    refusals: Iterable[Any]
    comments: Iterable[str]
    signed: bool


class WaitOptions(AnswererOptions, total=False):
    """How a wait is put to people (S-17, S-71, S-72, S-82), and who may answer it. But for that, nothing of it changes
    what answers the wait.

    Attributes:
        subject: One line for the person who answers; beyond 200 characters it is shortened.
        body: Markdown for that person; beyond 1 MiB it is cut.
        initial: What a form starts with; need not be a whole answer.
        on_decline: The answer of anyone who declines; must fit the wait's schema.
        priority: `low`, `normal` or `high`.
        tags: To find it by, at most 20 of 64 characters.
        assignee: Whom it concerns, at most 128 characters.
        escalation: What is to happen while no one answers: see `helmr.escalation`.
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
    compare: bool


def line(limit: int, what: str) -> Any:
    """A field that is one line of text, at most that long."""
    return field(default=None, metadata={"line_max": limit, "what": what})


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitDetails:
    """What a wait says to people and about itself; JSON types only (`helmr.wait_options`).

    Attributes:
        schema: JSON Schema that answers to this wait must fit; of a token wait, its completions from now on.
        shown_digest: Digest of the JSON Schema that people are shown, this one or the stream's.
        on_decline: The answer of anyone who declines.
        escalation: Escalation steps as JSON (`helmr.escalation.escalation_json`).
        compare: A replay compares subject, body, schema and correlation id with what is recorded.
        answerers: People and groups as `helmr.people` writes them, as `not_by`.
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
    answerers: tuple[str, ...] = ()
    not_by: tuple[str, ...] = ()
    approvals: int = 1
    refusals: tuple[Any, ...] = ()
    comments: tuple[str, ...] = ()
    signed: bool = False

    @property
    def restriction(self) -> dict[str, Any]:
        """What of it says who may answer, by name; empty if anyone may."""
        parts = {name: getattr(self, name) for name in RESTRICTING}
        return {k: _plain(v) for k, v in parts.items() if v != getattr(NOTHING_SAID, k)}


RESTRICTING = ("answerers", "not_by", "approvals", "refusals", "signed")
"""Any of them makes a wait restricted (S-112)."""

NOTHING_SAID: Final = WaitDetails()

NOT_RECORDED = frozenset({"shown_digest", "compare"})
"""Fields that are for the moment of asking."""


def recorded(said: WaitDetails) -> dict[str, Any]:
    """The parts of `wait.opened` that say this, by name; what is not said is left out."""
    parts = {
        one.name: getattr(said, one.name) for one in fields(said) if one.name not in NOT_RECORDED
    }
    return {
        name: _plain(value)
        for name, value in parts.items()
        if value is not UNSET and value != getattr(NOTHING_SAID, name)
    }


QUESTION_HASH_CHARS = 32


def question_hash(
    task: str,
    stream: str,
    correlation_id: str | None,
    details: WaitDetails,
    schema_digest: str | None,
) -> str:
    """Names what the person was shown, and who may answer if that is said (S-70); not which token carries it."""
    parts: list[Any] = [task, stream, correlation_id, details.subject, details.body, schema_digest]
    if details.restriction:
        parts.append(details.restriction)
    return jsonio.same_data_hash(parts)[:QUESTION_HASH_CHARS]


def asks(shown: Mapping[str, Any], hashed: str) -> bool:
    """Whether this is what the hash of a question names (S-70).

    Args:
        shown: `task` and what `wait.opened` says, or a `WaitInfo`, by name; with the JSON Schema of its answers.
        hashed: The question hash.
    """
    said = WaitDetails(
        subject=shown.get("subject"),
        body=shown.get("body"),
        answerers=tuple(shown.get("answerers") or ()),
        approvals=shown.get("approvals") or 1,
        refusals=tuple(shown.get("refusals") or ()),
        signed=bool(shown.get("signed")),
    )
    task, stream = shown["task"], shown.get("stream") or shown["kind"]
    digest = schema_digest(shown["schema"]) if shown.get("schema") is not None else None
    # Whom `starter` meant stands behind what the code said, and is no part of the question.
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
    """The tags.

    Raises:
        UsageError: It is one text, whose letters would be the tags.
    """
    if isinstance(tags, str):
        raise UsageError("tags are a list of texts", hint=f"Write tags=[{tags[:64]!r}].")
    return tuple(tags)


def metadata_object(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The metadata, empty if there is none.

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
