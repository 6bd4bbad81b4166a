"""The questions of the page: the fields of a form with the texts, ids and names that HTML needs.

Names of controls: `f` and the field's path and union branch; `i…` includes an optional group, `v…` holds the chosen
variant of a union, `r…` the rows of a list.

`first_values` returns the texts of a fresh page's controls, `decode_form` the JSON value of a submitted form. An empty
optional field is left out; one that may only be null is null. Text that can't be read is a problem at its field. The
caller validates the value against the schema (`helmr_runtime.security.schemas`), which has the last word.

The buttons of a list show the page with a row added or removed; they do not answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from helmr.person import forms
from helmr.person.forms import (
    MISSING,
    Cell,
    Cells,
    Field,
    Kind,
    Schema,
    ToolCall,
    build,
    first_cell,
    first_cells,
    form_of,
    room,
    row_ids,
    tool_call,
)
from helmr.person.forms.model import TABLE_CELLS_MAX, Path, escaped, json_text
from helmr.person.forms.questions import cells_of as columns_in
from helmr.person.forms.submitted import (
    LABEL_CHARS_MAX,
    blank_cell,
    hint_text,
    in_words,
    label_text,
    sentence,
    typed_cell,
)
from helmr.person.forms.tool_call import ARGUMENTS, is_declined
from helmr_runtime.http.answer_page.texts import clean, clean_block
from helmr_runtime.security.schemas import SchemaProblem

RADIOS_MAX = 8
"""More choices than this become a drop-down list."""
COLUMNS_MAX = 6
"""Rows with more fields than this are not drawn as a table; a screen is wider than a terminal's form."""
SCHEMA_CHARS_MAX = 5_000
TEXT, JSON = "text", "json"
"""The two ways to enter a value of any type."""

_CONTROLS = {
    Kind.GROUP: "group",
    Kind.UNION: "union",
    Kind.ROWS: "rows",
    Kind.CONST: "const",
    Kind.MULTI: "options",
    Kind.INTEGER: "number",
    Kind.NUMBER: "number",
    Kind.LONG: "area",
    Kind.LINES: "area",
    Kind.JSON: "code",
}
_INPUT_TYPES = {"email": "email", "uri": "url", "date": "date"}


@dataclass(frozen=True, slots=True)
class Question:
    """One field as the page asks it.

    `inner` holds a group's fields, one question for each variant of a union, or the rows of a list, whose ids are
    `rows`. `where` is the place of its value in the JSON: the field's path, with positions in lists.
    """

    field: Field
    id: str
    label: str
    where: Path
    hint: str = ""
    inner: tuple[Question, ...] = ()
    rows: tuple[int, ...] = ()
    is_cell: bool = False
    """True for a cell of a table, which is drawn small."""

    @property
    def control(self) -> str:
        """The control to draw: group, union, rows, const, options, select, number, area, code or line."""
        if self.field.takes_anything and self.inner:
            return "union"
        if self.field.kind in (Kind.CHOICE, Kind.BOOL):
            few = len(self.field.choices) <= RADIOS_MAX and not self.is_cell
            return "options" if few else "select"
        return _CONTROLS.get(self.field.kind, "line")

    @property
    def look(self) -> str:
        """The name by which the style sheet sets its width."""
        return "date" if self.control == "line" and self.input_type == "date" else self.control

    @property
    def heads(self) -> tuple[Question, ...]:
        """The columns of a table with rows: the cells of its first row."""
        cells = self.inner[0].inner if self.field.kind is Kind.ROWS and self.inner else ()
        return tuple(one for one in cells if one.is_cell)

    @property
    def is_one_of_many(self) -> bool:
        """True for a text among other fields: a single line that grows."""
        return self.field.kind is Kind.LONG and bool(self.field.path)

    @property
    def name(self) -> str:
        """The name of the control that holds its value."""
        return f"f{self._place}"

    @property
    def include_name(self) -> str:
        """The name of the control that includes an optional group."""
        return f"i{self._place}"

    @property
    def variant_name(self) -> str:
        """The name of the control that chooses the variant of a union."""
        return f"v{self._place}"

    @property
    def rows_name(self) -> str:
        """The name of the control that holds the rows of a list."""
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
        spell = in_words if self.field.kind is Kind.BOOL else str
        return [
            (each.text, clean(spell(each.label), LABEL_CHARS_MAX)) for each in self.field.choices
        ]

    @property
    def keys(self) -> list[str]:
        """The key of each variant of a union in the form."""
        return (
            [TEXT, JSON] if self.field.takes_anything else [str(i) for i in range(len(self.inner))]
        )

    @property
    def labels(self) -> list[str]:
        """The label of each variant of a union."""
        if self.field.takes_anything:
            return ["As text", "As JSON"]
        return [clean(in_words(each.label), LABEL_CHARS_MAX) for each in self.field.variants]

    @property
    def preselected(self) -> str:
        """The key of the variant that is chosen at first; empty for none."""
        return TEXT if self.field.takes_anything and not self.field.may_be_left_out else ""

    @property
    def schema_text(self) -> str:
        """The schema to show beside a box for JSON; empty if it allows anything."""
        text = json.dumps(self.field.schema, indent=2, ensure_ascii=False)
        return clean_block(text, SCHEMA_CHARS_MAX) if self.field.schema else ""

    def walk(self) -> Iterator[Question]:
        """The question and all inside it, outer before inner."""
        yield self
        for each in self.inner:
            yield from each.walk()


@dataclass(frozen=True, slots=True)
class PageForm:
    """The questions of one form. `call` is the tool call that it asks to approve, if any."""

    model: forms.Form
    root: Question
    call: ToolCall | None = None

    @property
    def binding(self) -> str:
        """The schema's hash, to which the nonce is bound."""
        return self.model.schema_hash

    def walk(self) -> Iterator[Question]:
        """Every question, outer before inner."""
        yield from self.root.walk()


Values = Mapping[str, Sequence[str]]
"""Submitted texts by the names of controls."""


def build_form(
    schema: Schema | bool | None, *, initial: Any = MISSING, values: Values | None = None
) -> PageForm:
    """The questions that ask for a value of this schema; None asks for anything.

    Args:
        schema: JSON Schema.
        initial: The form's initial value, as JSON.
        values: Submitted values, which decide the rows of lists; without them the initial value does.
    """
    model = form_of(schema, initial=initial)
    root = _Asker(values or {}, first_cells(model)).question(model.root, ())
    if root.control == "group" and not model.root.may_be_left_out:
        # The page itself is the frame of the outermost object.
        root = replace(root, label="", hint="")
    call = tool_call(model)
    if call is not None:
        root = replace(root, inner=tuple(_always_sent(each) for each in root.inner))
    return PageForm(model, root, call)


def _always_sent(question: Question) -> Question:
    """Drop the box that would include a call's arguments: they are always sent."""
    field = question.field
    if field.path != (ARGUMENTS,) or field.kind is not Kind.GROUP:
        return question
    return replace(question, field=replace(field, required=True, nullable=False))


def rows_name(field: Field) -> str:
    """The name of the control that holds the rows of a list."""
    return f"r{_place(field)}"


def label_of(field: Field) -> str:
    """The label of a field on the page; a mere property name is spelled as words."""
    return clean(label_text(field), LABEL_CHARS_MAX) or "(no name)"


def _place(field: Field) -> str:
    parts = (escaped(one) if isinstance(one, str) else f"#{one}" for one in field.path)
    place = "".join(f"/{part}" for part in parts)
    return f"{place}@{field.branch}" if field.branch else place


class _Asker:
    """Makes questions from fields, with rows from submitted values or from the initial value."""

    def __init__(self, values: Values, cells: Cells) -> None:
        self._values = values
        self._cells = cells
        self._ids = count(1)

    def question(self, field: Field, where: Path) -> Question:
        """The question of a field, with those inside it."""
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
        is_table = 0 < len(columns_in(field)) <= COLUMNS_MAX
        asked = (
            self.question(field.row(number), (*made.where, place))
            for place, number in enumerate(rows)
        )
        labelled = (
            replace(
                one,
                label=f"{made.label} {place}",
                inner=tuple(replace(cell, is_cell=is_table) for cell in one.inner),
            )
            for place, one in enumerate(asked, start=1)
        )
        return replace(made, inner=tuple(labelled), rows=rows)


def rows_of(text: str) -> tuple[int, ...]:
    """The ids in a text such as `0,3,4`; other parts are skipped."""
    parts = text.split(",")[: TABLE_CELLS_MAX + 1]
    parts = [part for part in parts if part.isascii() and part.isdigit()]
    return tuple(int(part) for part in parts if len(part) <= 6)


def _hint(field: Field) -> str:
    """The description, and the bounds that a person must keep."""
    return hint_text(field, clean)


def first_values(form: PageForm) -> dict[str, list[str]]:
    """The values of a fresh page's controls, by name; empty for a form without an initial value."""
    if form.model.initial is MISSING:
        return {}
    values: dict[str, list[str]] = {}
    _fill(form.root, form.model.initial, first_cells(form.model), values)
    return values


def _fill(question: Question, initial: Any, cells: Cells, values: dict[str, list[str]]) -> None:
    """Fill in a question and those inside it."""
    field, cell = question.field, cells.get(question.field.key)
    match question.control:
        case "group":
            if field.may_be_left_out and isinstance(_at(initial, question.where), dict):
                values[question.include_name] = ["1"]
            for each in question.inner:
                _fill(each, initial, cells, values)
        case "union" if field.takes_anything:
            _anything(question, cell, values)
        case "union":
            if isinstance(cell, int):
                values[question.variant_name] = [question.keys[cell]]
                _fill(question.inner[cell], initial, cells, values)
        case "rows":
            values[question.rows_name] = [",".join(str(number) for number in question.rows)]
            for each in question.inner:
                _fill(each, initial, cells, values)
        case "const":
            pass
        case "options" | "select":
            picked = cell if isinstance(cell, tuple) else (cell,) if isinstance(cell, int) else ()
            values[question.name] = [field.choices[index].text for index in picked]
        case _:
            if isinstance(cell, str) and cell and field.kind is not Kind.SECRET:
                values[question.name] = [cell]


def _at(initial: Any, where: Path) -> Any:
    """The part of a value at a place; None if it has no such place."""
    for part in where:
        if isinstance(part, int):
            initial = initial[part] if isinstance(initial, list) and part < len(initial) else None
        else:
            initial = initial.get(part) if isinstance(initial, dict) else None
    return initial


def _anything(question: Question, cell: Cell | None, values: dict[str, list[str]]) -> None:
    """Fill in a value of any type: as text if it is a text, else as JSON."""
    if not isinstance(cell, str) or not cell:
        return
    content = json.loads(cell)
    is_text = isinstance(content, str)
    key = TEXT if is_text else JSON
    values[question.variant_name] = [key]
    values[question.inner[question.keys.index(key)].name] = [content if is_text else cell]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The value of a form, with its problems; fields that can't be read are missing or null."""

    value: Any
    problems: tuple[SchemaProblem, ...] = ()


def decode_form(form: PageForm, values: Values) -> Decoded:
    """Read a submitted form."""
    reader = _SubmissionReader(form, values)
    reader.read(form.root)
    built = build(form.model, reader.cells)
    without = ARGUMENTS if is_declined(form.model, reader.cells) else None
    found = {key: reader.problems.get(key, text) for key, text in built.problems.items()}
    found |= reader.problems
    problems = tuple(
        SchemaProblem(each.where, sentence(each.field, found[each.field.key]))
        for each in form.walk()
        if each.field.key in found and each.field.path[:1] != (without,)
    )
    return Decoded(built.data, problems)


def all_problems(decoded: Decoded, found: Sequence[SchemaProblem]) -> list[SchemaProblem]:
    """List all problems of a submitted form at once.

    A field that could not be read is missing in the value, or null. So the schema's problems at its place, and around
    it, are left out: they do not concern the person's answer.

    Args:
        decoded: The decoded form.
        found: The schema's problems with its value.
    """
    unread = [one.path for one in decoded.problems]
    rest = (one for one in found if not any(_is_same_place(one.path, path) for path in unread))
    return [*decoded.problems, *rest]


def _is_same_place(one: Path, other: Path) -> bool:
    """True if one path leads to the other or to a part of it."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def cells_of(form: PageForm, values: Values) -> Cells:
    """A submitted form as cells, even with problems."""
    reader = _SubmissionReader(form, values)
    reader.read(form.root)
    return reader.cells


class _SubmissionReader:
    """Reads one submission into cells, and collects its problems."""

    def __init__(self, form: PageForm, values: Values) -> None:
        self._values = values
        self._first = first_cells(form.model)
        self.cells: Cells = {}
        self.problems: dict[str, str] = {}

    def read(self, question: Question) -> None:
        """Fill the cells of a question and of the included ones inside it."""
        field = question.field
        self.cells[field.key] = blank_cell(field)
        match question.control:
            case "group":
                # The outermost object and one in a variant are always sent; another optional
                # one only if its box is ticked.
                if not field.may_be_left_out or self._one(field, question.include_name):
                    self.cells[field.key] = 0
                    for each in question.inner:
                        self.read(each)
            case "union":
                self._union(question)
            case "rows":
                if question.rows or (field.required and not field.nullable):
                    self.cells[field.key] = question.rows
                for each in question.inner:
                    self.read(each)
            case "options" | "select":
                self._chosen(question)
            case "const":
                pass
            case _:
                self._typed(question)

    def _union(self, question: Question) -> None:
        field, key = question.field, self._one(question.field, question.variant_name)
        if not key:
            return
        index = question.keys.index(key) if key in question.keys else -1
        inner = question.inner[index]
        if index >= 0 and not field.takes_anything:
            self.read(inner)
        elif index >= 0:
            text = self._one(field, inner.name)
            if text.strip():
                self.cells[field.key] = json_text(text) if key == TEXT else text
            return
        self.cells[field.key] = index

    def _chosen(self, question: Question) -> None:
        field, texts = question.field, [choice.text for choice in question.field.choices]
        if field.kind is Kind.MULTI:
            given = self._values.get(question.name, ())
            if set(given) - set(texts):
                self.problems[field.key] = "Please tick only what is listed."
            elif given or field.required:
                self.cells[field.key] = tuple(
                    index for index, text in enumerate(texts) if text in given
                )
        elif text := self._one(field, question.name).strip():
            self.cells[field.key] = texts.index(text) if text in texts else -1

    def _typed(self, question: Question) -> None:
        field, text = question.field, self._one(question.field, question.name)
        self.cells[field.key] = typed_cell(field, text, self._first)

    def _one(self, field: Field, name: str) -> str:
        given = self._values.get(name, ())
        if len(given) > 1:
            self.problems[field.key] = "Was sent more than once."
        return given[0].replace("\r\n", "\n") if len(given) == 1 else ""


ACTION_FIELD = "do"
ADD, REMOVE = "add", "remove"


def asks_for_rows(values: Values) -> bool:
    """True if a button of a list was pressed, not the one that sends."""
    return ACTION_FIELD in values


def with_action(form: PageForm, values: Values) -> tuple[dict[str, list[str]], str]:
    """Apply the pressed button of a list to the submitted values; returns them and the name of a new row, if any.

    A list without room for another row, or without the row to remove, stays as it is.
    """
    done = {name: list(texts) for name, texts in values.items() if name != ACTION_FIELD}
    verb, _, rest = "".join(values.get(ACTION_FIELD, ())[:1]).partition(" ")
    number, _, name = rest.partition(" ")
    asked = next((one for one in form.walk() if _is_list(one) and one.rows_name == name), None)
    if asked is None:
        return done, ""
    rows = asked.rows
    if verb == ADD and not room(form.model, asked.field, cells_of(form, values)):
        new = max(rows, default=-1) + 1
        done[name] = [_spelt((*rows, new))]
        return done, f"{name} {new}"
    if verb == REMOVE:
        done[name] = [_spelt(tuple(one for one in rows if str(one) != number))]
    return done, ""


def first_of_row(form: PageForm, new: str) -> str:
    """The id of the first control of a new row; empty if there is none."""
    for asked in form.walk():
        for row, number in zip(asked.inner, asked.rows, strict=False):
            if new == f"{asked.rows_name} {number}":
                return _first_control(row)
    return ""


def _first_control(question: Question) -> str:
    controls = (one.id for one in question.walk() if one.control not in ("group", "const"))
    return next(controls, "")


def _is_list(question: Question) -> bool:
    return question.control == "rows"


def _spelt(rows: tuple[int, ...]) -> str:
    return ",".join(str(one) for one in rows)
