"""Checks the options of a wait or token for people, and shortens the texts that are too long.

No run ends because a model or a customer wrote too much. A subject is one line of at most 200 characters: line breaks
become spaces, and a longer one ends with `…`. A body longer than 1 MiB is cut, with a note at its end. The log says so
once a run. Tags and metadata are never shortened.

Invariants: S-17.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel

from helmr.current import current_run
from helmr.errors import UsageError
from helmr.escalation import escalation_json
from helmr.evidence import evidence, without_surrogates
from helmr.models import BODY_MAX_BYTES, SUBJECT_MAX, WAIT_TAG_MAX, WAIT_TAGS_MAX
from helmr.models import WaitPriority as Priority
from helmr.wait_details import RESTRICTING, UNSET, WaitDetails, WaitOptions, tag_list
from helmr.wire.durations import spell_bytes
from helmr.wire.people import APPROVALS_MAX, GROUP, REFUSALS_MAX, checked_list, checked_people
from helmr.wire.schema import Codec

logger = logging.getLogger("helmr.task")

NOTE_BYTES_MAX = 200
"""Most bytes of the note under a body that was cut."""

SCHEMA_PARTS_MAX = 1_000
"""Most parts of a schema to search for the names of its fields; with more, any name is accepted."""

TOLD_RUNS_MAX = 1_000
"""Most runs remembered as already logged; beyond that the oldest are forgotten."""

_told: OrderedDict[str, set[str]] = OrderedDict()


def fitted_subject(text: str | None) -> str | None:
    """Return the subject as shown, None if it is empty."""
    _check_text(text, "a subject")
    if not text:
        return None
    line = without_surrogates(text)
    if line.splitlines() != [line]:
        line = " ".join(line.split())
    if len(line) > SUBJECT_MAX:
        line = line[: SUBJECT_MAX - 1].rstrip() + "…"
    if line != text:
        _tell(f"a subject is one line of at most {SUBJECT_MAX} characters: one was shortened")
    return line or None


def fitted_body(text: str | None) -> str | None:
    """Return the body as stored, None if it is empty."""
    _check_text(text, "a body")
    if not text:
        return None
    whole = without_surrogates(text)
    size = len(whole.encode())
    if size > BODY_MAX_BYTES:
        _tell(f"a body has at most {BODY_MAX_BYTES} bytes: one of {size} was cut")
        kept = whole.encode()[: BODY_MAX_BYTES - NOTE_BYTES_MAX].decode(errors="ignore")
        whole = f"{kept}\n\n… (cut here: it has {spell_bytes(size)}, of which 1 MiB is kept)"
    return whole


def _check_text(value: object, what: str) -> None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{what} is text, not {type(value).__name__}: write str(…)")


def _tell(what: str) -> None:
    run = current_run.get()
    if run is None or run.is_muted:
        return
    told = _told.setdefault(run.run.id, set())
    if len(_told) > TOLD_RUNS_MAX:
        _told.popitem(last=False)
    kind = what.partition(":")[0]
    if kind not in told:
        told.add(kind)
        logger.warning("%s: %s", run.run.id, what)


JSON: Codec[Any] = Codec(Any, what="the initial value")


def details(
    options: WaitOptions,
    codec: Codec[Any],
    *,
    schema: Any = None,
    shown_digest: str | None = None,
    timeout_s: float | None = None,
) -> WaitDetails:
    """Check the options and return them as the runtime takes them.

    Args:
        options: Options as the code gave them.
        codec: Codec of answers to this wait.
        schema: The wait's own JSON Schema, if it has one.
        shown_digest: Digest of the schema that people see.
        timeout_s: The wait's timeout in seconds.

    Raises:
        UsageError: A tag, assignee, priority, escalation or list of people is invalid, or an option is unknown.
        SchemaMismatch: `on_decline` or the escalation's default does not fit.
    """
    on_decline = options.get("on_decline", UNSET)
    initial = options.get("initial")
    _check_initial(initial, codec)
    if options.get("signed") and schema is None:
        schema = codec.json_schema()  # what was signed is checked by the transcript alone
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
        evidence=evidence(*map(options.get, ("facts", "links", "diff", "attach"))),
        **_restriction(options, codec),
    )


def _check_initial(initial: Any, codec: Codec[Any]) -> None:
    """Log initial values that no answer has, since people would not see them. A part of an answer is fine."""
    known = codec.type
    is_model = isinstance(known, type) and issubclass(known, BaseModel)
    if initial is None or not is_model or known.model_config.get("extra") == "allow":
        return
    if not isinstance(initial, Mapping):
        if not isinstance(initial, BaseModel):
            _tell(f"initial is {type(initial).__name__}: the form starts with a {known.__name__}")
        return
    aliases = {str(one.alias) for one in known.model_fields.values()}
    for name in initial:
        if name not in known.model_fields and name not in aliases:
            fields_of = ", ".join(known.model_fields)
            _tell(f"initial has {name!r}, which the answer has not: it has {fields_of}")


def require_unrestricted(options: WaitOptions, what: str) -> None:
    """Refuse options that restrict the answerers.

    Raises:
        UsageError: An option restricts them, which a wait on this can't enforce (S-112).
    """
    found = [name for name in (*RESTRICTING, "comments", "deputies") if name in options]
    if found:
        raise UsageError(
            f"{found[0]} is for waits on a stream, not for {what}",
            hint="Anyone who holds its secret completes a token; ask people on an input stream.",
        )


def _restriction(options: WaitOptions, codec: Codec[Any]) -> dict[str, Any]:
    """Check the options for answerers and the number who must agree, and return them as the runtime takes them."""
    unknown = sorted(set(options) - WaitOptions.__annotations__.keys())
    if unknown:
        raise UsageError(
            f"a wait has no option {unknown[0]!r}",
            hint=f"There are {', '.join(sorted(WaitOptions.__annotations__))}.",
        )
    answerers = checked_people(options.get("answerers", ()), "answerers")
    approvals = options.get("approvals", 1)
    if type(approvals) is not int or not 1 <= approvals <= APPROVALS_MAX:
        raise UsageError(f"approvals is a number from 1 to {APPROVALS_MAX}")
    are_people = answerers and not any(one.startswith(GROUP) for one in answerers)
    if are_people and len(answerers) < approvals:
        raise UsageError(
            f"{approvals} people are to agree, and answerers names {len(answerers)}",
            hint="Name more people, or a group.",
        )
    refused = checked_list(options.get("refusals", ()), "refusals", "answers")
    refusals = tuple(JSON.encode(one) for one in refused)
    if "refusals" not in options and approvals > 1 and "on_decline" in options:
        refusals = (codec.encode(options["on_decline"]),)
    if len(refusals) > REFUSALS_MAX:
        raise UsageError(f"a wait has at most {REFUSALS_MAX} refusals")
    signed, deputies = options.get("signed", False), options.get("deputies")
    if type(signed) is not bool:
        raise UsageError("signed is True or False")
    if deputies is not None and type(deputies) is not bool:
        raise UsageError("deputies is True or False")
    return {
        "answerers": answerers,
        "not_by": checked_people(options.get("not_by", ()), "not_by"),
        "approvals": approvals,
        "refusals": refusals,
        "comments": _comments(options, codec),
        "signed": signed,
        "deputies": deputies,
    }


def _comments(options: WaitOptions, codec: Codec[Any]) -> tuple[str, ...]:
    """Return the fields in which people need not agree, each one that the answer may have."""
    named = tuple(checked_list(options.get("comments", ()), "comments", "fields of the answer"))
    if not all(isinstance(one, str) for one in named):
        raise UsageError("comments is a list of fields of the answer", hint='Write ["reason"].')
    fields_ = property_names(codec.json_schema()) if named else None
    unknown = [one for one in named if fields_ is not None and one not in fields_]
    if unknown:
        known = f"It has {', '.join(sorted(fields_ or ()))}." if fields_ else "It has no fields."
        raise UsageError(f"comments names {unknown[0]!r}, which the answer has not", hint=known)
    return named


def property_names(schema: Any) -> frozenset[str] | None:
    """Return the fields that a JSON Schema lets an object have; None if it may have any."""
    found: set[str] = set()
    left, seen = [schema], 0
    while left and seen < SCHEMA_PARTS_MAX:
        part, seen = left.pop(), seen + 1
        if not isinstance(part, Mapping):
            return None
        if isinstance(reference := part.get("$ref"), str):
            left.append(_at(schema, reference))
            continue
        several = [one for key in ("anyOf", "oneOf", "allOf") for one in part.get(key, ())]
        left += several
        kind = part.get("type")
        if "properties" not in part and (several or kind not in (None, "object")):
            continue
        if "properties" not in part or part.get("additionalProperties", False) is not False:
            return None
        if "patternProperties" in part:
            return None
        found |= part["properties"].keys()
    return frozenset(found) if not left else None


def _at(schema: Any, reference: str) -> Any:
    for name in reference.removeprefix("#").split("/")[1:]:
        schema = schema.get(name) if isinstance(schema, Mapping) else None
    return schema


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags of a wait, each once."""
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
    """A lone surrogate, which no entry can hold."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _priority(value: str) -> str:
    try:
        return Priority(value).value
    except ValueError:
        known = ", ".join(Priority)
        raise UsageError(f"{value!r} is not a priority", hint=f"There are {known}.") from None


def _lines(options: WaitOptions) -> dict[str, Any]:
    """Return the options that are one line of text, by name."""
    given: Mapping[str, Any] = options
    return {
        one.name: _line(given.get(one.name), one.metadata["line_max"], one.metadata["what"])
        for one in fields(WaitDetails)
        if "line_max" in one.metadata
    }


def _line(value: str | None, limit: int, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{what} is one line of text, not {type(value).__name__}")
    if not value:
        return None
    if len(value) > limit or value.splitlines() != [value] or has_surrogate(value):
        raise UsageError(f"{what} is one line of at most {limit} characters of text")
    return value


__all__ = ["JSON", "WaitDetails", "WaitOptions", "checked_tags", "details", "has_surrogate"]
