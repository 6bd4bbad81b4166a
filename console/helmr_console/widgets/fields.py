"""Editors of one value each: choices in a row, and text fields that hold nothing a terminal could obey."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, TextArea

from helmr.safe_text import one_line, typed

SHORT_MAX = 120
"""Characters of what a key that leads to it selects; a longer text is gone on with."""


def enter(field: Widget, *, scrolls: bool = True) -> None:
    """Focus a field as a key leads to it: what is short is selected, typing replaces it, an arrow keeps it."""
    field.focus(scroll_visible=scrolls)
    select_short(field)


def select_short(field: Widget | None) -> None:
    """Select the content of a field that a key led to, if it is short."""
    if isinstance(field, SafeInput) or (
        isinstance(field, SafeText) and field.is_cell and field.is_short
    ):
        field.select_all()


class PasteCut(Message):
    """A paste is not in the field as it was: characters that no field can show were left out, or lines made one."""

    def __init__(self, count: int, *, breaks: int = 0) -> None:
        super().__init__()
        self.count = count
        self.breaks = breaks

    def text(self) -> str:
        """What to say about it."""
        parts = [f"{self.count} control characters were left out"] if self.count else []
        if self.breaks:
            parts.append(f"{self.breaks} line breaks became spaces: this field holds one line")
        return f"Pasted; {' and '.join(parts)}"


class ChoiceField(Widget, can_focus=True):
    """Choices side by side, `(•) approve  ( ) reject`; several of them with boxes.

    Moving only moves; space or Enter chooses, so nothing is chosen by passing through. A digit chooses by place, a
    letter by how a choice begins, if only one begins so.
    """

    DEFAULT_CSS = """
    ChoiceField { height: auto; background: $c-background; color: $c-foreground; padding: 0 1; }
    ChoiceField:focus { background: $c-surface; }
    """
    BINDINGS = [
        Binding("left,up", "step(-1)", show=False),
        Binding("right,down", "step(1)", show=False),
        Binding("space,enter", "choose", show=False),
    ]

    class Changed(Message):
        """Another choice was made."""

        def __init__(self, field: ChoiceField) -> None:
            super().__init__()
            self.field = field

        @property
        def control(self) -> ChoiceField:
            """The field."""
            return self.field

    def __init__(self, labels: Sequence[str], *, several: bool = False) -> None:
        super().__init__()
        self.labels = [one_line(label, 60) for label in labels]
        self.several = several
        self.chosen: set[int] = set()
        self.at = 0

    def set_chosen(self, chosen: Sequence[int]) -> None:
        """Show these as chosen; says nothing."""
        self.chosen = set(chosen)
        if self.chosen and not self.several:
            self.at = min(self.chosen)
        self.refresh()

    def action_step(self, by: int) -> None:
        """Move the highlight."""
        self.at = (self.at + by) % max(1, len(self.labels))
        self.refresh()

    def action_choose(self) -> None:
        """Choose what is highlighted, or take it back where several can be chosen."""
        if self.several:
            self.chosen ^= {self.at}
        else:
            self.chosen = {self.at}
        self.refresh()
        self.post_message(self.Changed(self))

    def on_key(self, event: events.Key) -> None:
        """Digits and letters choose; no digit leaves the field for another area."""
        key = (event.character or "").casefold()
        if key.isdigit() and key.isascii():
            event.stop()
            if 1 <= int(key) <= len(self.labels):
                self.at = int(key) - 1
                self.action_choose()
            return
        found = [i for i, label in enumerate(self.labels) if label.casefold().startswith(key)]
        if not key.isalpha() or not found:
            return
        event.stop()
        if len(found) == 1:
            self.at = found[0]
            self.action_choose()
        else:
            self.at = next((i for i in found if i > self.at), found[0])
            self.refresh()

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Digits and first letters are the field's own, before any binding."""
        given = (character or "").casefold()
        if given.isdigit() and given.isascii():
            return True
        return given.isalpha() and any(one.casefold().startswith(given) for one in self.labels)

    def on_click(self, event: events.Click) -> None:
        """A click chooses."""
        for row, line in enumerate(self._lines(self.content_size.width)):
            for start, index in line:
                end = start + cell_len(self._text(index))
                if row == event.y and start <= event.x - 1 < end:
                    self.at = index
                    self.action_choose()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the choices need."""
        return max(1, len(self._lines(width)))

    def render(self) -> Content:
        """The choices, in lines."""
        lines = []
        for line in self._lines(self.content_size.width):
            parts: list[Content | tuple[str, str]] = []
            for place, (_, index) in enumerate(line):
                if place:
                    parts.append(("   ", ""))
                parts.append((self._text(index), self._look(index)))
            lines.append(Content.assemble(*parts))
        return Content("\n").join(lines)

    def _look(self, index: int) -> str:
        chosen = "bold $c-foreground" if index in self.chosen else "$c-muted"
        return f"{chosen} underline" if self.has_focus and index == self.at else chosen

    def _text(self, index: int) -> str:
        mark = "x" if index in self.chosen else " "
        if not self.several:
            mark = "•" if index in self.chosen else " "
        left, right = ("[", "]") if self.several else ("(", ")")
        pointer = ">" if self.has_focus and index == self.at else " "
        return f"{pointer}{left}{mark}{right} {self.labels[index]}"

    def _lines(self, width: int) -> list[list[tuple[int, int]]]:
        lines: list[list[tuple[int, int]]] = [[]]
        used = 0
        for index in range(len(self.labels)):
            size = cell_len(self._text(index))
            if lines[-1] and used + 3 + size > max(10, width):
                lines.append([])
                used = 0
            start = used + 3 if lines[-1] else 0
            lines[-1].append((start, index))
            used = start + size
        return lines


class SafeInput(Input):
    """One line of text; pasted control characters are left out and counted."""

    DEFAULT_CSS = """
    SafeInput { height: 1; border: none; padding: 0 1; background: $c-surface; color: $c-foreground; }
    SafeInput:focus { border: none; background: $c-cursor; }
    """

    def restricted(self) -> None:
        """What there is no room for is left out in silence: a bell means that a wait has come."""

    def on_paste(self, event: events.Paste) -> None:
        """Clean what the field's own handler, which Textual calls next, puts in: it takes the first line only."""
        text, dropped = typed(event.text)
        text = text.strip("\n")
        breaks = text.count("\n")
        event.text = text.replace("\n", " ")
        if dropped or breaks:
            self.post_message(PasteCut(dropped, breaks=breaks))


class SafeText(TextArea):
    """A text, on one line that grows with it; pasted control characters are left out and counted."""

    DEFAULT_CSS = """
    SafeText { height: auto; min-height: 1; max-height: 16; border: none; padding: 0 1;
               background: $c-surface; color: $c-foreground; scrollbar-size-vertical: 1; }
    SafeText:focus { border: none; background: $c-cursor; }
    """
    is_cell = False
    """One of the fields of a row."""

    def on_blur(self) -> None:
        """What is selected is what typing replaces: nothing, where no one types."""
        self.move_cursor(self.cursor_location)

    @property
    def is_short(self) -> bool:
        """Whether it is one line that a key that leads to it selects."""
        return len(self.text) <= SHORT_MAX and "\n" not in self.text

    def on_paste(self, event: events.Paste) -> None:
        """Clean what the field's own handler, which Textual calls next, puts in."""
        event.text, dropped = typed(event.text)
        if dropped:
            self.post_message(PasteCut(dropped))
