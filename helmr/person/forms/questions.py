"""A form asked line by line, for terminals that are read and not looked at: which field is next, and what a line says.

What a line says becomes a cell, and what a cell says is judged by `helmr.person.forms.values`: forms are read in one
place. Needed fields come first; of fields that may be left out one is asked for, several are offered as a whole. The
rows of a list are asked one after the other, and then whether there is one more.

A list whose rows are objects of one-line fields is a table (`is_table`), and may have more rows than others: it is
drawn or offered as a whole. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from helmr.person.forms.model import MISSING, ROWS_MAX, Field, Form, Kind
from helmr.person.forms.tool_call import ARGUMENTS, DECISION, DECLINE, tool_call
from helmr.person.forms.values import (
    Blank,
    Built,
    Cell,
    build,
    first_cells,
    present,
    problem,
    room,
    row_ids,
    with_rows,
)
from helmr.wire.safe_text import cells, one_line

CHOSEN = (Kind.CHOICE, Kind.BOOL, Kind.UNION)
"""Kinds that a single key answers by choosing one of several."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Fields that may be left out, asked for only if someone wants them. `group` has a cell only if it is filled."""

    label: str
    fields: tuple[Field, ...]
    group: Field | None = None


Question = Field | Offer


class Questions:
    """Asks one form line by line.

    Args:
        form: The form.
        cells: Cells filled in before, kept where a line is empty; the form's first cells if not given.
    """

    def __init__(self, form: Form, cells: Mapping[str, Cell] | None = None) -> None:
        self.form = form
        self.cells = with_rows(form, {**first_cells(form), **(cells or {})})
        self._is_call = tool_call(form) is not None
        self._lines: list[str] = []
        self._open: list[Question] = []
        self._push([form.root])

    @property
    def current(self) -> Question | None:
        """The open question; None after the last one."""
        return self._open[-1] if self._open else None

    def built(self) -> Built:
        """Return the JSON of the answer so far."""
        return build(self.form, self.cells)

    def take(self, line: str) -> str:
        """Take a line for the open question; returns the reason if it is refused, else an empty text."""
        asked = self._open[-1]
        if isinstance(asked, Offer):
            return self._take_offer(asked, line)
        if asked.kind is Kind.ROWS:
            return self._take_row(asked, line)
        if asked.kind is Kind.LINES and (line.strip() or self._lines):
            return self._take_item(asked, line)
        cell = self._cell(asked, line)
        if isinstance(cell, _No):
            return cell.why
        return self._put(asked, cell)

    def choose(self, index: int) -> str:
        """Choose by place for the open question; returns the reason if it is refused, else an empty text."""
        asked = self._open[-1]
        assert isinstance(asked, Field), "an offer has no choices"
        return self._put(asked, index)

    def _put(self, asked: Field, cell: Cell) -> str:
        if asked.kind is not Kind.UNION or isinstance(cell, Blank):
            why = problem(asked, cell)
            if why:
                return why
        self.cells[asked.key] = cell
        self._open.pop()
        self._lines = []
        if asked.kind is Kind.UNION and isinstance(cell, int):
            self._push(asked.variants[cell].fields)
        if self._is_call and asked.path == (DECISION,) and isinstance(cell, int):
            self._decided(asked.choices[cell].value)
        return ""

    def _decided(self, decision: object) -> None:
        """Drop the questions for a tool's arguments once its call is declined."""
        if decision == DECLINE:
            left = (_without_arguments(one) for one in self._open)
            self._open = [one for one in left if one is not None]

    def is_begun(self, asked: Offer) -> bool:
        """True if any of these fields has content."""
        leaves = (leaf for one in asked.fields for leaf in one.leaves())
        return any(self.cells.get(leaf.key) not in (None, "", Blank.NOT_SENT) for leaf in leaves)

    def _take_offer(self, asked: Offer, line: str) -> str:
        said = line.strip().lower()
        if said in ("", "n", "no"):
            self._open.pop()
        elif said in ("y", "yes"):
            self._open.pop()
            if asked.group is not None:
                self.cells[asked.group.key] = 0
                self._push(asked.fields)
            else:
                self._open.extend(reversed(asked.fields))
        else:
            return "y fills them, an empty line leaves them as they are"
        return ""

    def _take_row(self, asked: Field, line: str) -> str:
        """Add, remove or finish rows of a list; the fields of a new row come next, then this question again."""
        said, rows = line.strip().lower(), row_ids(asked, self.cells[asked.key])
        if said in ("", "n", "no"):
            if self.cells[asked.key] is Blank.NOT_SENT and asked.required and asked.nullable:
                self.cells[asked.key] = Blank.NULL
            return self._put(asked, self.cells[asked.key])
        if said == "-" and rows:
            # What was in it must not come back in a row that is added later.
            for one in present(asked.row(rows[-1]), dict(self.cells)):
                self.cells.pop(one.key, None)
            self.cells[asked.key] = rows[:-1]
            return ""
        if said not in ("y", "yes"):
            return f"y adds a row{', - takes the last one away' if rows else ''}, Enter goes on"
        if why_not := room(self.form, asked, self.cells):
            return f"{why_not}; e at the question edits the whole answer"
        added = max(rows, default=-1) + 1
        self.cells = with_rows(self.form, {**self.cells, asked.key: (*rows, added)})
        self._open.extend(reversed(self._of_row(asked, added)))
        return ""

    def _of_row(self, asked: Field, number: int) -> list[Question]:
        place = row_ids(asked, self.cells[asked.key]).index(number) + 1
        return self._ordered([_named(asked.row(number), f"{asked.label} {place}")])

    def _take_item(self, asked: Field, line: str) -> str:
        if line.strip():
            why = problem(asked.item, line.strip()) if asked.item is not None else ""
            if not why:
                self._lines.append(line.strip())
            return why
        why = self._put(asked, "\n".join(self._lines))
        if why:
            self._lines = []
            return f"{why}; begin the list again"
        return ""

    def _cell(self, asked: Field, line: str) -> Cell | _No:
        if not line.strip():
            kept = self.cells.get(asked.key, Blank.NOT_SENT)
            if kept == "" and not asked.may_be_left_out and asked.kind is not Kind.LINES:
                return _No("needed; type it, or e at the question edits the whole answer")
            if kept is Blank.NOT_SENT and asked.required and asked.nullable:
                return Blank.NULL
            return kept
        if asked.kind in CHOSEN:
            return _chosen(labels(asked), line)
        if asked.kind is Kind.MULTI:
            places = [_chosen(labels(asked), part) for part in line.replace(",", " ").split()]
            wrong = next((one for one in places if isinstance(one, _No)), None)
            return wrong or tuple(sorted({one for one in places if isinstance(one, int)}))
        return line

    def _push(self, fields: Sequence[Field]) -> None:
        """Ask for these next."""
        self._open.extend(reversed(self._ordered(fields)))

    def _ordered(self, fields: Sequence[Field]) -> list[Question]:
        """Order these fields for asking; required groups are taken apart."""
        found: list[Question] = []
        rest: list[Field] = []
        for one in fields:
            may_wait = one.may_be_left_out and bool(one.path)
            if one.kind is Kind.GROUP and may_wait:
                found.append(Offer(one.label, one.children, group=one))
            elif one.kind is Kind.GROUP:
                found += self._ordered(one.children)
            elif one.kind is Kind.ROWS and (rows := row_ids(one, self.cells.get(one.key))):
                if len(rows) > ROWS_MAX:
                    found.append(_many_rows(one, rows))
                else:
                    found += [asked for number in rows for asked in self._of_row(one, number)]
                found.append(one)
            elif may_wait and one.kind is not Kind.CONST:
                rest.append(one)
            elif one.kind is not Kind.CONST:
                found.append(one)
        if len(rest) > 1:
            return [*found, Offer(", ".join(one.label for one in rest), tuple(rest))]
        return [*found, *rest]


def _without_arguments(asked: Question) -> Question | None:
    if not isinstance(asked, Offer):
        return None if asked.path == (ARGUMENTS,) else asked
    if asked.group is not None:
        return None if asked.group.path == (ARGUMENTS,) else asked
    left = tuple(one for one in asked.fields if one.path != (ARGUMENTS,))
    return left[0] if len(left) == 1 else replace(asked, fields=left)


def _many_rows(table: Field, rows: tuple[int, ...]) -> Offer:
    """The rows of a long table, which are gone through only if someone wants to."""
    named = (
        _named(table.row(number), f"{table.label} {place}")
        for place, number in enumerate(rows, start=1)
    )
    cells = tuple(cell for row in named for cell in row.children)
    return Offer(f"The {len(rows)} rows of {table.label}", cells)


def _named(field: Field, name: str) -> Field:
    """A row, and what is in it, with its place in the list before each label."""
    if field.kind is not Kind.GROUP:
        return replace(field, label=name)
    parts = (replace(child, label=f"{name} {child.label}") for child in field.children)
    return replace(field, label=name, children=tuple(parts))


@dataclass(frozen=True, slots=True)
class _No:
    """A line that the field refuses, with the reason."""

    why: str


def labels(field: Field) -> tuple[str, ...]:
    """Return the labels of the choices."""
    if field.kind is Kind.UNION:
        return tuple(variant.label for variant in field.variants)
    return tuple(choice.label for choice in field.choices)


def keys(names: Sequence[str], taken: Collection[str] = ()) -> dict[str, int]:
    """The letter of each name: the first in it that no name before it has and that is not taken.

    Digits choose too, from 1; a name of whose letters none is left has its digit only.
    """
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        letters = (char for char in name.lower() if char.isascii() and char.isalpha())
        free = next((char for char in letters if char not in found and char not in taken), None)
        if free is not None:
            found[free] = place
    return found


def place_of(names: Sequence[str], said: str, taken: Collection[str] = ()) -> int | None:
    """Return the place of the name that was typed: by number, letter, name or unique prefix. None if none fits."""
    text = said.strip().lower()
    if text.isascii() and text.isdigit():
        return int(text) - 1 if len(text) <= 4 and 0 < int(text) <= len(names) else None
    spelt = [name.lower() for name in names]
    if text in spelt:
        return spelt.index(text)
    letter = keys(names, taken).get(text)
    if letter is not None:
        return letter
    begun = [place for place, name in enumerate(spelt) if len(text) > 1 and name.startswith(text)]
    return begun[0] if len(begun) == 1 else None


def _chosen(names: Sequence[str], said: str) -> int | _No:
    place = place_of(names, said)
    return _No(f"{said.strip()[:40]!r} is none of the choices") if place is None else place


def kept_text(field: Field, cell: Cell) -> str:
    """Describe the effect of an empty line: the value that stays, a word for leaving it out, or nothing."""
    if cell is Blank.EMPTY:
        return "empty"
    if isinstance(cell, Blank):
        if field.required and not field.nullable:
            return ""
        if cell is Blank.NULL or field.required:
            return "null"
        said = field.default if field.default not in (MISSING, None, {}, []) else None
        return "left out" if said is None else f"left out: {said}"
    if field.kind is Kind.SECRET:
        return "kept" if cell else ""
    if field.kind is Kind.ROWS:
        count = len(row_ids(field, cell))
        return f"{count} row{'' if count == 1 else 's'}"
    if isinstance(cell, tuple):
        return ", ".join(labels(field)[place] for place in cell) or "none of them"
    if isinstance(cell, int):
        return labels(field)[cell] if cell < len(labels(field)) else ""
    return cell


RADIO_MAX = 5
"""Choices shown side by side; a longer list opens."""
CELLS_MAX: Final = 62
"""Width of a table in a form, at 80 and at 120 columns; wider lists become boxes, one field below the other."""
TEXT_MIN = 10
LABEL_MAX = 16
_WIDTHS = {
    Kind.INTEGER: 10,
    Kind.NUMBER: 12,
    Kind.DATE: 13,
    Kind.TIME: 11,
    Kind.DATETIME: 23,
    Kind.DURATION: 11,
}
_TEXTS = (Kind.TEXT, Kind.LONG, Kind.SECRET)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table: a label and a width each, in cells or as a share of what is left."""

    heads: tuple[tuple[str, int | str], ...]

    @property
    def widths(self) -> tuple[int | str, ...]:
        """Width of each column."""
        return tuple(width for _, width in self.heads)


def is_picked(field: Field) -> bool:
    """True if a value is picked from a list that opens."""
    return field.kind is Kind.CHOICE and len(field.choices) > RADIO_MAX


def cells_of(field: Field) -> tuple[Field, ...]:
    """Return the fields of each row of a list whose rows fit on one line each; none for any other list."""
    row = field.item
    if row is None or row.kind is not Kind.GROUP or row.may_be_left_out:
        return ()
    return row.children if None not in map(_width, row.children) else ()


def columns_of(field: Field) -> Columns | None:
    """The columns of such a list, if a terminal has the room for them."""
    needed, heads = 0, []
    for child in cells_of(field):
        width = _width(child)
        assert width is not None, "each takes one line"
        label = f"{one_line(child.label, LABEL_MAX)}{' *' if child.required else ''}"
        least = TEXT_MIN if isinstance(width, str) else width
        needed += max(least, cells(label) + 2) + 1
        heads.append((label, width if isinstance(width, str) else max(width, cells(label) + 2)))
    return Columns(tuple(heads)) if 0 < needed <= CELLS_MAX else None


def _width(field: Field) -> int | str | None:
    if field.kind in _TEXTS:
        return "1fr"
    if field.kind in (Kind.CHOICE, Kind.BOOL):
        if is_picked(field):
            return 18
        return (
            2
            + sum(cells(one_line(one.label, 60)) + 5 for one in field.choices)
            + 3 * (len(field.choices) - 1)
        )
    return _WIDTHS.get(field.kind)
