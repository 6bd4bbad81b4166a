"""The questions of the page: the fields of a form with the texts, ids and names that HTML needs.

Names of controls: `f` and the field's path and union branch; `i…` says that an optional group is included, `v…` which
variant of a union was chosen, `r…` which rows a list has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from helmr import forms
from helmr.forms import (
    MISSING,
    ROWS_MAX,
    Cells,
    Field,
    Kind,
    Schema,
    ToolCall,
    first_cell,
    first_cells,
    form_of,
    plain,
    row_ids,
    tool_call,
)
from helmr.forms.model import Path, escaped
from helmr.forms.tool_call import ARGUMENTS
from helmr_runtime.http.answer_page.texts import clean, clean_block

RADIOS_MAX = 8
"""More choices than this become a list to pull down."""
LABEL_CHARS_MAX = 120
HINT_CHARS_MAX = 600
SCHEMA_CHARS_MAX = 5_000
TEXT, JSON = "text", "json"
"""The two ways to give what may be anything."""

_CONTROLS = {
    Kind.GROUP: "group",
    Kind.UNION: "union",
    Kind.ROWS: "rows",
    Kind.CONST: "const",
    Kind.BOOL: "options",
    Kind.MULTI: "options",
    Kind.INTEGER: "number",
    Kind.NUMBER: "number",
    Kind.LONG: "area",
    Kind.LINES: "area",
    Kind.JSON: "code",
}
_INPUT_TYPES = {"email": "email", "uri": "url", "date": "date"}
_KIND_HINTS = {
    Kind.DATETIME: "Date and time, such as 2026-03-31T14:30:00Z.",
    Kind.TIME: "A time, such as 14:30:00Z.",
    Kind.DURATION: "A span of time, such as 1h30m.",
    Kind.LINES: "One per line.",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One field as the page asks it.

    `inner` holds a group's fields, one for each variant of a union, or the rows of a list, whose ids are `rows`.
    `where` is the place of its value in the JSON: as the field's path, with positions in lists.
    """

    field: Field
    id: str
    label: str
    where: Path
    hint: str = ""
    inner: tuple[Question, ...] = ()
    rows: tuple[int, ...] = ()

    @property
    def control(self) -> str:
        """What is drawn: group, union, rows, const, options, select, number, area, code or line."""
        if self.field.takes_anything and self.inner:
            return "union"
        if self.field.kind is Kind.CHOICE:
            return "options" if len(self.field.choices) <= RADIOS_MAX else "select"
        return _CONTROLS.get(self.field.kind, "line")

    @property
    def is_one_of_many(self) -> bool:
        """Whether it is a text among other fields: one line, which grows."""
        return self.field.kind is Kind.LONG and bool(self.field.path)

    @property
    def name(self) -> str:
        """The control that holds its value."""
        return f"f{self._place}"

    @property
    def include_name(self) -> str:
        """The control that says whether an optional group is sent."""
        return f"i{self._place}"

    @property
    def variant_name(self) -> str:
        """The control that says which variant of a union is meant."""
        return f"v{self._place}"

    @property
    def rows_name(self) -> str:
        """The control that says which rows a list has."""
        return rows_name(self.field)

    @property
    def _place(self) -> str:
        return _place(self.field)

    @property
    def input_type(self) -> str:
        """The type of a one-line input."""
        if self.field.kind is Kind.SECRET:
            return "password"
        return _INPUT_TYPES.get(self.field.format, "text")

    @property
    def options(self) -> list[tuple[str, str]]:
        """The choices: their texts in the form and their labels."""
        spell = _words if self.field.kind is Kind.BOOL else str
        return [
            (each.text, clean(spell(each.label), LABEL_CHARS_MAX)) for each in self.field.choices
        ]

    @property
    def keys(self) -> list[str]:
        """What names each variant of a union in the form."""
        return (
            [TEXT, JSON] if self.field.takes_anything else [str(i) for i in range(len(self.inner))]
        )

    @property
    def labels(self) -> list[str]:
        """What each variant of a union is called."""
        if self.field.takes_anything:
            return ["As text", "As JSON"]
        return [clean(_words(each.label), LABEL_CHARS_MAX) for each in self.field.variants]

    @property
    def preselected(self) -> str:
        """The variant that is chosen to begin with."""
        return TEXT if self.field.takes_anything and not self.field.may_be_left_out else ""

    @property
    def schema_text(self) -> str:
        """The schema to read beside a box for JSON; empty if it says nothing."""
        text = json.dumps(self.field.schema, indent=2, ensure_ascii=False)
        return clean_block(text, SCHEMA_CHARS_MAX) if self.field.schema else ""

    def walk(self) -> Iterator[Question]:
        """It and those in it, outer before inner."""
        yield self
        for each in self.inner:
            yield from each.walk()


@dataclass(frozen=True, slots=True)
class Form:
    """The questions of one form. `call` is the tool's call that it asks leave for, if it does."""

    model: forms.Form
    root: Question
    call: ToolCall | None = None

    @property
    def binding(self) -> str:
        """Names the schema, for the nonce."""
        return self.model.schema_hash

    def walk(self) -> Iterator[Question]:
        """Every question, outer before inner."""
        yield from self.root.walk()


Values = Mapping[str, Sequence[str]]
"""Submitted texts by the names of controls."""


def build_form(
    schema: Schema | bool | None, *, initial: Any = MISSING, values: Values | None = None
) -> Form:
    """The questions that ask for a value of this schema; None asks for anything.

    Args:
        schema: JSON Schema.
        initial: JSON that the form starts with.
        values: What was submitted: says which rows the lists have; without it those that the form starts with.
    """
    model = form_of(schema, initial=initial)
    root = _Asker(values or {}, first_cells(model)).question(model.root, ())
    if root.control == "group" and not model.root.may_be_left_out:
        # The page itself is the frame of the outermost object.
        root = replace(root, label="", hint="")
    call = tool_call(model)
    if call is not None:
        root = replace(root, inner=tuple(_always_sent(each) for each in root.inner))
    return Form(model, root, call)


def _always_sent(question: Question) -> Question:
    """A call's arguments need no box that says they are there: they begin as they were asked for."""
    field = question.field
    if field.path != (ARGUMENTS,) or field.kind is not Kind.GROUP:
        return question
    return replace(question, field=replace(field, required=True, nullable=False))


def rows_name(field: Field) -> str:
    """The control that says which rows a list has."""
    return f"r{_place(field)}"


def label_of(field: Field) -> str:
    """What a field is called on the page: its label, as words where that is only a property's name."""
    label = "Your answer" if field.label == "answer" and not field.path else field.label
    label = _words(label) if label == field.name else label
    return clean(label, LABEL_CHARS_MAX) or "(no name)"


def _place(field: Field) -> str:
    parts = (escaped(one) if isinstance(one, str) else f"#{one}" for one in field.path)
    place = "".join(f"/{part}" for part in parts)
    return f"{place}@{field.branch}" if field.branch else place


class _Asker:
    """Makes questions of fields, and rows of what was submitted, or of what the form starts with."""

    def __init__(self, values: Values, cells: Cells) -> None:
        self._values = values
        self._cells = cells
        self._ids = count(1)

    def question(self, field: Field, where: Path) -> Question:
        """One field as the page asks it, and those in it."""
        made = Question(field, f"q{next(self._ids)}", label_of(field), where, _hint(field))
        if field.kind is Kind.UNION:
            # The radio that chooses a group is its label.
            asked = [self.question(variant.field, where) for variant in field.variants]
            return replace(
                made, inner=tuple(replace(one, label="") if one.inner else one for one in asked)
            )
        if field.kind is Kind.ROWS:
            return self._with_rows(made)
        if field.takes_anything:
            text = Field(field.path, "Text", Kind.LONG, branch=f"{field.branch}/{TEXT}")
            box = Field(field.path, "JSON", Kind.JSON, branch=f"{field.branch}/{JSON}")
            return replace(made, inner=(self.question(text, where), self.question(box, where)))
        inner = (self.question(child, (*where, child.name)) for child in field.children)
        return replace(made, inner=tuple(inner))

    def _with_rows(self, made: Question) -> Question:
        field = made.field
        given = self._values.get(made.rows_name)
        if given is None:
            rows = row_ids(field, self._cells.get(field.key, first_cell(field)))
        else:
            rows = row_ids(field, rows_of("".join(given[:1])))
        asked = (
            self.question(field.row(number), (*made.where, place))
            for place, number in enumerate(rows)
        )
        labelled = (
            replace(one, label=f"{made.label} {place}") for place, one in enumerate(asked, start=1)
        )
        return replace(made, inner=tuple(labelled), rows=rows)


def rows_of(text: str) -> tuple[int, ...]:
    """The ids in `0,3,4`; nothing of a text that is something else."""
    parts = [part for part in text.split(",")[: ROWS_MAX + 1] if part.isascii() and part.isdigit()]
    return tuple(int(part) for part in parts if len(part) <= 6)


def _words(name: str) -> str:
    """A property's name as words: `line_2` is `Line 2`."""
    spaced = name.replace("_", " ").strip()
    return spaced[:1].upper() + spaced[1:]


def _hint(field: Field) -> str:
    """The description, and the bounds that a person must keep."""
    unit = clean(f" {field.unit}".rstrip(), LABEL_CHARS_MAX)
    low, high, unit = field.minimum, field.maximum, f" {unit}" if unit else ""
    parts = [clean(field.description, HINT_CHARS_MAX)]
    if low is not None and high is not None:
        parts.append(f"From {low} to {high}{unit}.")
    elif low is not None:
        parts.append(f"{low}{unit} or more.")
    elif high is not None:
        parts.append(f"{high}{unit} or less.")
    if field.length_max is not None and field.kind in (Kind.TEXT, Kind.LONG, Kind.SECRET):
        parts.append(f"At most {field.length_max} characters.")
    if not field.required and field.default not in (MISSING, None, "", [], {}):
        parts.append(f"If left out: {clean(plain(field.default), LABEL_CHARS_MAX)}.")
    if field.pattern and not field.description:
        parts.append(f"Must match {clean(field.pattern, LABEL_CHARS_MAX)}")
    if field.suggested:
        parts.append(f"Suggested: {clean(field.suggested, LABEL_CHARS_MAX)}.")
    parts.append(_KIND_HINTS.get(field.kind, ""))
    found = [part for part in parts if part]
    # A description's author need not have ended it as a sentence.
    stopped = [part if part[-1] in ".!?:;…" else f"{part}." for part in found[:-1]]
    return " ".join([*stopped, *found[-1:]])
