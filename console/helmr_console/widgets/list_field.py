"""`ListField`: a list field whose rows can be added, removed and moved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from helmr.person.forms import Blank, Cell, Field, row_ids
from helmr_console import safe
from helmr_console.widgets.field_row import FieldRow, Judge


class RowMaker(Protocol):
    """Makes and forgets the widgets of a row; knows the initial values of its fields."""

    def widgets_of(self, field: Field) -> Iterable[Widget]: ...
    def forget(self, field: Field) -> None: ...
    def begun_with(self, field: Field) -> Cell: ...
    def becomes(self, row: FieldRow, field: Field, cell: Cell) -> None: ...


class AddRow(Widget, can_focus=True):
    """The last line of a list: enter or space adds a row."""

    DEFAULT_CSS = """
    AddRow { height: 1; color: $c-muted; padding: 0 1; }
    AddRow:focus { background: $c-surface; color: $c-foreground; }
    """
    BINDINGS = [Binding("enter,space,plus", "press", show=False)]

    class Pressed(Message):
        """Sent when a row is to be added at the end."""

    def action_press(self) -> None:
        """Ask for a row."""
        self.post_message(self.Pressed())

    def on_click(self) -> None:
        """Ask for a row on a click."""
        self.action_press()

    def render(self) -> Content:
        """The line, which shows the focus without colour."""
        return Content(f"{'>' if self.has_focus else ' '}[+] add a row")


class RowBox(Vertical):
    """One row: its place and its fields."""

    DEFAULT_CSS = """
    RowBox { height: auto; border-left: solid $c-border; padding: 0 0 0 1; }
    RowBox > .place { height: 1; color: $c-muted; }
    RowBox FieldRow { margin: 0; }
    """

    def __init__(self, number: int, widgets: Iterable[Widget]) -> None:
        self.place = Static(classes="place", markup=False)
        super().__init__(self.place, *widgets)
        self.number = number
        """Id of the row in its list; it stays when the row moves."""

    def say_place(self, label: str, at: int, count: int) -> None:
        """Show the row's place, `item 2 of 5`."""
        self.place.update(safe.line(f"{label} {at + 1} of {count}", limit=80))

    def editors(self) -> list[Widget]:
        """Focusable editors of the row, in order."""
        rows = (row.editor for row in self.query(FieldRow))
        return [one for one in rows if one is not None and one.focusable]


class ListField(FieldRow):
    """A list of rows: its label, the rows, and a line that adds one. Its cell holds the ids of the rows, in order.

    Args:
        maker: Makes the fields of each row.
    """

    DEFAULT_CSS = """
    ListField > .rows { height: auto; }
    """

    def __init__(
        self, field: Field, cell: Cell, *, first: Cell, judge: Judge, maker: RowMaker
    ) -> None:
        super().__init__(field, cell, first=first, judge=judge)
        self._maker = maker
        self._boxes: dict[int, RowBox] = {}
        self._next = max(row_ids(field, cell), default=-1) + 1
        self._rows = self.first_rows()

    def first_rows(self) -> Vertical:
        """The initial rows."""
        self._boxes = {number: self._made(number) for number in self.numbers}
        return Vertical(*self._boxes.values(), classes="rows")

    def make_editor(self) -> Widget | None:
        """The line that adds a row."""
        return AddRow()

    def compose(self) -> ComposeResult:
        """Compose the label, the rows, the line that adds one, and the problem."""
        label, *rest = super().compose()
        yield label
        yield self._rows
        yield from rest

    @property
    def numbers(self) -> tuple[int, ...]:
        """Ids of the rows, in order."""
        return row_ids(self.field, self.cell)

    def box(self, number: int) -> RowBox:
        """The row with this id."""
        return self._boxes[number]

    def box_around(self, widget: Widget) -> RowBox | None:
        """The row of this list that contains a widget; None if it is elsewhere."""
        return next((box for box in self._boxes.values() if box in widget.ancestors), None)

    # --- rows come, go and move

    async def add(self, after: RowBox | None) -> RowBox:
        """Add a row after this one, or at the end."""
        number, self._next = self._next, self._next + 1
        at = self.numbers.index(after.number) + 1 if after is not None else len(self.numbers)
        box = self._boxes[number] = self._made(number)
        await self._rows.mount(box, after=after) if after is not None else await self._rows.mount(
            box
        )
        self._changed((*self.numbers[:at], number, *self.numbers[at:]))
        return box

    async def take_away(self, box: RowBox) -> RowBox | None:
        """Remove a row; return the one now in its place, or the last one."""
        at = self.numbers.index(box.number)
        left = tuple(number for number in self.numbers if number != box.number)
        self._drop(box.number)
        await box.remove()
        self._changed(left)
        return self._boxes[left[min(at, len(left) - 1)]] if left else None

    def move(self, box: RowBox, by: int) -> bool:
        """Move a row down (1) or up (-1); False if it is at the end."""
        numbers = list(self.numbers)
        at = numbers.index(box.number)
        if not 0 <= at + by < len(numbers):
            return False
        other = self._boxes[numbers[at + by]]
        if by > 0:
            self._rows.move_child(box, after=other)
        else:
            self._rows.move_child(box, before=other)
        numbers[at], numbers[at + by] = numbers[at + by], numbers[at]
        self._changed(tuple(numbers))
        return True

    def into_editor(self, cell: Cell) -> None:
        """Show the rows of this value; rows that stay are unchanged."""
        wanted = row_ids(self.field, cell)
        for number in [one for one in self._boxes if one not in wanted]:
            self._drop(number).remove()
        in_place = True
        for at, number in enumerate(wanted):
            if number not in self._boxes:
                self._boxes[number] = self._made(number)
                self._rows.mount(self._boxes[number])
                continue
            # From the first misplaced row on, each moves to the end, which puts them in order.
            box, children = self._boxes[number], self._rows.children
            in_place = in_place and children[at] is box
            if not in_place and children[-1] is not box:
                self._rows.move_child(box, after=children[-1])
        self._next = max(self._next, max(wanted, default=-1) + 1)
        self._number()

    def _made(self, number: int) -> RowBox:
        return RowBox(number, self._maker.widgets_of(self.field.row(number)))

    def _drop(self, number: int) -> RowBox:
        self._maker.forget(self.field.row(number))
        return self._boxes.pop(number)

    def _changed(self, numbers: tuple[int, ...]) -> None:
        self._typed(numbers)
        self._number()

    def _number(self) -> None:
        count = len(self._boxes)
        for at, number in enumerate(self.numbers):
            self._boxes[number].say_place(self.field.label, at, count)

    def state(self) -> str:
        """The number of rows, or the blank state."""
        if isinstance(self.cell, Blank):
            return super().state()
        parts = [] if self.field.required else ["optional"]
        count = len(self.numbers)
        parts.append("sent empty" if not count else f"{count} row{'s' if count > 1 else ''}")
        return ", ".join([*parts, *filter(None, [self.field.range_text()])])
