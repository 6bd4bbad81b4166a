"""Leave for a tool's call, as every face of Helmr shows it: which tool, with what, what was changed, what follows.

`helmr.ask_approval` writes the wait; console, answer page and `helmr next` know it again by its schema, here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from helmr.models.common import BODY_SHOWN_BYTES, SUBJECT_MAX
from helmr.person.forms.call_blocks import CallBlock, blocks, without
from helmr.person.forms.model import MISSING, ROW, Field, Form, Kind, Path, Schema, plain

APPROVE, RESPOND, DECLINE = "approve", "respond", "decline"
"""Decisions: to respond is to give the tool's result in its place, which some agents let people do."""
DECISION, ARGUMENTS, REASON = "decision", "arguments", "reason"
"""Properties of the answer."""
_TITLE: Final = "Arguments of "
_HIDDEN = "••••••"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument, or one value inside one, as text: as it was asked for, and as the tool would be called.

    `name` has a dot for each step inwards. `asked` is None if it was added, `now` if it was taken out.
    """

    name: str
    asked: str | None
    now: str | None
    is_changed: bool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a person is asked about. All of it is session text; secrets of the tool's schema are left out."""

    tool: str
    asked: Mapping[str, Any]
    decisions: tuple[str, ...] = (APPROVE, DECLINE)
    hidden: frozenset[Path] = frozenset()

    def arguments(self, answer: Any = MISSING) -> tuple[Argument, ...]:
        """Return the arguments of the call under this answer, in the order in which they were requested."""
        asked = dict(self._values(self.asked, (), ()))
        now = dict(self._values(self._edited(answer), (), ()))
        return tuple(
            Argument(
                ".".join(path),
                asked[path][0] if path in asked else None,
                now[path][0] if path in now else None,
                asked.get(path) != now.get(path),
            )
            for path in {**asked, **now}
        )

    def blocks(self, answer: Any = MISSING) -> tuple[CallBlock, ...]:
        """The command, the diff: what says more than the arguments do."""
        hidden = {str(path[0]) for path in self.hidden if path}
        return tuple(blocks(self._edited(answer), hidden))

    def beside_blocks(self, answer: Any = MISSING) -> tuple[Argument, ...]:
        """The arguments that no block says, and what was changed."""
        told = {name for one in self.blocks(answer) for name in one.names}
        return tuple(
            one
            for one in self.arguments(answer)
            if one.is_changed or one.name.partition(".")[0] not in told
        )

    def own_text(self, body: str | None) -> str:
        """Return the wait's body without this call; empty if nothing is left."""
        if not body or self.is_shown_by(body):
            return ""
        told = [one.text for one in self.blocks()]
        description = self.asked.get("description")
        lines = [description] if isinstance(description, str) and description.strip() else []
        return without(body, told, lines)

    def changed(self, answer: Any) -> tuple[Argument, ...]:
        """Return the arguments that the answer changes."""
        return tuple(one for one in self.arguments(answer) if one.is_changed)

    def outcomes(self) -> tuple[tuple[str, str], ...]:
        """Each decision, and what it does."""
        does = {
            APPROVE: f"{self.tool} is called with these arguments",
            RESPOND: f"{self.tool} is not called; the agent gets the reason as its result",
            DECLINE: f"{self.tool} is not called; the agent sees the reason",
        }
        return tuple((decision, does[decision]) for decision in self.decisions)

    def effect(self, answer: Any) -> str:
        """Describe the effect of this answer; empty until there is a decision."""
        decision = answer.get(DECISION) if isinstance(answer, Mapping) else None
        if decision == DECLINE:
            return f"{self.tool} is not called; the agent sees{_why(answer)}"
        if decision == RESPOND:
            result = _why(answer).replace(" no reason", " an empty result")
            return f"{self.tool} is not called; the agent gets{result}"
        if decision != APPROVE:
            return ""
        count = len(self.changed(answer))
        if not count:
            return f"{self.tool} is called as it was asked for"
        return f"{self.tool} is called with {count} value{'s' if count > 1 else ''} changed"

    def is_shown_by(self, body: str | None) -> bool:
        """True if a wait's body shows this call and nothing else."""
        return body is not None and body.startswith(_opening(self.tool)) and body.endswith("\n```")

    def _edited(self, answer: Any) -> Mapping[str, Any]:
        edited = answer.get(ARGUMENTS) if isinstance(answer, Mapping) else None
        return edited if isinstance(edited, Mapping) else self.asked

    def _values(
        self, value: Any, path: tuple[str, ...], place: Path
    ) -> Iterator[tuple[tuple[str, ...], tuple[str, str]]]:
        """Yield each value by path, as text and as JSON, which tells `1` from `"1"`. `place` is its form field."""
        inside = _inside(value)
        if place in self.hidden or inside is None:
            text = _HIDDEN if place in self.hidden else _text(value)
            yield path, (text, json.dumps(value, sort_keys=True))
            return
        for name, one in inside.items():
            step = ROW if isinstance(value, list) else name
            yield from self._values(one, (*path, name), (*place, step))


def tool_call(form: Form) -> ToolCall | None:
    """The call that this form is about; None if it is about something else."""
    found = _read(form.schema, form.initial)
    if found is None:
        return None
    tool, asked, decisions = found
    secrets = (one.path for one in form.leaves(templates=True) if one.kind is Kind.SECRET)
    hidden = frozenset(path[1:] for path in secrets if path[:1] == (ARGUMENTS,))
    return ToolCall(tool, asked, decisions, hidden)


def is_call(schema: Schema | bool, initial: Any) -> bool:
    """True if a form with this schema and initial value asks to approve a tool's call."""
    return _read(schema, initial) is not None


def is_declined(form: Form, cells: Mapping[str, Any]) -> bool:
    """True if these cells decline the call: its arguments are then neither asked for nor sent."""
    decision = form.decision
    if decision is None or not is_call(form.schema, form.initial):
        return False
    chosen = cells.get(decision.key)
    declines = [n for n, one in enumerate(decision.choices) if one.value in (DECLINE, RESPOND)]
    may_go = any(one.path == (ARGUMENTS,) and not one.required for one in form.root.children)
    return may_go and chosen in declines


def root_asked(form: Form, cells: Mapping[str, Any]) -> Field:
    """The form's outermost field, without what is not asked for: of a call that is declined, its arguments."""
    if not is_declined(form, cells):
        return form.root
    kept = (one for one in form.root.children if one.path != (ARGUMENTS,))
    return replace(form.root, children=tuple(kept))


def call_schema(schema: Mapping[str, Any], tool: str) -> dict[str, Any]:
    """The schema of an answer, so that it says which tool's call it is about."""
    properties = schema["properties"]
    titled = {**properties[ARGUMENTS], "title": f"{_TITLE}{tool}"}
    return {**schema, "properties": {**properties, ARGUMENTS: titled}}


def with_fields(schema: Schema | bool, initial: Any) -> Schema | bool:
    """The schema with a field for each argument that was asked for, where the tool's own says nothing of them.

    It is for drawing a form only: what fits the call is not narrowed.
    """
    found = _read(schema, initial)
    if found is None or not found[1] or isinstance(schema, bool):
        return schema
    properties = schema["properties"]
    parts = properties[ARGUMENTS].get("anyOf")
    if not isinstance(parts, list) or not all(_says_nothing(part) for part in parts):
        return schema
    asked = {**properties[ARGUMENTS], "anyOf": [_shape(found[1]), {"type": "null"}]}
    return {**schema, "properties": {**properties, ARGUMENTS: asked}}


def call_subject(tool: str) -> str:
    """The one line about a tool's call."""
    return " ".join(f"Call {tool}?".split())[:SUBJECT_MAX]


def call_body(tool: str, arguments: Mapping[str, Any]) -> str:
    """The call as Markdown, cut where it is too long for a wait's body; the form has all of it."""
    text = json.dumps(dict(arguments), indent=2, ensure_ascii=False, default=str)
    most = BODY_SHOWN_BYTES - 200
    if len(text.encode()) > most:
        text = text.encode()[:most].decode(errors="ignore") + "\n…"
    return f"{_opening(tool)}{text}\n```"


def _opening(tool: str) -> str:
    return f"**{tool}** is to be called with\n\n```json\n"


def _read(
    schema: Schema | bool, initial: Any
) -> tuple[str, dict[str, Any], tuple[str, ...]] | None:
    """The tool, the arguments that were asked for, and what may be decided."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    asked = initial.get(ARGUMENTS) if isinstance(initial, dict) else None
    if not isinstance(properties, Mapping) or not isinstance(asked, dict):
        return None
    decision, arguments = properties.get(DECISION), properties.get(ARGUMENTS)
    if not isinstance(decision, Mapping) or not isinstance(arguments, Mapping):
        return None
    title, decisions = arguments.get("title"), decision.get("enum")
    if not isinstance(title, str) or not isinstance(decisions, list) or not decisions:
        return None
    if decisions != [one for one in (APPROVE, RESPOND, DECLINE) if one in decisions]:
        return None
    tool = title.removeprefix(_TITLE)
    return (tool, asked, tuple(decisions)) if tool and tool != title else None


def _says_nothing(schema: Any) -> bool:
    """True if the schema takes null, or any object."""
    if not isinstance(schema, Mapping) or schema.get("type") not in ("object", "null"):
        return False
    is_open = schema.get("additionalProperties", True) is True and not schema.get("properties")
    return is_open and set(schema) <= {"type", "title", "description", *_OPEN}


_OPEN = ("additionalProperties", "properties")


def _shape(value: Any) -> dict[str, Any]:
    """A schema that a value fits and that has a field for each value in it; `{}` for what is entered as JSON.

    That is a list, too, unless it has the same fields in each row: as lines of a text it would lose empty ones.
    """
    match value:
        case [dict() as first, *rest] if first:
            item = _shape(first)
            return {"type": "array", "items": item} if all(_shape(r) == item for r in rest) else {}
        case dict() if value:
            properties = {name: _shape(inner) for name, inner in value.items()}
            return {"type": "object", "properties": properties, "required": list(value)}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case _:
            return {}


def _inside(value: Any) -> dict[str, Any] | None:
    """Return the values of an object, or of a list of more than plain values, by name or place; None for others."""
    if isinstance(value, Mapping) and value:
        return {str(name): inner for name, inner in value.items()}
    if isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        return {str(place): inner for place, inner in enumerate(value, start=1)}
    return None


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(plain(inner) for inner in value) or plain(None)
    return plain(None) if value == {} else plain(value)


def _why(answer: Mapping[str, Any]) -> str:
    reason = answer.get(REASON)
    return f": {reason}" if isinstance(reason, str) and reason.strip() else " no reason"
