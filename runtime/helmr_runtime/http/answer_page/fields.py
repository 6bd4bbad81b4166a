"""The fields of a form: plain values between the schema, the template and the submission.

Names of form fields: `f` and the JSON Pointer of the value (RFC 6901); `i…` says that an optional
group is included, `v…` which variant of a union was chosen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

Path = tuple[str | int, ...]

RADIOS_MAX = 8
"""More choices than this become a list to pull down."""
MISSING: Any = object()
"""No value: null is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What every field has. `is_required`: its place must hold a value; `is_nullable`: may be null."""

    kind: ClassVar[str]

    path: Path
    id: str
    label: str
    hint: str = ""
    is_required: bool = True
    is_nullable: bool = False

    @property
    def name(self) -> str:
        """The form field that holds its value."""
        return "f" + pointer(self.path)

    @property
    def include_name(self) -> str:
        """The form field that says whether an optional group is sent."""
        return "i" + pointer(self.path)

    @property
    def variant_name(self) -> str:
        """The form field that says which variant of a union is meant."""
        return "v" + pointer(self.path)

    @property
    def may_be_left_out(self) -> bool:
        """True if nothing needs to be given: left out, or sent as null."""
        return not self.is_required or self.is_nullable

    def children(self) -> tuple[Field, ...]:
        """The fields inside."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextField(Field):
    """A text. `input_type` None: several lines."""

    kind = "text"
    input_type: str | None = None
    length_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberField(Field):
    """A number."""

    kind = "number"
    is_integer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BooleanField(Field):
    """Yes or no."""

    kind = "boolean"


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of an enum: its JSON text stands in the form, so that no order can change it."""

    value: Any
    text: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceField(Field):
    """One of some values."""

    kind = "choice"
    choices: tuple[Choice, ...] = ()

    @property
    def is_long(self) -> bool:
        """True if a list to pull down is better than buttons."""
        return len(self.choices) > RADIOS_MAX

    @property
    def options(self) -> list[tuple[str, str]]:
        """The texts in the form and their labels."""
        return [(choice.text, choice.label) for choice in self.choices]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicesField(Field):
    """A list of some values, each ticked or not."""

    kind = "choices"
    choices: tuple[Choice, ...] = ()

    @property
    def options(self) -> list[tuple[str, str]]:
        """The texts in the form and their labels."""
        return [(choice.text, choice.label) for choice in self.choices]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesField(Field):
    """A list of texts or numbers, one a line. `item`: string, integer or number."""

    kind = "lines"
    item: str = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstField(Field):
    """A value that can't be chosen; sent if it is required or the default."""

    kind = "const"
    value: Any = None
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupField(Field):
    """An object."""

    kind = "group"
    fields: tuple[Field, ...] = ()

    def children(self) -> tuple[Field, ...]:
        """Its properties, in the schema's order."""
        return self.fields


@dataclass(frozen=True, slots=True)
class Variant:
    """One form that a union's value may have; `key` stands in the form."""

    key: str
    label: str
    field: Field


@dataclass(frozen=True, slots=True, kw_only=True)
class UnionField(Field):
    """A value of one of several forms."""

    kind = "union"
    variants: tuple[Variant, ...] = ()
    preselected: str | None = None

    def children(self) -> tuple[Field, ...]:
        """The variants' fields, all at the same path."""
        return tuple(variant.field for variant in self.variants)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonField(Field):
    """JSON in a text box, for what no other field can ask."""

    kind = "json"
    schema_text: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one schema. `binding` names the schema, for the nonce."""

    root: Field
    binding: str

    def walk(self) -> Iterator[Field]:
        """Every field, outer before inner."""
        yield from _walk(self.root)


def _walk(field: Field) -> Iterator[Field]:
    yield field
    for child in field.children():
        yield from _walk(child)


def pointer(path: Path) -> str:
    """The JSON Pointer of a path (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def plain(value: Any) -> str:
    """A value as people read it: a text as it is, yes and no, else JSON."""
    if isinstance(value, str):
        return value if value.strip() else json.dumps(value)
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if value is None:
        return "Nothing"
    return json.dumps(value, ensure_ascii=False)
