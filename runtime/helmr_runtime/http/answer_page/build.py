"""From a JSON Schema to the fields of a form.

What a form can ask is asked as fields; any part it can't (a map, a list of objects, a schema that
refers to itself) becomes one text box for JSON, so that there is no schema a person can't answer.
The schema is untrusted: the number of fields, their depth and every text are bounded, and a schema
over the bounds becomes one JSON box as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helmr_runtime.http.answer_page.fields import (
    RADIOS_MAX,
    BooleanField,
    Choice,
    ChoiceField,
    ChoicesField,
    ConstField,
    Field,
    Form,
    GroupField,
    JsonField,
    LinesField,
    NumberField,
    Path,
    TextField,
    UnionField,
    Variant,
    plain,
)
from helmr_runtime.http.answer_page.texts import clean, clean_block

FIELDS_MAX = 150
DEPTH_MAX = 6
CHOICES_MAX = 100
LABEL_CHARS_MAX = 120
HINT_CHARS_MAX = 600
SCHEMA_CHARS_MAX = 5_000
_ONE_LINE_CHARS = 80
"""A text whose maximum length is at most this gets one line."""


def build_form(schema: Mapping[str, Any] | bool | None) -> Form:
    """The form that asks for a value of this schema; None asks for anything."""
    schema = True if schema is None else schema
    text = json.dumps(schema, sort_keys=True, ensure_ascii=False)
    binding = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    try:
        root = _Builder(schema).field(schema, path=(), label="Your answer", is_required=True)
    except _TooBig:
        root = _Builder(schema).json_field(schema, path=(), label="Your answer", is_required=True)
    if isinstance(root, GroupField) and not root.may_be_left_out:
        # The page itself is the frame of the outermost object.
        root = replace(root, label="", hint="")
    return Form(root, binding)


_UNSAID: Any = object()
"""No default: a default may be null."""


class _TooBig(Exception):
    """The schema asks for more fields than a person can answer."""


_ANNOTATIONS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$schema",
        "$id",
        "$defs",
        "definitions",
        "$comment",
    }
)
_INPUT_TYPES = {"email": "email", "uri": "url", "date": "date"}
_FORMAT_HINTS = {
    "date-time": "Date and time, such as 2026-03-31T14:30:00Z.",
    "time": "A time, such as 14:30:00Z.",
}


class _Builder:
    """Builds the fields of one schema; counts them."""

    def __init__(self, root: Mapping[str, Any] | bool) -> None:
        self._root = root
        self._count = 0

    def field(
        self, schema: Any, *, path: Path, label: str, is_required: bool, depth: int = 0
    ) -> Field:
        """The field for a schema at a place."""
        schema = self._resolve(schema)
        if depth > DEPTH_MAX or not isinstance(schema, Mapping):
            if schema is True and depth <= DEPTH_MAX:
                return self._anything({}, path=path, label=label, is_required=is_required)
            return self.json_field(schema, path=path, label=label, is_required=is_required)
        schema, is_nullable = self._unwrapped(schema)
        common = {
            "path": path,
            "label": clean(schema.get("title"), LABEL_CHARS_MAX) or label,
            "hint": _hint(schema, is_required=is_required),
            "is_required": is_required,
            "is_nullable": is_nullable,
        }
        return self._of_kind(schema, common, depth)

    def _of_kind(self, schema: Mapping[str, Any], common: dict[str, Any], depth: int) -> Field:
        if "const" in schema:
            is_default = schema.get("default", _UNSAID) == schema["const"]
            return ConstField(id=self._id(), value=schema["const"], is_default=is_default, **common)
        if isinstance(schema.get("enum"), list):
            return self._choice(schema["enum"], schema, common)
        variants = schema.get("oneOf") or schema.get("anyOf")
        if isinstance(variants, list):
            return self._union(variants, schema, common, depth)
        types = schema.get("type")
        if isinstance(types, list):
            bare = {name: each for name, each in schema.items() if name not in _ANNOTATIONS}
            return self._union([{**bare, "type": name} for name in types], schema, common, depth)
        match types:
            case "string":
                return self._text(schema, common)
            case "integer" | "number":
                return NumberField(id=self._id(), is_integer=types == "integer", **common)
            case "boolean":
                return BooleanField(id=self._id(), **common)
            case "null":
                return ConstField(id=self._id(), value=None, **common)
            case "array":
                return self._array(schema, common)
            case _:
                return self._open(schema, common, depth)

    def _open(self, schema: Mapping[str, Any], common: dict[str, Any], depth: int) -> Field:
        """An object, or a schema that says nothing of a type."""
        types = schema.get("type")
        properties = schema.get("properties")
        if types in (None, "object") and isinstance(properties, Mapping) and properties:
            return self._group(schema, properties, common, depth)
        if set(schema) <= _ANNOTATIONS:
            return self._anything(schema, **common)
        return self.json_field(schema, **common)

    def _text(self, schema: Mapping[str, Any], common: dict[str, Any]) -> Field:
        length_max = schema.get("maxLength")
        length_max = length_max if isinstance(length_max, int) and length_max > 0 else None
        format_ = str(schema.get("format"))
        is_short = length_max is not None and length_max <= _ONE_LINE_CHARS
        input_type = _INPUT_TYPES.get(format_)
        if input_type is None and (is_short or "pattern" in schema or "format" in schema):
            input_type = "text"
        if format_ in _FORMAT_HINTS:
            common = {**common, "hint": f"{common['hint']} {_FORMAT_HINTS[format_]}".strip()}
        return TextField(id=self._id(), input_type=input_type, length_max=length_max, **common)

    def _choice(
        self,
        values: list[Any],
        schema: Mapping[str, Any],
        common: dict[str, Any],
        labels: list[str] | None = None,
    ) -> Field:
        if not 1 <= len(values) <= CHOICES_MAX:
            return self.json_field(schema, **common)
        return ChoiceField(id=self._id(), choices=_choices(values, labels), **common)

    def _array(self, schema: Mapping[str, Any], common: dict[str, Any]) -> Field:
        items = self._resolve(schema.get("items"))
        if not isinstance(items, Mapping) or "prefixItems" in schema:
            return self.json_field(schema, **common)
        values = items.get("enum")
        if isinstance(values, list) and 1 <= len(values) <= CHOICES_MAX:
            return ChoicesField(id=self._id(), choices=_choices(values), **common)
        kind = items.get("type")
        if kind in ("string", "integer", "number") and "const" not in items:
            hint = f"{common['hint']} One per line.".strip()
            return LinesField(id=self._id(), item=kind, **{**common, "hint": hint})
        return self.json_field(schema, **common)

    def _group(
        self,
        schema: Mapping[str, Any],
        properties: Mapping[str, Any],
        common: dict[str, Any],
        depth: int,
    ) -> Field:
        id_ = self._id()
        listed = schema.get("required")
        required = (
            [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        )
        if any(name not in properties for name in required):
            return self.json_field(schema, **common)
        fields = tuple(
            self.field(
                each,
                path=(*common["path"], name),
                label=clean(_words(name), LABEL_CHARS_MAX) or "(no name)",
                is_required=name in required,
                depth=depth + 1,
            )
            for name, each in properties.items()
        )
        return GroupField(id=id_, fields=fields, **common)

    def _union(
        self,
        variants: list[Any],
        schema: Mapping[str, Any],
        common: dict[str, Any],
        depth: int,
    ) -> Field:
        resolved = [self._resolve(each) for each in variants]
        has_more = set(schema) - _ANNOTATIONS - {"anyOf", "oneOf", "discriminator", "type"}
        is_typed = isinstance(schema.get("type"), list)
        mappings = [each for each in resolved if isinstance(each, Mapping)]
        if not resolved or len(mappings) != len(resolved) or (has_more and not is_typed):
            return self.json_field(schema, **common)
        if all("const" in each for each in mappings):
            labels = [clean(each.get("title"), LABEL_CHARS_MAX) for each in mappings]
            return self._choice([each["const"] for each in mappings], schema, common, labels)
        if len(mappings) > RADIOS_MAX:
            return self.json_field(schema, **common)
        id_ = self._id()
        made = []
        for index, each in enumerate(mappings):
            label = _variant_label(each, schema, index)
            field = self.field(
                each, path=common["path"], label=label, is_required=True, depth=depth + 1
            )
            # The radio that chooses it is its label.
            inner = replace(field, label="") if isinstance(field, GroupField) else field
            made.append(Variant(str(index), label, inner))
        return UnionField(id=id_, variants=tuple(made), **common)

    def _anything(self, schema: Mapping[str, Any], **common: Any) -> Field:
        id_ = self._id()
        inner: dict[str, Any] = {"path": common["path"]}
        text = TextField(id=self._id(), label="Text", **inner)
        box = self.json_field(schema, label="JSON", is_required=True, **inner)
        variants = (Variant("text", "As text", text), Variant("json", "As JSON", box))
        preselected = "text" if common["is_required"] else None
        return UnionField(id=id_, variants=variants, preselected=preselected, **common)

    def json_field(self, schema: Any, **common: Any) -> JsonField:
        """The text box for JSON, with the schema to read beside it."""
        is_bare = schema is True or schema == {}
        text = "" if is_bare else json.dumps(schema, indent=2, ensure_ascii=False)
        return JsonField(id=self._id(), schema_text=clean_block(text, SCHEMA_CHARS_MAX), **common)

    def _id(self) -> str:
        self._count += 1
        if self._count > FIELDS_MAX:
            raise _TooBig
        return f"q{self._count}"

    def _unwrapped(self, schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """The schema that says what the value is, and whether it may be null instead.

        pydantic wraps a reference as the one part of `allOf`, and what may be null in `anyOf`.
        """
        is_nullable = False
        for _ in range(DEPTH_MAX):
            parts = schema.get("allOf")
            inner = parts[0] if isinstance(parts, list) and len(parts) == 1 else None
            if isinstance(inner, Mapping):
                beside = {name: value for name, value in schema.items() if name != "allOf"}
                schema = {**inner, **beside}
            schema, has_null = _without_null(schema)
            is_nullable = is_nullable or has_null
            if not has_null and inner is None:
                break
            resolved = self._resolve(schema)
            if not isinstance(resolved, Mapping):
                break
            schema = resolved
        return schema, is_nullable

    def _resolve(self, schema: Any) -> Any:
        """Follow references inside the schema; what stands beside a reference wins."""
        for _ in range(DEPTH_MAX):
            if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
                return schema
            target = self._lookup(schema["$ref"])
            beside = {name: value for name, value in schema.items() if name != "$ref"}
            if not isinstance(target, Mapping):
                return schema if beside else target
            schema = {**target, **beside}
        return {"$comment": "a reference that leads to itself", "not": {}}

    def _lookup(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return False
        place: Any = self._root
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, Mapping) or key not in place:
                return False
            place = place[key]
        return place


def _without_null(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema without its null form, and whether it had one."""
    types = schema.get("type")
    if isinstance(types, list) and "null" in types and len(types) > 1:
        rest = [name for name in types if name != "null"]
        enum = schema.get("enum")
        without = {**schema, "type": rest[0] if len(rest) == 1 else rest}
        if isinstance(enum, list):
            without["enum"] = [value for value in enum if value is not None]
        return without, True
    for keyword in ("anyOf", "oneOf"):
        variants = schema.get(keyword)
        if not isinstance(variants, list) or {"type": "null"} not in variants:
            continue
        rest = [each for each in variants if each != {"type": "null"}]
        if len(rest) == 1 and isinstance(rest[0], Mapping):
            beside = {name: value for name, value in schema.items() if name != keyword}
            return {**rest[0], **beside}, True
        return {**schema, keyword: rest}, True
    return schema, False


def _choices(values: list[Any], labels: list[str] | None = None) -> tuple[Choice, ...]:
    made = {}
    for index, value in enumerate(values):
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        given = labels[index] if labels else ""
        made[text] = Choice(value, text, given or clean(plain(value), LABEL_CHARS_MAX))
    return tuple(made.values())


def _variant_label(variant: Mapping[str, Any], schema: Mapping[str, Any], index: int) -> str:
    title = clean(variant.get("title"), LABEL_CHARS_MAX)
    if title and title != clean(schema.get("title"), LABEL_CHARS_MAX):
        return title
    words = {
        "string": "Text",
        "integer": "Whole number",
        "number": "Number",
        "boolean": "Yes or no",
        "array": "List",
        "object": "Several fields",
    }
    return words.get(str(variant.get("type")), f"Form {index + 1}")


def _words(name: str) -> str:
    """A property's name as words: `line_2` is `Line 2`."""
    spaced = name.replace("_", " ").strip()
    return spaced[:1].upper() + spaced[1:]


def _hint(schema: Mapping[str, Any], *, is_required: bool) -> str:
    """The description, and the bounds that a person must keep."""
    parts = [clean(schema.get("description"), HINT_CHARS_MAX)]
    low, high = _number(schema, "minimum"), _number(schema, "maximum")
    if low is not None and high is not None:
        parts.append(f"From {low} to {high}.")
    elif low is not None:
        parts.append(f"{low} or more.")
    elif high is not None:
        parts.append(f"{high} or less.")
    length_max = _number(schema, "maxLength")
    if length_max is not None:
        parts.append(f"At most {length_max} characters.")
    default = schema.get("default")
    if not is_required and default not in (None, "", [], {}):
        parts.append(f"If left out: {clean(plain(default), LABEL_CHARS_MAX)}.")
    found = [part for part in parts if part]
    # A description's author need not have ended it as a sentence.
    stopped = [part if part[-1] in ".!?:;…" else f"{part}." for part in found[:-1]]
    return " ".join([*stopped, *found[-1:]])


def _number(schema: Mapping[str, Any], keyword: str) -> int | float | None:
    value = schema.get(keyword)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None
