"""Forms: frozen fields with their kinds, bounds and choices, and the decision. Nothing here reads a schema.

A person makes the decision to approve or refuse; a form never brings it along. The decision is the choice that is the
whole answer, or a field at the top of the form with one of the names in `DECISIONS`. An initial value or default is
shown as suggested, not chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any, Final

Schema = Mapping[str, Any]


class Kind(StrEnum):
    """Input kinds of a field."""

    CHOICE = "one of"
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
    LINES = "one per line"
    ROWS = "rows"
    CONST = "fixed"
    GROUP = "group"
    UNION = "one kind of"
    JSON = "JSON"


ROW: Final = -1
"""Stands in paths for any row of a list: the row of its template."""
FIELDS_MAX = 150
"""Fields of a form, counting those of rows but not cells of tables. A console takes 1.3 s of CPU to draw this many."""
ROWS_MAX = 50
"""Rows of one list that is not a table."""
TABLE_CELLS_MAX = 1_000
"""Cells of one table. An answer page's form takes twice as many fields."""

Path = tuple[str | int, ...]
"""Place of a value: names of properties and, in a list, ids of rows, which rows keep when they move."""

LISTS = (Kind.MULTI, Kind.LINES, Kind.ROWS)
DECISIONS: Final = frozenset({"decision", "approve", "approved", "approval"})
"""Names of a field that approves or refuses something."""
_WRITTEN = (Kind.TEXT, Kind.LONG, Kind.SECRET, Kind.LINES, Kind.JSON)


class Missing(Enum):
    """The absence of a value, which is not the value null."""

    VALUE = "missing"


MISSING: Final = Missing.VALUE


@dataclass(frozen=True, slots=True)
class Choice:
    """One value to choose, and how it is spelt."""

    label: str
    value: Any

    @property
    def text(self) -> str:
        """The value as JSON: names it among the others, in whatever order they come."""
        return json_text(self.value)


@dataclass(frozen=True, slots=True)
class Variant:
    """One form that a union's value may have. `tag` names the property that tells it from the others, if one does."""

    label: str
    field: Field
    tag: str = ""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields to fill in: an object's properties without its tag, or the one value."""
        if self.field.kind is not Kind.GROUP:
            return (self.field,)
        return tuple(child for child in self.field.children if child.name != self.tag)


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to enter. `path` is where its value goes; the root's is empty.

    `length_min` and `length_max` count characters of a text, items of a list. `choices` of a fixed field hold its
    value. `item` is what each line of `Kind.LINES` is, and of `Kind.ROWS` the template of each row: `row` makes one
    of it; `is_table` if rows are lines of cells (`helmr.person.forms.questions`). `branch` names the variants around
    it. `reason` says of `Kind.JSON` why it is that: a clause about "it". Of a decision nothing is chosen beforehand:
    `suggested` spells the choice that came with the form.
    """

    path: Path
    label: str
    kind: Kind
    required: bool = True
    nullable: bool = False
    description: str = ""
    default: Any = MISSING
    choices: tuple[Choice, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    multiple_of: int | float | None = None
    length_min: int | None = None
    length_max: int | None = None
    pattern: str | None = None
    format: str = ""
    unit: str = ""
    item: Field | None = None
    children: tuple[Field, ...] = ()
    variants: tuple[Variant, ...] = ()
    is_table: bool = False
    branch: str = ""
    reason: str = ""
    is_decision: bool = False
    suggested: str = ""
    schema: Schema = field(default_factory=dict, compare=False, hash=False)
    _rows: dict[int, Field] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )
    """Rows that were made of the template: each key asks for them."""

    @property
    def name(self) -> str:
        """The property that holds it; `answer` at the root, `row` of a list."""
        if not self.path:
            return "answer"
        return self.path[-1] if isinstance(self.path[-1], str) else "row"

    @property
    def key(self) -> str:
        """Names the field in its form: the path as one text, `$` for the root, `@` the union's branch."""
        parts = (escaped(one) if isinstance(one, str) else f"#{one}" for one in self.path)
        where = ".".join(parts) if self.path else "$"
        return f"{where}@{self.branch}" if self.branch else where

    @property
    def may_be_left_out(self) -> bool:
        """True if nothing needs to be given: not sent, or sent as null."""
        return not self.required or self.nullable

    @property
    def takes_anything(self) -> bool:
        """True for JSON of whose shape the schema says nothing."""
        return self.kind is Kind.JSON and self.reason == ANYTHING

    def range_text(self) -> str:
        """`1 to 10 EUR, a multiple of 5`, `0 to 2 of them`; empty without bounds."""
        if self.kind in (Kind.INTEGER, Kind.NUMBER):
            low, high, what = _number(self.minimum), _number(self.maximum), self.unit
        elif self.kind in LISTS and (self.length_min or self.length_max):
            most = self.length_max or len(self.choices)
            low, high, what = str(self.length_min or 0), str(most or ""), "of them"
        else:
            return self.unit
        text = f"{low} to {high}" if low and high else f"at least {low}" if low else ""
        text = f"{text or (f'at most {high}' if high else '')} {what}".strip()
        step = f"a multiple of {_number(self.multiple_of)}" if self.multiple_of else ""
        return ", ".join(one for one in (text, step) if one)

    @property
    def rows_max(self) -> int:
        """The most rows that a list of rows has in a form."""
        if not self.is_table or self.item is None:
            return ROWS_MAX
        return TABLE_CELLS_MAX // len(self.item.children)

    def row(self, number: int) -> Field:
        """The row of this id in a list of rows: its template, there."""
        assert self.item is not None, "a list of rows has a template"
        if number not in self._rows:
            self._rows[number] = _placed(self.item, len(self.path), number)
        return self._rows[number]

    def leaves(self, *, templates: bool = False) -> Iterator[Field]:
        """Every field in it that takes a value, also those of variants not chosen.

        Args:
            templates: Those of the rows that a list may get, too; else a list of rows is one field.
        """
        if self.kind is not Kind.GROUP:
            yield self
        inner = [child for variant in self.variants for child in variant.fields]
        if templates and self.kind is Kind.ROWS and self.item is not None:
            inner.append(self.item)
        for child in (*inner, *self.children):
            yield from child.leaves(templates=templates)


def every_field(field: Field) -> Iterator[Field]:
    """Yield the field and every field in it, templates of rows included, outer before inner."""
    yield field
    inner = [field.item] if field.kind is Kind.ROWS and field.item is not None else []
    for child in (*inner, *field.children, *(variant.field for variant in field.variants)):
        yield from every_field(child)


def _placed(field: Field, depth: int, number: int) -> Field:
    """A template and what is in it, as the row of this id of a list at this depth."""
    path = (*field.path[:depth], number, *field.path[depth + 1 :])
    inner = field.item
    return replace(
        field,
        path=path,
        # What the lines of a text are stands at the text's own place.
        item=_placed(inner, depth, number)
        if inner is not None and field.kind is Kind.ROWS
        else inner,
        children=tuple(_placed(child, depth, number) for child in field.children),
        variants=tuple(
            replace(one, field=_placed(one.field, depth, number)) for one in field.variants
        ),
    )


@dataclass(frozen=True, slots=True)
class Form:
    """A schema as fields for a person, with the initial value; `MISSING` if there is none.

    `is_answered`: `initial` is a person's answer, so its decision counts as made.
    """

    schema: Schema | bool
    root: Field
    schema_hash: str
    initial: Any = MISSING
    is_answered: bool = False

    @property
    def decision(self) -> Field | None:
        """The choice that approves or refuses; None in a form that does neither."""
        return next((one for one in (self.root, *self.root.children) if one.is_decision), None)

    @property
    def is_one_choice(self) -> bool:
        """True if the decision is the only field that has to be filled in."""
        needed = [one for one in (self.root.children or (self.root,)) if not one.may_be_left_out]
        return needed == [self.decision]

    @property
    def has_free_text(self) -> bool:
        """True if a person types into some field, not only chooses."""
        return any(one.kind in _WRITTEN for one in self.leaves(templates=True))

    @property
    def has_secret(self) -> bool:
        """True if some field hides what is typed."""
        return any(one.kind is Kind.SECRET for one in self.leaves(templates=True))

    def leaves(self, *, templates: bool = False) -> Iterator[Field]:
        """Every field that takes a value, also those of variants not chosen; `templates` as of `Field.leaves`."""
        yield from self.root.leaves(templates=templates)


ANYTHING = "it takes anything"


def json_text(value: Any) -> str:
    """JSON on one line, the same for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def plain(value: Any) -> str:
    """A value as people read it: a text as it is, yes and no, else JSON."""
    if isinstance(value, str):
        return value if value.strip() else json.dumps(value)
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if value is None:
        return "Nothing"
    return json.dumps(value, ensure_ascii=False)


def escaped(part: str) -> str:
    """A name as part of a key: `~.@/$#` are written so that no two fields share one."""
    return re.sub(r"[~.@/$#]", lambda found: f"~{'~.@/$#'.index(found[0])}", part)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:g}"


_ONE_OF = (Kind.CHOICE, Kind.BOOL)


def undecided(root: Field, initial: Any, *, suggests: bool) -> Field:
    """The form's outermost field with its decision marked as one that is still to be made.

    Args:
        root: The field as read from the schema.
        initial: JSON that the form starts with.
        suggests: True to show the initial decision. A form for a tool's own call suggests nothing.
    """
    if root.kind in _ONE_OF:
        return _marked(root, initial, suggests=suggests)
    if root.kind is not Kind.GROUP:
        return root
    given = initial if isinstance(initial, Mapping) else {}
    parts = (
        _marked(child, given.get(child.name, MISSING), suggests=suggests)
        if child.name in DECISIONS and child.kind in _ONE_OF
        else child
        for child in root.children
    )
    return replace(root, children=tuple(parts))


def _marked(field: Field, initial: Any, *, suggests: bool) -> Field:
    labels = {choice.text: choice.label for choice in field.choices}
    default = _label(field.default, labels)
    # Left out, a task's own default would decide.
    is_needed = field.required or bool(default)
    suggested = _label(initial, labels) or default
    return replace(
        field,
        is_decision=True,
        suggested=suggested if suggests else "",
        required=is_needed,
        default=MISSING if is_needed else field.default,
    )


def _label(value: Any, labels: Mapping[str, str]) -> str:
    return "" if value is MISSING else labels.get(json_text(value), "")


def choose_text(field: Field) -> str:
    """Return the text of an open decision: `choose approve or decline`."""
    names = [choice.label for choice in field.choices]
    if len(names) > 4:
        return "choose one"
    return f"choose {', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "choose it"
