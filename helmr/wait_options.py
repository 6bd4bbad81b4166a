"""What a wait may say to people besides what it waits for: checked here, the same for streams and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from helmr.errors import UsageError
from helmr.escalation import escalation_json
from helmr.labels import tag_list
from helmr.models import WAIT_TAG_MAX, WAIT_TAGS_MAX
from helmr.models import WaitPriority as Priority
from helmr.schema import Codec
from helmr.wait_details import UNSET, WaitDetails, WaitOptions
from helmr.wait_texts import fitted_body, fitted_subject

JSON: Codec[Any] = Codec(Any, what="the initial value")


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
        **_lines(options),
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


def _lines(options: WaitOptions) -> dict[str, Any]:
    """The options that are one line of text, by name."""
    given: Mapping[str, Any] = options
    return {
        one.name: _line(given.get(one.name), one.metadata["line_max"], one.metadata["what"])
        for one in fields(WaitDetails)
        if "line_max" in one.metadata
    }


def _line(value: str | None, limit: int, what: str) -> str | None:
    if not value:
        return None
    if len(value) > limit or value.splitlines() != [value] or has_surrogate(value):
        raise UsageError(f"{what} is one line of at most {limit} characters of text")
    return value


__all__ = ["JSON", "WaitDetails", "WaitOptions", "checked_tags", "details", "has_surrogate"]
