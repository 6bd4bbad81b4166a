"""`TableField`: a list of flat objects as a table. Only the row with the focus has widgets; the others are drawn.

So a form of 200 rows has as many widgets as one of two. The focus is the cursor: tab goes from cell to cell and from
row to row, up and down go to the next row, a click to its cell. `inside` keeps the values of all drawn rows, by the
keys of their fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.containers import Horizontal, Vertical
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from helmr.person.forms import Blank, Cell, Cells, Field, Kind, row_ids
from helmr.person.forms.questions import columns_of
from helmr.wire.safe_text import one_line
from helmr_console import look, safe
from helmr_console.widgets.field_row import FieldRow, SafeText, enter
from helmr_console.widgets.lines import fit
from helmr_console.widgets.list_field import ListField, RowBox

PLACE_CELLS = 5
TEXT_DRAWN_MAX = 200
"""Most characters of a cell that are drawn."""
_STEPS = {"up": -1, "down": 1, "pageup": -10, "pagedown": 10}


class LiveRow(RowBox):
    """The row with widgets, a line of cells."""

    DEFAULT_CSS = """
    LiveRow { layout: horizontal; border-left: none; padding: 0; }
    LiveRow > .place { width: 5; padding: 0 1 0 0; text-align: right; color: $c-accent; }
    LiveRow > FieldRow { margin: 0 1 0 0; }
    """

    def __init__(self, number: int, widgets: Iterable[Widget], widths: Iterable[int | str]) -> None:
        parts = list(widgets)
        super().__init__(number, parts)
        self.cells = [one for one in parts if isinstance(one, FieldRow)]
        for width, cell in zip(widths, self.cells, strict=True):
            cell.styles.width = width
            cell.add_class("cell")

    def say_place(self, label: str, at: int, count: int) -> None:
        """Show the row's number."""
        self.place.update(safe.line(f"{at + 1}", limit=80))


class DrawnRows(Widget):
    """Rows of a table without the focus, a line each."""

    DEFAULT_CSS = """
    DrawnRows { height: 0; }
    """

    class CellClicked(Message):
        """Sent when a cell is clicked, with the line within these rows and the column of cells."""

        def __init__(self, rows: DrawnRows, line: int, x: int) -> None:
            super().__init__()
            self.rows = rows
            self.line = line
            self.x = x

    def __init__(self, table: TableField) -> None:
        super().__init__()
        self._table = table
        self.numbers: tuple[int, ...] = ()
        self._first = 0

    def show(self, numbers: tuple[int, ...], first: int) -> None:
        """Draw these rows; `first` is the place of the first in the table, from 0."""
        if len(numbers) != len(self.numbers):
            self.styles.height = len(numbers)
        self.numbers, self._first = numbers, first
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One line for each row."""
        return len(self.numbers)

    def render_line(self, y: int) -> Strip:
        """Draw a row's cells in line with those of the live row."""
        width = self.size.width
        if y >= len(self.numbers):
            return Strip.blank(width, self._style(""))
        number = self.numbers[y]
        is_wrong = number in self._table.wrong
        place = fit(f"{'! ' if is_wrong else ''}{self._first + y + 1} ", PLACE_CELLS, right=True)
        segments = [Segment(place, self._style("error" if is_wrong else "muted"))]
        at = PLACE_CELLS
        for (x, cell_width), (text, role) in zip(
            self._table.columns_at(), self._table.drawn(number), strict=False
        ):
            segments.append(Segment(" " * max(0, x - at), self._style("")))
            segments.append(Segment(f" {fit(text, max(0, cell_width - 1))}", self._style(role)))
            at = x + cell_width
        return Strip(segments).adjust_cell_length(width, self._style(""))

    def on_click(self, event: events.Click) -> None:
        """Focus the clicked cell."""
        event.stop()
        self.post_message(self.CellClicked(self, event.y, event.x))

    def _style(self, role: str) -> Style:
        return look.style(self.app.theme, role, ground="background")


class TableField(ListField):
    """A list whose rows are lines of cells."""

    DEFAULT_CSS = """
    TableField .heads { height: 1; display: none; padding: 0 0 0 5; }
    TableField .heads.some { display: block; }
    TableField .heads > Static { height: 1; color: $c-muted; margin: 0 1 0 0; padding: 0 1; }
    """

    def first_rows(self) -> Vertical:
        """The first row with widgets, the others drawn."""
        columns = columns_of(self.field)
        assert columns is not None, "a table has columns"
        self._widths = columns.widths
        self._heads = Horizontal(*_heads(columns.heads), classes="heads")
        self._above, self._below = DrawnRows(self), DrawnRows(self)
        self.wrong: frozenset[int] = frozenset()
        """Ids of rows with a problem."""
        self.inside: Cells = {}
        self._take_in(self.numbers)
        live = [self._live_of(number) for number in self.numbers[:1]]
        return Vertical(self._heads, self._above, *live, self._below, classes="rows")

    @property
    def live(self) -> LiveRow | None:
        """The row with widgets; None without rows."""
        found = next(iter(self._boxes.values()), None)
        return found if isinstance(found, LiveRow) else None

    def box(self, number: int) -> RowBox:
        """The row with this id, which gets the widgets."""
        return self.go(number)

    # --- drawing

    def columns_at(self) -> list[tuple[int, int]]:
        """Start and width of each column, in cells."""
        live = self.live
        left = self._rows.content_region.x
        return [(one.region.x - left, one.region.width) for one in live.cells] if live else []

    def drawn(self, number: int) -> Iterator[tuple[str, str]]:
        """Text and role of each cell of a row."""
        for field in self._fields(number):
            yield drawn(field, self.inside[field.key])

    def say_wrong(self, keys: Mapping[str, str]) -> None:
        """Mark the rows that contain these fields."""
        self.wrong = frozenset(
            number
            for number in self.numbers
            if any(field.key in keys for field in self._fields(number))
        )
        self._draw()

    def number_of(self, key: str) -> int | None:
        """Id of the row that contains this field; None if there is none."""
        return next((n for n in self.numbers if any(f.key == key for f in self._fields(n))), None)

    # --- the live row

    def go(self, number: int) -> LiveRow:
        """Give the widgets to this row."""
        live = self.live
        assert live is not None, "a list that has a row has a live one"
        if live.number != number:
            self._keep(live)
            del self._boxes[live.number]
            for row, field in zip(live.cells, self._fields(number), strict=True):
                self._maker.becomes(row, field, self.inside[field.key])
                if number in self.wrong:
                    row.say(self._judge(row.field, row.cell))
            live.number = number
            self._boxes[number] = live
            self._number()
        return live

    def step(self, focus: Widget | None, by: int) -> bool:
        """Go to the next row from a row's end (1), or back from its beginning (-1); False anywhere else."""
        live = self.live
        if live is None or focus is None:
            return False
        editors = live.editors()
        at = self.numbers.index(live.number)
        if focus is self.editor and by < 0:
            self._enter(self.numbers[-1], -1)
            return True
        if not editors or focus is not editors[-1 if by > 0 else 0]:
            return False
        if not 0 <= at + by < len(self.numbers):
            return False
        self._enter(self.numbers[at + by], 0 if by > 0 else -1)
        return True

    def on_key(self, event: events.Key) -> None:
        """Go up or down to the same cell of another row, except within a text of several lines."""
        live, focus = self.live, self.screen.focused
        by = _STEPS.get(event.key)
        if live is None or by is None or (isinstance(focus, SafeText) and not focus.is_short):
            return
        numbers, editors = self.numbers, live.editors()
        if focus in editors:
            column, at = editors.index(focus), numbers.index(live.number) + by
        elif focus is self.editor and by < 0:
            column, at = 0, len(numbers) - 1
        else:
            return
        event.stop()
        event.prevent_default()
        if (
            0 <= numbers.index(live.number) + by < len(numbers)
            or abs(by) > 1
            or focus is self.editor
        ):
            self._enter(numbers[max(0, min(at, len(numbers) - 1))], column)
        elif by > 0 and self.editor is not None:
            enter(self.editor)

    def on_drawn_rows_cell_clicked(self, event: DrawnRows.CellClicked) -> None:
        """Focus the clicked cell."""
        event.stop()
        if event.line < len(event.rows.numbers):
            starts = [x for x, _ in self.columns_at()]
            column = max(0, sum(x <= event.x for x in starts) - 1)
            self._enter(event.rows.numbers[event.line], column)

    def _enter(self, number: int, column: int) -> None:
        editors = self.go(number).editors()
        if editors:
            editor = editors[column]
            enter(editor)
            # Its place is known once the rows around it are laid out; the next key waits for that.
            self.call_after_refresh(editor.scroll_visible, animate=False)

    # --- rows come, go and move

    async def add(self, after: RowBox | None) -> RowBox:
        """Add a row after this one, or at the end, and give it the widgets."""
        number, self._next = self._next, self._next + 1
        at = self.numbers.index(after.number) + 1 if after is not None else len(self.numbers)
        self._take_in((number,))
        numbers = (*self.numbers[:at], number, *self.numbers[at:])
        if self.live is None:
            await self._rows.mount(self._live_of(number), after=self._above)
            self._changed(numbers)
        else:
            self._changed(numbers)
            self.go(number)
        return self._boxes[number]

    async def take_away(self, box: RowBox) -> RowBox | None:
        """Remove a row; return the one now in its place, or the last one."""
        gone, at = box.number, self.numbers.index(box.number)
        left = tuple(number for number in self.numbers if number != gone)
        if left:
            self.go(left[min(at, len(left) - 1)])
        else:
            await self._drop(gone).remove()
        for field in self._fields(gone):
            self.inside.pop(field.key, None)
        self.wrong -= {gone}
        self._changed(left)
        return self.live

    def move(self, box: RowBox, by: int) -> bool:
        """Move a row down (1) or up (-1); False if it is at the end."""
        numbers = list(self.numbers)
        at = numbers.index(box.number)
        if not 0 <= at + by < len(numbers):
            return False
        numbers[at], numbers[at + by] = numbers[at + by], numbers[at]
        self._changed(tuple(numbers))
        return True

    def into_editor(self, cell: Cell) -> None:
        """Show the rows of this value; rows that stay are unchanged."""
        wanted, live = row_ids(self.field, cell), self.live
        self._take_in(wanted)
        if live is not None and not wanted:
            self._drop(live.number).remove()
        elif live is None and wanted:
            self._rows.mount(self._live_of(wanted[0]), after=self._above)
        elif live is not None and live.number not in wanted:
            self.go(wanted[0])
        there = {field.key for number in wanted for field in self._fields(number)}
        self.inside = {key: inner for key, inner in self.inside.items() if key in there}
        self.wrong &= frozenset(wanted)
        self._next = max(self._next, max(wanted, default=-1) + 1)
        self._number()

    def _live_of(self, number: int) -> LiveRow:
        made = LiveRow(number, self._maker.widgets_of(self.field.row(number)), self._widths)
        self._boxes[number] = made
        return made

    def _keep(self, live: LiveRow) -> None:
        """Keep the values of the live row, and whether they have a problem."""
        self.inside |= {one.field.key: one.cell for one in live.cells}
        is_wrong = any(one.has_class("wrong") or one.has_class("begun") for one in live.cells)
        self.wrong = self.wrong | {live.number} if is_wrong else self.wrong - {live.number}

    def _take_in(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            for field in self._fields(number):
                self.inside.setdefault(field.key, self._maker.begun_with(field))

    def _fields(self, number: int) -> tuple[Field, ...]:
        """The fields of a row, in the order of the columns."""
        return self.field.row(number).children

    def _number(self) -> None:
        live, numbers = self.live, self.numbers
        self._heads.set_class(bool(numbers), "some")
        if live is not None and live.number in numbers:
            live.say_place(self.field.label, numbers.index(live.number), len(numbers))
        self._draw()

    def _draw(self) -> None:
        live, numbers = self.live, self.numbers
        at = numbers.index(live.number) if live is not None and live.number in numbers else 0
        self._above.show(numbers[:at], 0)
        self._below.show(numbers[at + 1 :], at + 1)


def _heads(heads: Iterable[tuple[str, int | str]]) -> Iterator[Static]:
    for label, width in heads:
        made = Static(safe.line(label, limit=60), markup=False)
        made.styles.width = width
        yield made


def drawn(field: Field, cell: Cell) -> tuple[str, str]:
    """A cell as safe text on one line, and its role."""
    if isinstance(cell, Blank):
        is_said = cell is not Blank.NOT_SENT or not field.required
        return (cell.value if is_said else "", "muted")
    if isinstance(cell, int):
        there = 0 <= cell < len(field.choices)
        return (one_line(field.choices[cell].label, 60) if there else "", "")
    if field.kind is Kind.SECRET:
        return ("•" * min(len(cell), 12), "") if isinstance(cell, str) else ("", "")
    return (one_line(str(cell)[:TEXT_DRAWN_MAX], None), "")
