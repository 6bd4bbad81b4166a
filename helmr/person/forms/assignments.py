"""Data written as words, `decision=approve items[0].qty=3 limit:=null`, read by the JSON Schema that it is for. Pure.

`key=text` takes the type that the schema has there; `key:=JSON` is JSON as it stands. A key goes down by dots and
brackets: `address.city`, `items[0].qty`; `tags[]` adds to a list, as does a list's key that is given again. A group
that is named in part begins as a form would show it. Data that is one text, number or choice is one word without a key.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helmr.errors import BadJson, UsageError
from helmr.person.forms import moments
from helmr.person.forms.model import MISSING
from helmr.person.forms.reader import find_reference
from helmr.wire import jsonio

DEPTH_MAX = 30
"""References and alternatives that are gone through for one place."""
ROWS_MAX = 1_000
JSON_BEGINS = ("{", '"')
ITEM = object()
"""A text that is one item of a list."""

_WORD = re.compile(r"([^=]*?)(:?=)(.*)", re.DOTALL)
_PART = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")

Schema = Mapping[str, Any] | bool
Step = str | int | None
"""One step of a key: a name, a place in a list, or the end of one."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One word."""

    key: str
    text: str
    is_json: bool
    is_whole: bool = False
    """All of the data, without a key."""


def is_assignment(word: str) -> bool:
    """True if a word is shaped like an assignment."""
    return _WORD.fullmatch(word) is not None


def read(words: Sequence[str]) -> list[Assignment]:
    """The words, taken apart; a word alone that is no assignment is the whole of the data.

    Raises:
        UsageError: One of several is no assignment, or the only one is JSON.
    """
    return [_read(word, is_alone=len(words) == 1) for word in words]


def _read(word: str, *, is_alone: bool) -> Assignment:
    found = _WORD.fullmatch(word)
    if found is not None and not word.startswith(JSON_BEGINS):
        key, sign, text = found.groups()
        return Assignment(key, text, sign == ":=")
    if word.startswith(JSON_BEGINS):
        raise UsageError(f"{word!r} is not key=value", hint="JSON goes behind --data.")
    if not is_alone:
        raise UsageError(
            f"{word!r} is not key=value", hint="Quote a text with spaces: note='as agreed'."
        )
    return Assignment("", word, is_json=False, is_whole=True)


def assigned(
    given: Sequence[Assignment],
    schema: Schema | None,
    *,
    initial: Any = MISSING,
    base: Any = MISSING,
) -> Any:
    """The data that the words make.

    Args:
        given: In the order in which they were written.
        schema: Schema of the data; None is any JSON.
        initial: The form's initial value: groups that the words name in part begin with it.
        base: Data that the words change; without it, what they do not name is left out.

    Raises:
        UsageError: A key names no field, or a text is not of the field's type; the hint names the fields or values.
    """
    root: Schema = True if schema is None else schema
    made = _Made(root, initial, base)
    for one in given:
        made.put(one)
    return made.data


class _Made:
    """The data so far."""

    def __init__(self, root: Schema, initial: Any, base: Any) -> None:
        self._root = root
        self._initial = initial
        self._put: set[tuple[Step, ...]] = set()
        self.data: Any = copy.deepcopy(base)

    def put(self, one: Assignment) -> None:
        """Set one field."""
        steps, schema = self._place(one.key)
        value = self._value(one, schema)
        if value is ITEM:
            steps = (*steps, None)
            value = self._text(one, one.text, _items(schema, self._root))
        if None not in steps:
            if steps in self._put:
                raise UsageError(f"{one.key} is given twice")
            self._put.add(steps)
        if self.data is MISSING and steps:  # what is not named is left out
            self.data = {} if isinstance(steps[0], str) else []
        self.data = self._set(self.data, self._initial, steps, value, one.key)

    def _place(self, key: str) -> tuple[tuple[Step, ...], Schema]:
        """The steps of a key, and the schema there; a field whose name has dots is found by it whole."""
        schema = self._root
        steps: list[Step] = []
        rest = key
        while rest:
            name, length = self._longest(rest.removeprefix("."), schema)
            if name is not None:
                steps.append(name)
                schema = _property(schema, self._root, name)
                rest = rest.removeprefix(".")[length:]
                continue
            part = _PART.match(rest)
            if part is None:
                raise UsageError(
                    f"{key!r} is not a key", hint="As in address.city, items[0].qty, tags[]."
                )
            rest = rest[part.end() :]
            said = part[1] if part[1] is not None else part[2]
            takes_list = part[1] is None and (not said or said.isdecimal())
            if takes_list and "array" in _types(schema, self._root, unknown=("array",)):
                steps.append(int(said) if said else None)
                schema = _items(schema, self._root)
            else:
                self._check_name(key, steps, said, schema)
                steps.append(said)
                schema = _property(schema, self._root, said)
        return tuple(steps), schema

    def _longest(self, rest: str, schema: Schema) -> tuple[str | None, int]:
        """The longest name of a field that the rest of a key begins with, to its end or a dot or bracket."""
        names = sorted(_properties(schema, self._root), key=len, reverse=True)
        for name in names:
            behind = rest[len(name) : len(name) + 1]
            if name and rest.startswith(name) and behind in ("", ".", "["):
                return name, len(name)
        return None, 0

    def _check_name(self, key: str, steps: list[Step], name: str, schema: Schema) -> None:
        where = _spelt(steps)
        names = _properties(schema, self._root)
        if name in names or _takes_any_name(schema, self._root):
            return
        if not names:
            what = where or "the answer"
            raise UsageError(
                f"{key}: {what} has no fields", hint=f"Write {where or ''}=VALUE, or --data JSON."
            )
        close = difflib.get_close_matches(name, names, n=1)
        guess = f"Did you mean {_spelt([*steps, close[0]])}? " if close else ""
        fields = ", ".join(_spelt([*steps, one]) for one in names)
        raise UsageError(f"{key} is not a field of the answer", hint=f"{guess}Fields: {fields}.")

    def _value(self, one: Assignment, schema: Schema) -> Any:
        if one.is_whole:
            self._check_takes_a_word(one, schema)
        if not one.is_json:
            return self._text(one, one.text, schema)
        try:
            return jsonio.loads(one.text.encode("utf-8", "surrogateescape"))
        except BadJson as error:
            raise BadJson(
                f"{one.key}:= {error.message}", hint=f"For a text: {one.key}='…'.", **error.facts
            ) from error

    def _check_takes_a_word(self, one: Assignment, schema: Schema) -> None:
        names = _properties(schema, self._root)
        if names:
            raise UsageError(f"{one.text!r} is not key=value", hint=f"Fields: {', '.join(names)}.")
        if not _types(schema, self._root) & WORD_TYPES and not _has_choices(schema, self._root):
            raise UsageError(
                f"{one.text!r}: the data may be any JSON, and a word alone does not say which",
                hint="--data JSON; a text as JSON has quotes: --data '\"text\"'.",
            )

    def _text(self, one: Assignment, text: str, schema: Schema) -> Any:
        """A text as the first alternative of the schema that it fits."""
        wanted: list[str] = []
        for shape in _shapes(schema, self._root):
            found = _converted(text, shape)
            if found is not MISSING:
                return found
            wanted.append(_wanted(shape))
        kinds = " or ".join(dict.fromkeys(filter(None, wanted))) or "JSON"
        if one.is_whole:
            raise UsageError(f"{text!r} is not {kinds}", hint="JSON goes behind --data.")
        raise UsageError(
            f"{one.key}: {text!r} is not {kinds}", hint=f"To give JSON, write {one.key}:=…"
        )

    def _set(self, into: Any, begun: Any, steps: tuple[Step, ...], value: Any, key: str) -> Any:
        """The container with that value at that place."""
        if not steps:
            return value
        step, *rest = steps
        if isinstance(step, str):
            group = _begun(into, begun, dict)
            inner = begun.get(step, MISSING) if isinstance(begun, Mapping) else MISSING
            group[step] = self._set(self._kept(group, step, rest), inner, tuple(rest), value, key)
            return group
        rows = (
            _begun(into, begun, list) if rest or step is not None else _begun(into, MISSING, list)
        )
        place = len(rows) if step is None else step
        if place > len(rows) or place >= ROWS_MAX:
            raise UsageError(
                f"{key}: the list has {len(rows)} rows", hint=f"The next one is [{len(rows)}]."
            )
        inner = rows[place] if place < len(rows) else MISSING
        made = self._set(inner if rest else MISSING, inner, tuple(rest), value, key)
        rows[place : place + 1] = [made]
        return rows

    @staticmethod
    def _kept(group: dict[str, Any], step: str, rest: Sequence[Step]) -> Any:
        return group.get(step, MISSING) if rest else MISSING


def _begun(into: Any, begun: Any, kind: type[Any]) -> Any:
    """Return the group or list built so far; the first time, a copy of the form's initial one."""
    if isinstance(into, kind):
        return into
    return copy.deepcopy(begun) if isinstance(begun, kind) else kind()


def _spelt(steps: Sequence[Step]) -> str:
    text = ""
    for step in steps:
        text += f".{step}" if isinstance(step, str) else f"[{'' if step is None else step}]"
    return text.removeprefix(".")


# --- what a schema says -------------------------------------------------------------------------


def _shapes(schema: Any, root: Schema, depth: int = 0) -> Iterator[Any]:
    """The alternatives of a schema, references followed."""
    if depth > DEPTH_MAX:
        return
    if not isinstance(schema, Mapping):
        yield schema is not False
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _shapes(find_reference(root, reference), root, depth + 1)
        return
    inner = [one for word in ("anyOf", "oneOf", "allOf") for one in schema.get(word) or ()]
    if inner:
        for one in inner:
            yield from _shapes(one, root, depth + 1)
        return
    kinds = schema.get("type")
    if isinstance(kinds, list):
        for kind in kinds:
            yield {**schema, "type": kind}
        return
    yield schema


def _types(schema: Any, root: Schema, unknown: Sequence[str] = ()) -> set[str]:
    found: set[str] = set()
    for shape in _shapes(schema, root):
        kind = shape.get("type") if isinstance(shape, Mapping) else None
        found |= {kind} if isinstance(kind, str) else set(unknown)
    return found


WORD_TYPES = {"string", "integer", "number", "boolean", "array"}
"""Types that a word alone can have; an array takes it as its one row."""


def _has_choices(schema: Schema, root: Schema) -> bool:
    return any(
        isinstance(shape, Mapping) and ("enum" in shape or "const" in shape)
        for shape in _shapes(schema, root)
    )


def _properties(schema: Schema, root: Schema) -> dict[str, list[Any]]:
    """Names of fields, with the schemas that alternatives have for them."""
    found: dict[str, list[Any]] = {}
    for shape in _shapes(schema, root):
        inner = shape.get("properties") if isinstance(shape, Mapping) else None
        for name, one in (inner if isinstance(inner, Mapping) else {}).items():
            found.setdefault(name, []).append(one)
    return found


def _property(schema: Schema, root: Schema, name: str) -> Schema:
    found = _properties(schema, root).get(name)
    if found is None:
        more = [
            shape.get("additionalProperties", True)
            for shape in _shapes(schema, root)
            if isinstance(shape, Mapping)
        ]
        found = [one for one in more if one is not False] or [True]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _items(schema: Schema, root: Schema) -> Schema:
    found = [
        shape.get("items", True)
        for shape in _shapes(schema, root)
        if isinstance(shape, Mapping) and shape.get("type", "array") == "array"
    ]
    return {"anyOf": found} if len(found) > 1 else next(iter(found), True)


def _takes_any_name(schema: Schema, root: Schema) -> bool:
    """True if the schema allows fields that no property names, or says nothing about fields."""
    for shape in _shapes(schema, root):
        if not isinstance(shape, Mapping):
            return bool(shape)
        if shape.get("additionalProperties") not in (None, False):
            return True
        says_nothing = "properties" not in shape and "additionalProperties" not in shape
        if says_nothing and shape.get("type", "object") == "object" and "enum" not in shape:
            return True
    return False


def _converted(text: str, shape: Any) -> Any:
    """A text as a value of one shape; MISSING if it is none."""
    if not isinstance(shape, Mapping):
        return text if shape else MISSING
    fixed = [shape["const"]] if "const" in shape else shape.get("enum")
    if isinstance(fixed, list):
        return next((one for one in fixed if one == text or _json(text) == [one]), MISSING)
    match shape.get("type"):
        case "integer":
            found = _json(text)
            return found[0] if found and type(found[0]) is int else MISSING
        case "number":
            found = _json(text)
            return found[0] if found and type(found[0]) in (int, float) else MISSING
        case "boolean":
            return {"true": True, "yes": True, "false": False, "no": False}.get(
                text.lower(), MISSING
            )
        case "null":
            return None if text == "null" else MISSING
        case "array" | "object" as kind:
            found = _json(text)
            wanted = list if kind == "array" else dict
            if found and isinstance(found[0], wanted):
                return found[0]
            return ITEM if kind == "array" else MISSING
        case _:
            return _written(text, shape.get("format"))


def _written(text: str, form: Any) -> str:
    """A date, time or duration as JSON holds it, as a form makes it of the same text; any other text as it stands."""
    try:
        return moments.written(form, text) if form in moments.FORMATS else text
    except ValueError:
        return text  # the runtime says what is wrong with it


def _json(text: str) -> list[Any]:
    """The value that the text is as JSON, in a list; empty if it is none."""
    try:
        return [jsonio.loads(text.encode("utf-8", "surrogateescape"))]
    except BadJson:
        return []


def _wanted(shape: Any) -> str:
    if not isinstance(shape, Mapping):
        return ""
    fixed = [shape["const"]] if "const" in shape else shape.get("enum")
    if isinstance(fixed, list):
        return "one of " + ", ".join(str(one) for one in fixed[:20])
    names = {"integer": "a whole number", "boolean": "true or false", "object": "a group of fields"}
    kind = shape.get("type")
    return names.get(str(kind), f"a {kind}") if kind != "null" else ""
