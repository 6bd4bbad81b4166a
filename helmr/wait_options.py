"""What a wait may say to people besides what it waits for: checked here, the same for streams and tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypedDict

from helmr.errors import UsageError
from helmr.escalation import EscalationStep, escalation_json
from helmr.labels import tag_list
from helmr.models import ASSIGNEE_MAX, WAIT_TAG_MAX, WAIT_TAGS_MAX
from helmr.models import WaitPriority as Priority
from helmr.schema import Codec
from helmr.wait_details import UNSET, WaitDetails
from helmr.wait_texts import fitted_body, fitted_subject

JSON: Codec[Any] = Codec(Any, what="the initial value")


class WaitOptions(TypedDict, total=False):
    """How a wait is put to people (S-17, S-71, S-72, S-82). Nothing of it changes what answers the wait.

    Attributes:
        subject: One line for the person who answers; beyond 200 characters it is shortened.
        body: Markdown for that person; beyond 1 MiB it is cut.
        initial: What a form starts with; need not be a whole answer.
        on_decline: The answer of whoever declines; must fit the wait's schema.
        priority: `low`, `normal` or `high`.
        tags: To find it by, at most 20 of 64 characters.
        assignee: Whom it concerns, at most 128 characters.
        escalation: What is to happen while nobody answers: see `helmr.escalation`.
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


def details(
    options: WaitOptions,
    codec: Codec[Any],
    *,
    schema: Any = None,
    shown_digest: str | None = None,
    timeout_s: float | None = None,
) -> WaitDetails:
    """The options as the runtime takes them.

    Args:
        options: As the code gave them.
        codec: Of answers to this wait.
        schema: The wait's own JSON Schema, if it has one.
        shown_digest: Digest of the schema that people are shown.
        timeout_s: The wait's.

    Raises:
        UsageError: A tag, assignee, priority or escalation that can't be used.
        SchemaMismatch: `on_decline` or the escalation's default does not fit.
    """
    on_decline = options.get("on_decline", UNSET)
    initial = options.get("initial")
    return WaitDetails(
        subject=fitted_subject(options.get("subject")),
        body=fitted_body(options.get("body")),
        schema=schema,
        shown_digest=shown_digest,
        initial=JSON.encode(initial) if initial is not None else None,
        on_decline=codec.encode(on_decline) if on_decline is not UNSET else UNSET,
        priority=_priority(options.get("priority", Priority.NORMAL.value)),
        tags=checked_tags(options.get("tags", ())),
        assignee=_line(options.get("assignee"), ASSIGNEE_MAX, "an assignee"),
        escalation=escalation_json(options.get("escalation", ()), codec, timeout_s),
        compare=options.get("compare", True),
    )


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags of a wait, each once."""
    found = tuple(dict.fromkeys(tag_list(tags)))
    if len(found) > WAIT_TAGS_MAX:
        raise UsageError(f"a wait has at most {WAIT_TAGS_MAX} tags")
    for tag in found:
        if not 1 <= len(tag) <= WAIT_TAG_MAX or not tag.isprintable():
            raise UsageError(
                f"{tag[:WAIT_TAG_MAX]!r} can't be a tag",
                hint=f"A tag is one line of 1 to {WAIT_TAG_MAX} characters.",
            )
    return found


def has_surrogate(text: str) -> bool:
    """Half of a character, which no entry can hold."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _priority(value: str) -> str:
    try:
        return Priority(value).value
    except ValueError:
        known = ", ".join(Priority)
        raise UsageError(f"{value!r} is no priority", hint=f"There are {known}.") from None


def _line(value: str | None, limit: int, what: str) -> str | None:
    if not value:
        return None
    if len(value) > limit or value.splitlines() != [value] or has_surrogate(value):
        raise UsageError(f"{what} is one line of at most {limit} characters of text")
    return value
