"""A JSON Schema as a form: which fields, of which kind, with which bounds.

Every schema gives a form: what can't be shown as fields is one JSON field, so no wait is unanswerable.
Text out of a schema is session data; whoever shows it goes through `helmr_console.safe`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

RADIO_MAX = 5
"""Choices that stand side by side; more become a list to pick from."""
SHORT_TEXT_MAX = 120
"""Texts up to this length get one line."""
NESTING_MAX = 1
"""Groups inside the root; deeper ones are entered as JSON."""
FIELDS_MAX = 60
CHOICES_MAX = 500

Schema = Mapping[str, Any]


class Kind(StrEnum):
    """How a field is entered."""

    CHOICE = "one of"
    PICK = "one of many"
    MULTI = "several of"
    BOOL = "yes or no"
    INTEGER = "whole number"
    NUMBER = "number"
    TEXT = "text"
    LONG = "long text"
    SECRET = "secret"
    DATE = "date"
    TIME = "time"
    DATETIME = "date and time"
    DURATION = "duration"
    CONST = "fixed"
    GROUP = "group"
    UNION = "one kind of"
    JSON = "JSON"


class Missing(StrEnum):
    """The absence of a default, which is not the default null."""

    DEFAULT = "no default"


@dataclass(frozen=True, slots=True)
class Choice:
    """One value to choose, and how it is spelt."""

    label: str
    value: Any


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a discriminated union, without its tag."""

    tag: Any
    label: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to enter. `path` is where its value goes; the root's is empty."""

    path: tuple[str, ...]
    label: str
    kind: Kind
    required: bool = True
    nullable: bool = False
    description: str = ""
    default: Any = Missing.DEFAULT
    choices: tuple[Choice, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    length_min: int | None = None
    length_max: int | None = None
    pattern: str | None = None
    unit: str = ""
    children: tuple[Field, ...] = ()
    tag_name: str = ""
    variants: tuple[Variant, ...] = ()
    branch: str = ""
    schema: Schema = field(default_factory=dict, compare=False, hash=False)

    @property
    def key(self) -> str:
        """Names the field in its form: the path as one text, `$` for the root, `@` the union's branch."""
        where = ".".join(self.path) or "$"
        return f"{where}@{self.branch}" if self.branch else where

    def range_text(self) -> str:
        """`1 to 10 EUR`, `at most 500 characters`; empty without bounds."""
        if self.kind in (Kind.INTEGER, Kind.NUMBER):
            low, high = _number(self.minimum), _number(self.maximum)
            text = f"{low} to {high}" if low and high else f"at least {low}" if low else ""
            text = text or (f"at most {high}" if high else "")
            return f"{text} {self.unit}".strip()
        if self.kind is Kind.MULTI and (self.length_min or self.length_max is not None):
            return f"{self.length_min or 0} to {self.length_max or len(self.choices)} of them"
        return self.unit


@dataclass(frozen=True, slots=True)
class Form:
    """What a schema looks like to a person. `reason` says why it is JSON only, if it is."""

    schema: Schema | bool
    root: Field
    reason: str = ""

    @property
    def schema_hash(self) -> str:
        """Names this schema: drafts and batches belong to one."""
        return schema_hash(self.schema)

    def leaves(self) -> Iterator[Field]:
        """Every field that takes a value, also those of variants not chosen."""
        yield from _leaves(self.root)


def schema_hash(schema: Schema | bool | None) -> str:
    """Twelve hex digits over the schema's meaning, not its key order."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def form_of(schema: Schema | bool | None) -> Form:
    """The form for a schema; None and True take any JSON."""
    if not isinstance(schema, Mapping):
        given = True if schema is None else schema
        return Form(given, Field((), "answer", Kind.JSON, schema={}), reason="any JSON")
    reader = _Reader(schema)
    root = reader.read(schema, path=(), name="answer", required=True, depth=0, refs=())
    if reader.count > FIELDS_MAX:
        root = Field((), "answer", Kind.JSON, schema=schema)
        return Form(schema, root, reason=f"more than {FIELDS_MAX} fields")
    return Form(schema, root, reason=_why_json(schema) if root.kind is Kind.JSON else "")


class _Reader:
    def __init__(self, root: Schema) -> None:
        self.root = root
        self.count = 0

    def read(
        self,
        schema: Any,
        *,
        path: tuple[str, ...],
        name: str,
        required: bool,
        depth: int,
        refs: tuple[str, ...],
        branch: str = "",
    ) -> Field:
        """One field; falls back to JSON for what has no better widget."""
        self.count += 1
        if self.count > FIELDS_MAX:
            return Field(path, name, Kind.JSON, required, branch=branch)
        resolved, refs, nullable = self._resolve(schema, refs)
        base = Field(
            path,
            _label(name, resolved),
            Kind.JSON,
            required=required,
            nullable=nullable,
            description=_text(resolved.get("description")),
            default=resolved.get("default", Missing.DEFAULT),
            unit=_text(resolved.get("unit")),
            branch=branch,
            schema=resolved,
        )
        if "enum" in resolved or "const" in resolved:
            return _enumerated(base, resolved)
        union = self._union(base, resolved, depth, refs)
        if union is not None:
            return union
        return self._typed(base, resolved, depth, refs)

    def _typed(self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]) -> Field:
        kind = schema.get("type")
        if kind == "string":
            return _string(base, schema)
        if kind == "boolean":
            return replace(base, kind=Kind.BOOL, choices=(Choice("yes", True), Choice("no", False)))
        if kind in ("integer", "number"):
            return replace(
                base,
                kind=Kind.INTEGER if kind == "integer" else Kind.NUMBER,
                minimum=_bound(schema, "minimum", "exclusiveMinimum"),
                maximum=_bound(schema, "maximum", "exclusiveMaximum"),
            )
        if kind == "array":
            return self._several(base, schema, refs)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._group(base, schema, depth, refs)
        return base

    def _group(self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]) -> Field:
        fields = self._properties(schema, base, depth, refs)
        if fields is None or depth > NESTING_MAX:
            return base
        return replace(base, kind=Kind.GROUP, children=fields)

    def _properties(
        self, schema: Schema, base: Field, depth: int, refs: tuple[str, ...], skip: str = ""
    ) -> tuple[Field, ...] | None:
        properties = schema.get("properties")
        free = schema.get("additionalProperties", False)
        if not isinstance(properties, Mapping) or isinstance(free, Mapping) or free is True:
            return None
        needed = schema.get("required", ())
        return tuple(
            self.read(
                part,
                path=(*base.path, name),
                name=name,
                required=name in needed,
                depth=depth + 1,
                refs=refs,
                branch=base.branch,
            )
            for name, part in properties.items()
            if name != skip
        )

    def _several(self, base: Field, schema: Schema, refs: tuple[str, ...]) -> Field:
        items, _, nullable = self._resolve(schema.get("items", True), refs)
        values = items.get("enum")
        if not isinstance(values, list) or nullable or len(values) > CHOICES_MAX:
            return base
        return replace(
            base,
            kind=Kind.MULTI,
            choices=tuple(Choice(_spell(value), value) for value in values),
            length_min=_int(schema.get("minItems")),
            length_max=_int(schema.get("maxItems")),
        )

    def _union(
        self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]
    ) -> Field | None:
        parts = schema.get("oneOf") or schema.get("anyOf")
        if not isinstance(parts, list):
            return None
        options = [self._resolve(part, refs) for part in parts]
        if any(nullable for _, _, nullable in options):
            return base
        shapes = [option for option, _, _ in options]
        if sorted(str(shape.get("type")) for shape in shapes) == ["number", "string"]:
            # What pydantic makes of Decimal: the text keeps every digit.
            text = next(shape for shape in shapes if shape.get("type") == "string")
            return replace(base, kind=Kind.TEXT, pattern=text.get("pattern"))
        if all("const" in shape for shape in shapes):
            return _enumerated(base, {"enum": [shape["const"] for shape in shapes]})
        tag = _tag_name(schema, shapes)
        if not tag or depth > NESTING_MAX:
            return base
        variants = []
        for shape, inner_refs, _ in options:
            value = _tag_value(shape, tag)
            inside = replace(base, branch=f"{base.branch}{_spell(value)}")
            fields = self._properties(shape, inside, depth, inner_refs, skip=tag)
            if fields is None:
                return base
            variants.append(Variant(value, _spell(value), fields))
        return replace(base, kind=Kind.UNION, tag_name=tag, variants=tuple(variants))

    def _resolve(
        self, schema: Any, refs: tuple[str, ...]
    ) -> tuple[dict[str, Any], tuple[str, ...], bool]:
        """Follow $ref, a single allOf and "or null". A $ref to where we are gives {}: entered as JSON."""
        current = dict(schema) if isinstance(schema, Mapping) else {}
        nullable = False
        for _ in range(16):
            if "$ref" in current:
                ref = str(current.pop("$ref"))
                target = self._find(ref)
                if ref in refs or target is None:
                    return {k: v for k, v in current.items() if k == "description"}, refs, nullable
                refs = (*refs, ref)
                current = {**target, **current}
                continue
            parts = current.get("allOf")
            if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping):
                current.pop("allOf")
                current = {**parts[0], **current}
                continue
            narrowed = _without_null(current)
            if narrowed is None:
                break
            current, nullable = narrowed, True
        return current, refs, nullable

    def _find(self, ref: str) -> dict[str, Any] | None:
        if not ref.startswith("#/"):
            return None
        found: Any = self.root
        for part in ref[2:].split("/"):
            if not isinstance(found, Mapping):
                return None
            found = found.get(part.replace("~1", "/").replace("~0", "~"))
        return dict(found) if isinstance(found, Mapping) else None


def _without_null(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema with null taken away, or None if null was not allowed."""
    kinds = schema.get("type")
    if isinstance(kinds, list) and "null" in kinds:
        rest = [kind for kind in kinds if kind != "null"]
        return {**schema, "type": rest[0] if len(rest) == 1 else rest}
    for word in ("anyOf", "oneOf"):
        parts = schema.get(word)
        if isinstance(parts, list):
            kept = [part for part in parts if part != {"type": "null"}]
            if len(kept) < len(parts):
                outer = {key: value for key, value in schema.items() if key != word}
                if len(kept) == 1 and isinstance(kept[0], Mapping):
                    return {**kept[0], **outer}
                return {**outer, word: kept}
    values = schema.get("enum")
    if isinstance(values, list) and None in values and len(values) > 1:
        return {**schema, "enum": [value for value in values if value is not None]}
    return None


def _enumerated(base: Field, schema: Schema) -> Field:
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    if not isinstance(values, list) or not values or len(values) > CHOICES_MAX:
        return base
    choices = tuple(Choice(_spell(value), value) for value in values)
    if len(choices) == 1 and base.required and not base.nullable:
        return replace(base, kind=Kind.CONST, choices=choices)
    kind = Kind.CHOICE if len(choices) <= RADIO_MAX else Kind.PICK
    return replace(base, kind=kind, choices=choices)


def _string(base: Field, schema: Schema) -> Field:
    known = {
        "date": Kind.DATE,
        "time": Kind.TIME,
        "date-time": Kind.DATETIME,
        "duration": Kind.DURATION,
        "password": Kind.SECRET,
    }
    form = _text(schema.get("format"))
    length_max = _int(schema.get("maxLength"))
    pattern = schema.get("pattern")
    if form in known or schema.get("writeOnly") is True:
        kind = known.get(form, Kind.SECRET)
    elif pattern or form or (length_max is not None and length_max <= SHORT_TEXT_MAX):
        kind = Kind.TEXT
    else:
        kind = Kind.LONG
    return replace(
        base,
        kind=kind,
        length_min=_int(schema.get("minLength")),
        length_max=length_max,
        pattern=pattern if isinstance(pattern, str) else None,
    )


def _tag_name(schema: Schema, shapes: list[dict[str, Any]]) -> str:
    declared = schema.get("discriminator")
    name = declared.get("propertyName") if isinstance(declared, Mapping) else None
    names = [name] if isinstance(name, str) else _shared_names(shapes)
    for candidate in names:
        tags = [_tag_value(shape, candidate) for shape in shapes]
        if None not in tags and len({_spell(tag) for tag in tags}) == len(tags):
            return candidate
    return ""


def _shared_names(shapes: list[dict[str, Any]]) -> list[str]:
    properties = [shape.get("properties") for shape in shapes]
    if not all(isinstance(part, Mapping) for part in properties):
        return []
    return [
        name for name in (properties[0] or {}) if all(name in (part or {}) for part in properties)
    ]


def _tag_value(shape: Schema, name: str) -> Any:
    properties = shape.get("properties")
    tag = properties.get(name) if isinstance(properties, Mapping) else None
    if not isinstance(tag, Mapping):
        return None
    if "const" in tag:
        return tag["const"]
    values = tag.get("enum")
    return values[0] if isinstance(values, list) and len(values) == 1 else None


def _leaves(item: Field) -> Iterator[Field]:
    if item.kind is Kind.GROUP:
        for child in item.children:
            yield from _leaves(child)
    else:
        yield item
        for variant in item.variants:
            for child in variant.fields:
                yield from _leaves(child)


def _why_json(schema: Schema) -> str:
    return _text(schema.get("title")) or "this schema has no fields to show"


def _label(name: str, schema: Schema) -> str:
    """The property's name, unless its author gave it a title of its own."""
    title = _text(schema.get("title"))
    made_up = title.casefold().replace(" ", "_") == name.casefold().replace(" ", "_")
    is_type_name = "properties" in schema or "$defs" in schema or "enum" in schema
    return name if not title or made_up or is_type_name else title


def _spell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bound(schema: Schema, inclusive: str, exclusive: str) -> float | None:
    for word in (inclusive, exclusive):
        value = schema.get(word)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    return None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
