"""`LineList`: a list of any length that draws only visible rows and keeps its cursor on a row, not at a place.

It builds rows by key while drawing, so 5,000 rows cost as much as 30. A gutter shows the cursor (`▌`) and marks (`*`).
Text can be selected with the mouse, at places (character, line) counted from the top of the content, as in Textual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Offset, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from helmr_console import look
from helmr_console.views import Cell, Row

MIDDLE_FROM = 16
"""Width in cells below which a text is not cut in its middle."""
MORE_FROM = 116
"""Width of a list in a window of 120 cells; a narrower one omits the `more` of a cell."""
GUTTER = 4
"""Cells of the cursor, the mark and a space on each side."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width` 0 takes the remaining room; a list narrower than `from_width` omits the column.

    `both_ends`: cut a long text in its middle, because texts that begin alike differ at their ends.
    """

    name: str
    width: int
    from_width: int = 0
    right: bool = False
    both_ends: bool = False
    yields: bool = False
    """An empty cell gives its room to the column of width 0."""


class LineList(ScrollView, can_focus=True):
    """Rows by key.

    Args:
        columns: One per cell of a row; a row of one cell spans all of them.
        draw: Returns the row of a key.
        empty: Text without rows.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    LineList { background: $c-background; color: $c-foreground; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    BINDINGS = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class CursorMoved(Message):
        """Sent when the cursor moves to another row."""

    class Chosen(Message):
        """Sent when Enter or a second click opens the row under the cursor."""

        def __init__(self, key: str, lines: LineList) -> None:
            super().__init__()
            self.key = key
            self.lines = lines

        @property
        def control(self) -> LineList:
            """The list, for Textual's `on` decorator."""
            return self.lines

    def __init__(
        self,
        columns: Sequence[Column],
        draw: Callable[[str], Row],
        *,
        empty: str = "",
        id: str | None = None,  # Textual's name
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.draw = draw
        self.empty = empty
        self.keys: list[str] = []
        self.marks: set[str] = set()
        self.index = 0
        self.left_out: frozenset[str] = frozenset()
        """Names of hidden columns."""

    # --- rows and cursor

    @property
    def cursor(self) -> str | None:
        """Key of the row under the cursor; None without rows."""
        return self.keys[self.index] if 0 <= self.index < len(self.keys) else None

    def set_keys(self, keys: Sequence[str], cursor: str | None) -> None:
        """Show these rows. The row under the cursor keeps its line on screen if it can."""
        line = self.index - self.scroll_offset.y
        self.keys = list(keys)
        self.index = self.keys.index(cursor) if cursor in self.keys else 0
        self.virtual_size = Size(self.size.width, len(self.keys) + 1)
        top = max(0, min(self.index - line, len(self.keys) + 1 - self.size.height))
        self.scroll_to(y=top, animate=False, force=True)
        self._keep_in_view()
        self.refresh()
        self.post_message(self.CursorMoved())

    def on_screen(self) -> list[str]:
        """Keys of the visible rows."""
        top = self.scroll_offset.y
        return self.keys[top : top + max(1, self.size.height)]

    def show_top(self) -> None:
        """Scroll to the beginning, if the cursor stays visible."""
        if self.index < self.size.height - 1:
            self.scroll_to(y=0, animate=False, force=True)

    def move_to(self, index: int) -> None:
        """Move the cursor to the row at `index`, or the nearest."""
        index = max(0, min(index, len(self.keys) - 1))
        if index != self.index:
            self.index = index
            self.refresh()
            self.post_message(self.CursorMoved())
        self._keep_in_view()

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self.move_to(self.index + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by screens."""
        self.move_to(self.index + by * max(1, self.size.height - 2))

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.cursor is not None:
            self.post_message(self.Chosen(self.cursor, self))

    def toggle_mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        if self.cursor is not None:
            self.marks ^= {self.cursor}
            self.refresh()

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """Help for moving in a list."""
        return "The list", (
            "j k and the arrows move by rows, pgup pgdn by screens, g G to the ends",
            "a click selects a row, a second click opens it",
            "the cursor stays on its row while other rows come and go",
        )

    def _keep_in_view(self) -> None:
        height = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self.index < top:
            self.scroll_to(y=self.index, animate=False, force=True)
        elif self.index >= top + height:
            self.scroll_to(y=self.index - height + 1, animate=False, force=True)
        if self.has_focus:
            self.app.cursor_position = Offset(
                self.content_region.x + 1,
                self.content_region.y + 1 + self.index - self.scroll_offset.y,
            )

    # --- events

    def on_resize(self, event: events.Resize) -> None:
        """Adapt the columns to the width; keep the cursor visible."""
        self.virtual_size = Size(self.size.width, len(self.keys) + 1)
        self._keep_in_view()
        self.refresh()

    def on_focus(self) -> None:
        """Redraw the gutter, which shows the focus."""
        self._keep_in_view()
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Select a row on a click; open it on a second one."""
        index = self.scroll_offset.y + event.y - 1
        if event.y < 1 or index >= len(self.keys):
            return
        again = index == self.index and event.chain >= 2
        self.move_to(index)
        if again:
            self.action_choose()

    # --- drawing

    def shown_columns(self) -> list[Drawn]:
        """The visible columns, with cell number and width."""
        width = self.size.width
        shown = [
            (i, column)
            for i, column in enumerate(self.columns)
            if width >= column.from_width and column.name not in self.left_out
        ]
        fixed = GUTTER + sum(column.width + 1 for _, column in shown)
        flexible = [i for i, column in shown if column.width == 0]
        spare = max(len(flexible), width - fixed - len(flexible) + 1)
        share = spare // len(flexible) if flexible else 0
        return [(i, column.width or share, column) for i, column in shown]

    def render_line(self, y: int) -> Strip:
        """Draw the head as line 0, and rows from the scroll position on below it."""
        width = self.size.width
        if y == 0:
            return self._head(width)
        index = self.scroll_offset.y + y - 1
        if index < len(self.keys):
            return self._row(index, width)
        if not self.keys and y == max(2, self.size.height // 3):
            text = self.empty.center(width)[:width]
            return Strip([Segment(text, self._style("muted"))], width).adjust_cell_length(width)
        return Strip.blank(width, self._style(""))

    def _head(self, width: int) -> Strip:
        text = " " * GUTTER
        for _, cell_width, column in self.shown_columns():
            name = column.name
            text += (name.rjust(cell_width) if column.right else name.ljust(cell_width))[
                :cell_width
            ]
            text += " "
        strip = Strip([Segment(text, self._style("muted"))])
        return strip.adjust_cell_length(width, self._style("muted"))

    def _row(self, index: int, width: int) -> Strip:
        key = self.keys[index]
        here = index == self.index
        ground = "cursor" if here else ""
        segments = [
            Segment(self._cursor_sign(here), self._style("accent", ground)),
            Segment(" * " if key in self.marks else "   ", self._style("strong", ground)),
        ]
        row = self.draw(key)
        if len(row) == 1:
            text = fit(row[0].text, max(0, width - GUTTER))
            segments.append(Segment(text, self._style(row[0].role, ground)))
            return Strip(segments).adjust_cell_length(width, self._style("", ground))
        for number, cell_width, column in yielded(self.shown_columns(), row):
            cell = row[number] if number < len(row) else Cell("")
            behind = "  ".join(filter(None, (cell.rest, cell.more if width >= MORE_FROM else "")))
            text, rest = with_rest(cell.text, behind, cell_width)
            if not rest:
                text = fit(text, cell_width, right=column.right, both_ends=column.both_ends) + " "
            segments.append(Segment(text, self._style(cell.role, ground)))
            if rest:
                segments.append(Segment(f"{rest} ", self._style("muted", ground)))
        strip = Strip(segments)
        return strip.adjust_cell_length(width, self._style("", ground))

    def _cursor_sign(self, here: bool) -> str:
        if not here:
            return " "
        return "▌" if self.has_focus else "│"

    def _style(self, role: str, ground: str = "") -> Style:
        return look.style(self.app.theme, role, ground=ground or "background")


Drawn = tuple[int, int, Column]
"""Number of a cell, its width in cells, its column."""


def yielded(columns: Sequence[Drawn], row: Row) -> list[Drawn]:
    """The columns of one row; empty cells that yield give their room to the column of width 0."""
    empty = [one for one in columns if one[2].yields and one[0] < len(row) and not row[one[0]].text]
    room = sum(width + 1 for _, width, _ in empty)
    return [
        (number, width + room if column.width == 0 else width, column)
        for number, width, column in columns
        if (number, width, column) not in empty
    ]


REST_MIN = 4
"""Minimum of cells in which `rest` is shown."""


def with_rest(text: str, rest: str, width: int) -> tuple[str, str]:
    """Fit a text and its rest into `width` cells; the rest is empty if the text leaves no room."""
    room = width - cell_len(text) - 2
    if not rest or room < min(REST_MIN, cell_len(rest)):
        return text, ""
    return f"{text}  ", fit(rest, room)


def fit(text: str, width: int, *, right: bool = False, both_ends: bool = False) -> str:
    """Pad or cut safe text to exactly `width` cells; `…` marks the cut, at the end or in the middle."""
    if cell_len(text) > width:
        end = _end(text, (width - 1) // 2) if both_ends and width > MIDDLE_FROM else ""
        start = set_cell_size(text, width - 1 - cell_len(end)).rstrip() if width else ""
        text = f"{start}…{end}" if width else ""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _end(text: str, width: int) -> str:
    """The last `width` cells of a text, or one less before a wide character."""
    end = text[-width:]
    while cell_len(end) > width:
        end = end[1:]
    return end


def wrapped(text: str, width: int) -> list[str]:
    """Break text into lines of at most `width` cells, at spaces where possible."""
    lines: list[str] = []
    while cell_len(text) > width:
        cut, used = 0, 0
        for char in text:
            size = cell_len(char)
            if used + size > width:
                break
            cut, used = cut + 1, used + size
        space = text.rfind(" ", max(1, cut // 2), cut + 1)
        cut = space if space > 0 else max(1, cut)
        lines.append(text[:cut])
        text = text[cut:].removeprefix(" ")
    return [*lines, text]


LINES_MAX = 10_000
"""Most lines of a selection that are copied; a longer one is cut, and says so."""
_CHOSEN = Style(reverse=True)


def chosen_text(selection: Selection, line: Callable[[int], str], count: int) -> str:
    """The selected text, line by line without trailing spaces.

    Args:
        line: Returns the text of a line.
        count: Number of lines.
    """
    first = selection.start.y if selection.start is not None else 0
    last = selection.end.y if selection.end is not None else count - 1
    last = min(last, count - 1)
    found = []
    for number in range(first, min(last, first + LINES_MAX - 1) + 1):
        span = selection.get_span(number)
        if span is not None:
            start, end = span
            text = line(number)
            found.append(text[start : None if end == -1 else end].rstrip())
    if last - first >= LINES_MAX:
        found.append(f"… cut: {last - first + 1 - LINES_MAX} more lines")
    return "\n".join(found)


def highlighted(strip: Strip, span: tuple[int, int] | None) -> Strip:
    """The line with its selected part reversed."""
    if span is None:
        return strip
    start, end = span
    found: list[Segment] = []
    at = 0
    for text, style, _ in strip:
        stop = len(text) if end == -1 else max(0, end - at)
        begin = min(max(0, start - at), stop)
        reversed_style = style + _CHOSEN if style else _CHOSEN
        pieces = ((text[:begin], style), (text[begin:stop], reversed_style), (text[stop:], style))
        found += [Segment(piece, how) for piece, how in pieces if piece]
        at += len(text)
    return Strip(found, strip.cell_length)
