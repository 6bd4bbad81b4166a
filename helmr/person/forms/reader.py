"""From a JSON Schema to the fields of a form.

The schema is untrusted: fields, depth and choices are bounded, references are followed only inside it and in a circle
only by way of rows, each a level deeper. What goes over a bound is entered as JSON, and the field says why.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helmr.person.forms.model import (
    ANYTHING,
    FIELDS_MAX,
    MISSING,
    ROW,
    Choice,
    Field,
    Form,
    Kind,
    Path,
    Schema,
    Variant,
    escaped,
    json_text,
    plain,
    undecided,
)
from helmr.person.forms.questions import columns_of
from helmr.person.forms.tool_call import is_call, with_fields
from helmr.person.forms.values import fitted

DEPTH_MAX = 6
"""Nesting of groups, unions and lists of rows; deeper fields are entered as JSON."""
READS_MAX = 4 * FIELDS_MAX
"""Fields read in all, rows that turn out to be too many included."""
CHOICES_MAX = 500
VARIANTS_MAX = 20
SHORT_TEXT_MAX = 120
"""Texts up to this length get one line."""
SHORT_NAMES = frozenset(
    {
        "account", "branch", "city", "code", "color", "colour", "company", "country", "currency", "customer",
        "department", "email", "field", "file", "folder", "host", "iban", "id", "label", "language", "locale", "model",
        "name", "number", "organization", "path", "person", "phone", "plan", "postcode", "product", "project",
        "reference", "region", "repository", "role", "serial", "sku", "state", "status", "street", "supplier",
        "surname", "tag", "tel", "title", "town", "unit", "url", "user", "username", "vat", "vendor", "version", "zip",
    }
)  # fmt: skip
"""Last words of names whose texts take one line although the schema sets no bound."""
_STEPS_MAX = 16
"""References and wrappers followed at one place."""


def form_of(
    schema: Schema | bool | None, *, initial: Any = MISSING, is_answered: bool = False
) -> Form:
    """The form for a schema; None and True take any JSON.

    Args:
        schema: Any JSON at all: what is not a schema is entered as JSON too.
        initial: JSON that the form starts with; `MISSING` for a fresh form.
        is_answered: `initial` is an answer that a person gave, so its decision is one that was made.
    """
    given: Schema | bool = True if schema is None else schema
    drawn = with_fields(given, initial)
    root = _root(drawn) or (_root(given) if drawn is not given else None)
    if root is None:
        whole = given if isinstance(given, Mapping) else {}
        reason = f"it has more than {FIELDS_MAX} fields"
        root = Field((), "answer", Kind.JSON, schema=whole, reason=reason)
    root = fitted(root, initial)
    if not is_answered:
        root = undecided(root, initial, suggests=not is_call(given, initial))
    return Form(given, root, schema_hash(given), initial, is_answered)


def _root(schema: Schema | bool) -> Field | None:
    """The form's outermost field; None if there are more than `FIELDS_MAX` in it."""
    try:
        return _FormReader(schema).read(schema, path=(), refs=("#",))
    except _TooMany:
        return None


def schema_hash(schema: Schema | bool | None) -> str:
    """Twelve hex digits over the schema's meaning, not its key order."""
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def find_reference(root: Any, reference: Any) -> Any:
    """Resolve a `$ref` inside the schema; None for any other."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


class _TooMany(Exception):
    """The schema asks for more fields than a person can answer."""


_PLAIN = ("string", "integer", "number", "boolean")
_LIST = "[]"
"""Marks, among references, the start of a row, which exists only if someone adds it."""

_ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "unit",
        "$schema", "$id", "$defs", "definitions", "$comment",
    }
)  # fmt: skip


class _FormReader:
    """Reads one schema; counts its fields."""

    def __init__(self, root: Schema | bool) -> None:
        self._root = root
        self._count = 0
        self._reads = 0
        """Like `_count`, discarded fields included."""

    def read(
        self,
        schema: Any,
        *,
        path: Path,
        refs: tuple[str, ...],
        label: str = "",
        required: bool = True,
        depth: int = 0,
        branch: str = "",
    ) -> Field:
        """Read one field; JSON if there is no better way to ask for it."""
        self._count += 1
        self._reads += 1
        if self._count > FIELDS_MAX or self._reads > READS_MAX:
            raise _TooMany
        resolved, refs, nullable, reason = self._resolve(schema, refs)
        base = Field(
            path,
            label,
            Kind.JSON,
            required=required,
            nullable=nullable,
            description=_text(resolved.get("description")),
            default=resolved.get("default", MISSING),
            unit=_text(resolved.get("unit")),
            branch=branch,
            schema=resolved,
        )
        if not label:
            base = replace(base, label=_label(base, schema, resolved))
        if schema is not True and not isinstance(schema, Mapping):
            reason = "nothing fits it"
        if reason or (depth > DEPTH_MAX and resolved.get("type") not in _PLAIN):
            return replace(base, reason=reason or f"it is nested more than {DEPTH_MAX} deep")
        if set(resolved) <= _ANNOTATIONS:
            return replace(base, reason=ANYTHING)
        if "const" in resolved or "enum" in resolved:
            return _enumerated(base, resolved)
        return self._union(base, resolved, depth, refs) or self._typed(base, resolved, depth, refs)

    def _typed(self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]) -> Field:
        match schema.get("type"):
            case "string":
                return _string(base, schema)
            case "boolean":
                return replace(
                    base, kind=Kind.BOOL, choices=(Choice("yes", True), Choice("no", False))
                )
            case "integer":
                return _numeric(base, Kind.INTEGER, schema, step=1)
            case "number":
                return _numeric(base, Kind.NUMBER, schema, step=0)
            case "null":
                return replace(base, kind=Kind.CONST, choices=(Choice(plain(None), None),))
            case "array":
                return self._list(base, schema, depth, refs)
            case "object" | None:
                return self._group(base, schema, depth, refs)
            case _:
                return replace(base, reason="its type is not known")

    def _group(self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]) -> Field:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not (
            properties or schema.get("additionalProperties") is False
        ):
            return replace(base, reason="it says nothing of its fields")
        needed = schema.get("required")
        needed = needed if isinstance(needed, list) else []
        if any(isinstance(name, str) and name not in properties for name in needed):
            return replace(base, reason="it needs what it does not describe")
        children = tuple(
            self.read(
                part,
                path=(*base.path, name),
                refs=refs,
                required=name in needed,
                depth=depth + 1,
                branch=base.branch,
            )
            for name, part in properties.items()
        )
        return replace(base, kind=Kind.GROUP, children=children)

    def _list(self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]) -> Field:
        items, _, nullable, reason = self._resolve(schema.get("items"), refs)
        kind: Kind | None = None
        item: Field | None = None
        choices: tuple[Choice, ...] = ()
        if "prefixItems" in schema:
            return replace(base, reason="it is a list whose places differ")
        if nullable or reason or "const" in items:
            pass
        elif "enum" in items:
            choices = _choices(items["enum"])
            kind = Kind.MULTI if choices else None
        elif items.get("type") in ("string", "integer", "number"):
            item = self._typed(Field(base.path, base.label, Kind.JSON), items, 0, refs)
            kind = None if item.kind is Kind.SECRET else Kind.LINES
        if kind is None:
            kind, item = Kind.ROWS, self._row(base, schema.get("items"), depth, refs)
        if item is not None and item.kind is Kind.JSON:
            return replace(base, reason=f"of its items: {item.reason}")
        made = replace(
            base,
            kind=kind,
            choices=choices,
            item=item,
            length_min=_int(schema.get("minItems")),
            length_max=_int(schema.get("maxItems")),
        )
        return replace(made, is_table=kind is Kind.ROWS and columns_of(made) is not None)

    def _row(self, base: Field, items: Any, depth: int, refs: tuple[str, ...]) -> Field:
        """The template of a list's rows; JSON if they would be too many fields."""
        before = self._count
        if self._reads > READS_MAX // 2:
            return Field((*base.path, ROW), "row", Kind.JSON, reason="the form has many fields")
        path = (*base.path, ROW)
        try:
            return self.read(
                items, path=path, refs=(*refs, _LIST), depth=depth + 1, branch=base.branch
            )
        except _TooMany:
            self._count = before
            return Field(path, "row", Kind.JSON, reason="the form has too many fields with it")

    def _union(
        self, base: Field, schema: Schema, depth: int, refs: tuple[str, ...]
    ) -> Field | None:
        types, parts = schema.get("type"), schema.get("oneOf") or schema.get("anyOf")
        if isinstance(parts, list):
            if set(schema) - _ANNOTATIONS - {"anyOf", "oneOf", "discriminator", "type"}:
                return replace(base, reason="it has rules that fields can't show")
        elif isinstance(types, list):
            bare = {name: rule for name, rule in schema.items() if name not in _ANNOTATIONS}
            parts = [{**bare, "type": name} for name in types]
        else:
            return None
        if not all(isinstance(part, Mapping) for part in parts) or not parts:
            return replace(base, reason="its forms are no schemas")
        if len(parts) > CHOICES_MAX:
            return replace(base, reason=f"it may have more than {CHOICES_MAX} forms")
        shapes = [self._resolve(part, refs)[0] for part in parts]
        if sorted(str(shape.get("type")) for shape in shapes) == ["number", "string"]:
            # What pydantic makes of Decimal: the text keeps every digit.
            text = next(shape for shape in shapes if shape.get("type") == "string")
            return replace(_string(base, text), kind=Kind.TEXT)
        if all("const" in shape for shape in shapes):
            labels = [_text(shape.get("title")) for shape in shapes]
            return _enumerated(base, {"enum": [shape["const"] for shape in shapes]}, labels)
        if len(parts) > VARIANTS_MAX:
            return replace(base, reason=f"it may have more than {VARIANTS_MAX} forms")
        tag = _tag_name(schema, shapes)
        variants = tuple(
            self._variant(base, part, shape, tag, index, depth, refs)
            for index, (part, shape) in enumerate(zip(parts, shapes, strict=True))
        )
        return replace(base, kind=Kind.UNION, variants=variants)

    def _variant(
        self,
        base: Field,
        part: Any,
        shape: Schema,
        tag: str,
        index: int,
        depth: int,
        refs: tuple[str, ...],
    ) -> Variant:
        value = _tag_value(shape, tag) if tag else None
        label = _variant_label(shape, value, base.label, index)
        branch = escaped(_spell(value)) if tag else str(index)
        inner = self.read(
            part,
            path=base.path,
            refs=refs,
            label=label,
            depth=depth + 1,
            branch=f"{base.branch}/{branch}" if base.branch else branch,
        )
        only = (Choice(plain(value), value),)
        children = tuple(
            replace(child, kind=Kind.CONST, required=True, choices=only)
            if tag and child.name == tag
            else child
            for child in inner.children
        )
        return Variant(label, replace(inner, children=children), tag)

    def _resolve(
        self, schema: Any, refs: tuple[str, ...]
    ) -> tuple[dict[str, Any], tuple[str, ...], bool, str]:
        """Follow $ref, a single allOf and "or null"; the reason says why that ends nowhere. What stands beside wins."""
        current = dict(schema) if isinstance(schema, Mapping) else {}
        nullable = False
        for _ in range(_STEPS_MAX):
            parts = current.get("allOf")
            if "$ref" in current:
                reference = current.pop("$ref")
                target = find_reference(self._root, reference)
                if reference in refs[len(refs) - _since_list(refs) :]:
                    return current, refs, nullable, "it refers to itself"
                if target is True:
                    continue
                if not isinstance(target, Mapping):
                    return current, refs, nullable, "it refers to what is not here"
                refs = (*refs, reference)
                current = {**target, **current}
            elif isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping):
                current.pop("allOf")
                current = {**parts[0], **current}
            elif (narrowed := _without_null(current)) is not None:
                current, nullable = narrowed, True
            else:
                return current, refs, nullable, ""
        return current, refs, nullable, "it is wrapped too often"


def _since_list(refs: tuple[str, ...]) -> int:
    """Count the references followed since the innermost list."""
    return refs[::-1].index(_LIST) if _LIST in refs else len(refs)


def _without_null(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema with null taken away, or None if null was not allowed or is all there is."""
    kinds, values = schema.get("type"), schema.get("enum")
    if isinstance(kinds, list) and "null" in kinds:
        rest = [kind for kind in kinds if kind != "null"]
        return {**schema, "type": rest[0] if len(rest) == 1 else rest} if rest else None
    for word in ("anyOf", "oneOf"):
        parts = schema.get(word)
        if isinstance(parts, list) and {"type": "null"} in parts:
            kept = [part for part in parts if part != {"type": "null"}]
            outer = {key: value for key, value in schema.items() if key != word}
            if len(kept) == 1 and isinstance(kept[0], Mapping):
                return {**kept[0], **outer}
            return {**outer, word: kept} if kept else None
    if isinstance(values, list) and None in values and len(values) > 1:
        return {**schema, "enum": [value for value in values if value is not None]}
    return None


def _choices(values: Any, labels: list[str] | None = None) -> tuple[Choice, ...]:
    """The choices without repeats; none if there are too many or it is not a list."""
    if not isinstance(values, list) or len(values) > CHOICES_MAX:
        return ()
    spelt = labels or [""] * len(values)
    made = {
        json_text(value): Choice(label or plain(value), value)
        for value, label in zip(values, spelt, strict=True)
    }
    return tuple(made.values())


def _enumerated(base: Field, schema: Schema, labels: list[str] | None = None) -> Field:
    values = [schema["const"]] if "const" in schema else schema["enum"]
    choices = _choices(values, labels)
    if not choices:
        return replace(base, reason=f"it has no choices, or more than {CHOICES_MAX}")
    is_only = len(choices) == 1 and not base.nullable
    is_sent = base.required or base.default == choices[0].value
    return replace(base, kind=Kind.CONST if is_only and is_sent else Kind.CHOICE, choices=choices)


_FORMATS = {
    "date": Kind.DATE,
    "time": Kind.TIME,
    "date-time": Kind.DATETIME,
    "duration": Kind.DURATION,
    "password": Kind.SECRET,
}


def _string(base: Field, schema: Schema) -> Field:
    form, pattern = _text(schema.get("format")), schema.get("pattern")
    length_max = _int(schema.get("maxLength"))
    if form in _FORMATS or schema.get("writeOnly") is True:
        kind = _FORMATS.get(form, Kind.SECRET)
    elif pattern or form or _is_short(base.name, length_max):
        kind = Kind.TEXT
    else:
        kind = Kind.LONG
    return replace(
        base,
        kind=kind,
        format=form,
        length_min=_int(schema.get("minLength")),
        length_max=length_max,
        pattern=pattern if isinstance(pattern, str) else None,
    )


def _is_short(name: str, length_max: int | None) -> bool:
    """True if a text takes one line, by its bound or, without one, by its name."""
    if length_max is not None:
        return length_max <= SHORT_TEXT_MAX
    return _WORDS.split(name)[-1].lower() in SHORT_NAMES


_WORDS = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")
"""Between the words of a name: `firstName`, `first_name`."""


def _tag_name(schema: Schema, shapes: list[dict[str, Any]]) -> str:
    """The property whose fixed value tells the forms apart; empty if none does."""
    declared = schema.get("discriminator")
    name = declared.get("propertyName") if isinstance(declared, Mapping) else None
    first = shapes[0].get("properties")
    names = [name] if isinstance(name, str) else first if isinstance(first, Mapping) else ()
    for candidate in names:
        tags = [_tag_value(shape, candidate) for shape in shapes]
        if None not in tags and len({_spell(tag) for tag in tags}) == len(tags):
            return str(candidate)
    return ""


def _tag_value(shape: Schema, name: str) -> Any:
    properties = shape.get("properties")
    tag = properties.get(name) if isinstance(properties, Mapping) else None
    if not isinstance(tag, Mapping):
        return None
    values = [tag["const"]] if "const" in tag else tag.get("enum")
    return values[0] if isinstance(values, list) and len(values) == 1 else None


_TYPE_WORDS = {
    "string": "Text",
    "integer": "Whole number",
    "number": "Number",
    "boolean": "Yes or no",
    "array": "List",
    "object": "Several fields",
}


def _variant_label(shape: Schema, tag: Any, outer: str, index: int) -> str:
    """Return the title; for a tagged form the tag, unless the title is more than a class's name."""
    title = _text(shape.get("title"))
    if tag is not None and " " not in title.strip():
        return _spell(tag)
    if title and title != outer:
        return title
    if "const" in shape:
        return plain(shape["const"])
    return _TYPE_WORDS.get(str(shape.get("type")), f"Form {index + 1}")


def _label(base: Field, schema: Any, resolved: Schema) -> str:
    """The property's name, unless its author gave it a title of its own: one at its place, not one of its type."""
    own = _text(schema.get("title")) if isinstance(schema, Mapping) else ""
    made_up = own.casefold().replace(" ", "_") == base.name.casefold().replace(" ", "_")
    is_type_name = not base.path and bool({"properties", "$defs", "enum"} & set(resolved))
    return base.name if not own.strip() or made_up or is_type_name else own


def _spell(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _numeric(base: Field, kind: Kind, schema: Schema, *, step: int) -> Field:
    """A number with its bounds; what must stay outside is a `step` away."""
    low, high = _bounds(schema, step=step)
    of = schema.get("multipleOf")
    multiple = (
        of if isinstance(of, int | float) and of > 0 and (kind, of) != (Kind.INTEGER, 1) else None
    )
    return replace(base, kind=kind, minimum=low, maximum=high, multiple_of=multiple)


def _bounds(schema: Schema, *, step: int) -> tuple[int | float | None, int | float | None]:
    """The least and greatest value; what must stay outside is a `step` away."""

    def bound(inclusive: str, exclusive: str, inwards: int) -> int | float | None:
        for word, by in ((inclusive, 0), (exclusive, inwards)):
            value = schema.get(word)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value + by if isinstance(value, int) else value
        return None

    return (
        bound("minimum", "exclusiveMinimum", step),
        bound("maximum", "exclusiveMaximum", -step),
    )
