"""How a wait is asked of an MCP client, and what its response means. Pure.

Invariants: S-94. A form asks for what a client can show: an object of texts, numbers, yes or no and choices, or one
of them, wrapped as `value`. Everything else, and secrets, are answered at the wait's own page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helmr.forms import MISSING, Field, Kind, form_of
from helmr.models import WaitInfo, WaitKind, WaitStatus

VALUE = "value"
"""The property that a form has for an answer that is no object."""

MESSAGE_CHARACTERS_MAX = 8_000
"""Of a wait's question; a longer one ends with a mark."""

_TYPES = {
    Kind.BOOL: "boolean",
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.TEXT: "string",
    Kind.LONG: "string",
    Kind.DATE: "string",
    Kind.DATETIME: "string",
    Kind.CHOICE: "string",
}
_FORMATS = ("email", "uri", "date", "date-time")
"""Those that a form of MCP may name."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Which ways of asking a client has declared."""

    form: bool = False
    url: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that answers its wait."""

    data: Any


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A response that leaves its wait open. `why` is a clause about it; empty if the client only opens the page."""

    why: str


def is_asked(wait: WaitInfo | None) -> bool:
    """True for a wait that a person can answer."""
    return (
        wait is not None
        and wait.status is WaitStatus.PENDING
        and wait.kind in (WaitKind.INPUT, WaitKind.TOKEN)
    )


def key_of(wait: WaitInfo, responses: int) -> str:
    """The key under which a wait is asked; another one after each response that did not answer it."""
    return f"{wait.id}.{responses}"


def message_of(wait: WaitInfo) -> str:
    """What the person reads."""
    title = wait.subject or f"{wait.task} waits for {wait.stream or 'an answer'}"
    text = f"{title}\n\n{wait.body}" if wait.body else title
    if len(text) > MESSAGE_CHARACTERS_MAX:
        text = text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    return text


def form_schema(wait: WaitInfo) -> dict[str, Any] | None:
    """The form for a wait's answer; None if a client can't show one, or must not see what is entered."""
    fields = _fields(wait)
    if fields is None:
        return None
    properties = {name: _property(field, given) for name, field, given in fields}
    needed = [name for name, field, _ in fields if not field.may_be_left_out]
    return {"type": "object", "properties": properties, "required": needed}


def answer_of(wait: WaitInfo, content: Mapping[str, Any]) -> Any:
    """The JSON that a form's content stands for. Whether it fits is said by whoever stores it."""
    content = dict(content)
    fields = _fields(wait)
    if fields is None:
        return content
    values = {}
    for name, field, _ in fields:
        if content.get(name) is not None:
            values[name] = _chosen(field, content.pop(name))
        elif field.required and field.nullable:
            content.pop(name, None)
            values[name] = None
        elif name in content and not field.nullable and not field.required:
            del content[name]  # null for what may be left out
    # What the form did not ask for is not dropped: the schema says whether it may be there.
    values |= content
    return values if _is_object(wait) else values.get(VALUE)


def meaning_of(wait: WaitInfo, response: Mapping[str, Any]) -> Answer | Unanswered:
    """What a client's response says of its wait: `accept` answers, `decline` may, `cancel` does not."""
    content = response.get("content")
    match response.get("action"):
        case "accept" if isinstance(content, Mapping) and form_schema(wait) is not None:
            return Answer(answer_of(wait, content))
        case "accept":
            return Unanswered("")
        case "decline" if wait.can_decline:
            return Answer(wait.on_decline)
        case "decline":
            return Unanswered("was declined")
        case "cancel":
            return Unanswered("was snoozed")
        case _:
            return Unanswered("had a response that is none")


def _is_object(wait: WaitInfo) -> bool:
    return form_of(wait.json_schema).root.kind is Kind.GROUP


def _fields(wait: WaitInfo) -> list[tuple[str, Field, Any]] | None:
    """Each field with its name and what it starts with."""
    root = form_of(wait.json_schema).root
    if root.kind is not Kind.GROUP:
        return [(VALUE, root, wait.initial)] if _is_plain(root) else None
    if not all(_is_plain(child) for child in root.children):
        return None
    given = wait.initial if isinstance(wait.initial, Mapping) else {}
    return [(child.name, child, given.get(child.name)) for child in root.children]


def _is_plain(field: Field) -> bool:
    if field.kind not in _TYPES:
        return False
    return field.kind is not Kind.CHOICE or len(_labels(field)) == len(field.choices)


def _labels(field: Field) -> dict[str, Any]:
    """A choice's text, and its value: a text that is chosen is itself, anything else its label."""
    return {
        choice.value if isinstance(choice.value, str) else choice.label: choice.value
        for choice in field.choices
    }


def _chosen(field: Field, value: Any) -> Any:
    if field.kind is Kind.CHOICE and isinstance(value, str):
        return _labels(field).get(value, value)
    return value


def _property(field: Field, given: Any) -> dict[str, Any]:
    """One property of the form. Titles and bounds as the schema has them."""
    told: dict[str, Any] = {"type": _TYPES[field.kind], "title": field.label}
    if field.description or field.unit:
        told["description"] = " ".join(part for part in (field.description, field.unit) if part)
    if field.kind is Kind.CHOICE:
        told["enum"] = list(_labels(field))
    elif field.kind in (Kind.INTEGER, Kind.NUMBER):
        bounds = {"minimum": field.minimum, "maximum": field.maximum}
        told |= {name: bound for name, bound in bounds.items() if bound is not None}
    elif told["type"] == "string":
        lengths = {"minLength": field.length_min, "maxLength": field.length_max}
        told |= {name: bound for name, bound in lengths.items() if bound is not None}
        if field.format in _FORMATS:
            told["format"] = field.format
    start = given if given is not None else field.default
    # Clients send a default that nobody looked at: a decision has none.
    if not field.is_decision and start is not MISSING and start is not None:
        if field.kind is Kind.CHOICE:
            spelt = {_text_of(value): label for label, value in _labels(field).items()}
            start = spelt.get(_text_of(start))
        if start is not None:
            told["default"] = start
    return told


def _text_of(value: Any) -> str:
    return f"{type(value).__name__}:{value}"
