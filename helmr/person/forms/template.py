"""JSON as people write and read it: what an answer for a schema looks like, and an answer with its texts as texts.

A template is the schema's own example, or a skeleton with a place for each value it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from helmr.person.forms import Schema
from helmr.person.forms.reader import find_reference

DEPTH_MAX = 4
PARTS_MAX = 12
"""Properties of an object that a skeleton shows."""
_EMPTY: dict[str, Any] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "null": None,
}


def template(schema: Schema, root: Schema) -> Any:
    """A value to start from; None if the schema does not say of what shape it is.

    Args:
        schema: The part that is asked for.
        root: The whole, where `$ref` is looked up.
    """
    return _value(schema, root, DEPTH_MAX)


def template_text(schema: Schema, root: Schema) -> str:
    """The template on one line; empty without one."""
    value = template(schema, root)
    return "" if value in (None, {}, []) else json.dumps(value, ensure_ascii=False)


def _value(schema: Any, root: Schema, depth: int) -> Any:
    found = _resolved(schema, root)
    examples = found.get("examples")
    if isinstance(examples, list) and examples:
        return examples[0]
    if "const" in found:
        return found["const"]
    values = found.get("enum")
    if isinstance(values, list) and values:
        return values[0]
    if found.get("default") is not None:
        return found["default"]
    for word in ("anyOf", "oneOf", "allOf"):
        parts = found.get(word)
        if isinstance(parts, list) and parts:
            return _value(parts[0], root, depth - 1) if depth > 0 else None
    kind = found.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "array":
        item = _value(found.get("items", {}), root, depth - 1) if depth > 0 else None
        return [] if item is None else [item]
    if kind == "object" or (kind is None and "properties" in found):
        return _object(found, root, depth)
    if kind in ("integer", "number") and isinstance(found.get("minimum"), int):
        return found["minimum"]
    return _EMPTY.get(kind) if isinstance(kind, str) else None


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or depth <= 0:
        return {}
    needed = schema.get("required")
    names = [name for name in properties if not isinstance(needed, list) or name in needed]
    return {
        name: _value(properties[name], root, depth - 1)
        for name in (names or list(properties))[:PARTS_MAX]
    }


def _resolved(schema: Any, root: Schema) -> dict[str, Any]:
    current = dict(schema) if isinstance(schema, Mapping) else {}
    for _ in range(8):
        found = find_reference(root, current.pop("$ref", None))
        if not isinstance(found, Mapping):
            break
        current = {**found, **current}
    return current


LONG_MIN = 60
"""Characters of a text that is read better as a text."""
_INDENT = "  "


def spelled(data: Any) -> str:
    """The answer in lines; empty where no text in it is long or has several lines, since JSON is read as well then."""
    return "\n".join(_lines(data)) if _has_long(data) else ""


def _has_long(data: Any) -> bool:
    if isinstance(data, str):
        return len(data) >= LONG_MIN or "\n" in data
    if isinstance(data, dict):
        return any(_has_long(one) for one in data.values())
    return isinstance(data, list) and any(_has_long(one) for one in data)


def _lines(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield from data.split("\n")
    elif isinstance(data, dict) and data:
        for name, one in data.items():
            yield from _named(f"{name}:", one)
    elif isinstance(data, list) and data:
        for one in data:
            yield from _named("-", one)
    else:
        yield json.dumps(data, ensure_ascii=False)


def _named(name: str, data: Any) -> Iterator[str]:
    """On one line if it is short; a short text in its quotes, so that it is not taken for a number or yes."""
    if _has_long(data) or (isinstance(data, dict | list) and data):
        yield name
        yield from (f"{_INDENT}{line}" for line in _lines(data))
    else:
        yield f"{name} {json.dumps(data, ensure_ascii=False)}"
