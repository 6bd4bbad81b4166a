"""Which lists are tables: objects whose fields each take one line, all of them beside one another. Pure.

A table is drawn, and only the row that has the focus is made of fields; so it may have as many cells as a person can
still go through, where other lists have `ROWS_MAX` rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from helmr.forms.model import Field, Kind
from helmr.safe_text import cells, one_line

RADIO_MAX = 5
"""Choices that stand side by side; more become a list to pick from."""
CELLS_MAX: Final = 62
"""Of a form's width at 80 and at 120 columns: what needs more stands in boxes, one field below the other."""
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
        """Of each column."""
        return tuple(width for _, width in self.heads)


def is_picked(field: Field) -> bool:
    """Whether a value is picked from a list that opens."""
    return field.kind is Kind.CHOICE and len(field.choices) > RADIO_MAX


def columns_of(field: Field) -> Columns | None:
    """The columns of a list of objects whose fields each take one line; None for any other list."""
    row = field.item
    if row is None or row.kind is not Kind.GROUP or row.may_be_left_out or not row.children:
        return None
    needed, heads = 0, []
    for child in row.children:
        width = _width(child)
        if width is None:
            return None
        label = f"{one_line(child.label, LABEL_MAX)}{' *' if child.required else ''}"
        least = TEXT_MIN if isinstance(width, str) else width
        needed += max(least, cells(label) + 2) + 1
        heads.append((label, width if isinstance(width, str) else max(width, cells(label) + 2)))
    return Columns(tuple(heads)) if needed <= CELLS_MAX else None


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
