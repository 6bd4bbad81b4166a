"""A field of a form: its label, its state, its editor and its problem.

Editors are choices, and text fields that hold no character a terminal could obey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, OptionList, Select, TextArea

from helmr.person import forms
from helmr.person.forms import Blank, Cell, Field, Kind
from helmr.person.forms.questions import is_picked
from helmr.wire.jsonio import loads
from helmr.wire.safe_text import JOINERS, one_line, typed
from helmr_console import safe
from helmr_console.form_fields import about, complaint, default_text
from helmr_console.widgets.panes import StillText

TYPES_ON_S = 1.0
"""Seconds within which a typed letter continues the word before it."""
SHORT_MAX = 120
"""Longest text, in characters, that is selected when a key leads to its field."""


def enter(field: Widget, *, scrolls: bool = True) -> None:
    """Focus a field as a key does, and select a short text: typing replaces it, an arrow keeps it."""
    field.focus(scroll_visible=scrolls)
    select_short(field)


def select_short(field: Widget | None) -> None:
    """Select the content of a field that a key led to, if it is short."""
    if isinstance(field, SafeInput) or (
        isinstance(field, SafeText) and field.is_cell and field.is_short
    ):
        field.select_all()


class PasteCut(Message):
    """Sent when a paste was changed: characters that no field can show were left out, or lines joined."""

    def __init__(self, count: int, *, breaks: int = 0) -> None:
        super().__init__()
        self.count = count
        self.breaks = breaks

    def text(self) -> str:
        """The message for the operator."""
        parts = [f"{self.count} control characters were left out"] if self.count else []
        if self.breaks:
            parts.append(f"{self.breaks} line breaks became spaces: this field holds one line")
        return f"Pasted; {' and '.join(parts)}"


class ChoiceField(Widget, can_focus=True):
    """Choices side by side, `(•) approve  ( ) reject`, or boxes where several can be chosen.

    Moving never chooses; space or Enter does. A digit chooses by place, a letter by the first letters of a choice, if
    only one begins so. Further letters of a choice's name belong to the field.
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
        """Sent when the choice changes."""

        def __init__(self, field: ChoiceField) -> None:
            super().__init__()
            self.field = field

        @property
        def control(self) -> ChoiceField:
            """The field, for Textual's `on` decorator."""
            return self.field

    def __init__(self, labels: Sequence[str], *, several: bool = False) -> None:
        super().__init__()
        self.labels = [one_line(label, 60) for label in labels]
        self.several = several
        self.chosen: set[int] = set()
        self.at = 0
        self._word = ""
        """The letters typed so far of a choice's name."""
        self._word_s = 0.0

    def set_chosen(self, chosen: Sequence[int]) -> None:
        """Show these as chosen, without a message."""
        self.chosen = set(chosen)
        if self.chosen and not self.several:
            self.at = min(self.chosen)
        self.refresh()

    def action_step(self, by: int) -> None:
        """Move the highlight."""
        self.at = (self.at + by) % max(1, len(self.labels))
        self.refresh()

    def action_choose(self) -> None:
        """Choose the highlighted choice, or clear it where several can be chosen."""
        if self.several:
            self.chosen ^= {self.at}
        else:
            self.chosen = {self.at}
        self.refresh()
        self.post_message(self.Changed(self))

    def on_key(self, event: events.Key) -> None:
        """Choose by digits and letters; no digit leaves the field for another area."""
        key = (event.character or "").casefold()
        if key.isdigit() and key.isascii():
            event.stop()
            self._word = ""
            if 1 <= int(key) <= len(self.labels):
                self.at = int(key) - 1
                self.action_choose()
            return
        word = self._word + key if event.time - self._word_s < TYPES_ON_S else key
        if not self._goes_on(word):
            word = key
        if not key.isalpha() or not (found := self._goes_on(word)):
            self._word = ""
            return
        event.stop()
        is_narrower = len(word) == 1 or len(found) < len(self._goes_on(word[:-1]))
        self._word, self._word_s = word, event.time
        if len(found) == 1:
            if is_narrower:  # else the letters before chose it already
                self.at = found[0]
                self.action_choose()
        elif len(word) == 1 or self.at not in found:
            self.at = next((i for i in found if i > self.at), found[0])
            self.refresh()

    def _goes_on(self, word: str) -> list[int]:
        """The choices that begin with these letters."""
        return [i for i, label in enumerate(self.labels) if label.casefold().startswith(word)]

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Take digits and first letters before any binding."""
        given = (character or "").casefold()
        if given.isdigit() and given.isascii():
            return True
        return given.isalpha() and bool(self._goes_on(given))

    def on_click(self, event: events.Click) -> None:
        """Choose on a click."""
        for row, line in enumerate(self._lines(self.content_size.width)):
            for start, index in line:
                end = start + cell_len(self._text(index))
                if row == event.y and start <= event.x - 1 < end:
                    self.at = index
                    self.action_choose()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The number of lines that the choices need."""
        return max(1, len(self._lines(width)))

    def render(self) -> Content:
        """The choices, wrapped into lines."""
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


class PickField(Select[int]):
    """A choice of many, in a list that opens. Typing opens it and searches, as in a browser; no key is a command."""

    def on_key(self, event: events.Key) -> None:
        """Open the closed list, and search it for the typed character."""
        if event.is_printable and event.key != "space" and not self.expanded:
            event.stop()
            self.action_show_overlay()
            found = self.query_one(OptionList)
            # After the focus event, on which the list begins a new word.
            self.app.call_later(found.post_message, events.Key(event.key, event.character))

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Take all printable characters, for the search."""
        return character is not None and character.isprintable()


class SafeInput(Input):
    """One line of text; pasted control characters are left out and counted."""

    DEFAULT_CSS = """
    SafeInput { height: 1; border: none; padding: 0 1; background: $c-surface; color: $c-foreground; }
    SafeInput:focus { border: none; background: $c-cursor; }
    """

    def on_key(self, event: events.Key) -> None:
        """Insert a joiner, which is part of a letter but no character for Textual."""
        if event.character and event.character in JOINERS:
            event.stop()
            event.prevent_default()
            self.replace(event.character, *self.selection)

    def restricted(self) -> None:
        """Drop text beyond the maximum length silently, because a bell means a new wait."""

    def on_paste(self, event: events.Paste) -> None:
        """Clean the paste and join its lines; Textual then calls the field's own handler, which takes one line."""
        text, dropped = typed(event.text)
        text = text.strip("\n")
        breaks = text.count("\n")
        event.text = text.replace("\n", " ")
        if dropped or breaks:
            self.post_message(PasteCut(dropped, breaks=breaks))


class SafeText(TextArea):
    """A text field that grows with its text; pasted control characters are left out and counted."""

    DEFAULT_CSS = """
    SafeText { height: auto; min-height: 1; max-height: 16; border: none; padding: 0 1;
               background: $c-surface; color: $c-foreground; scrollbar-size-vertical: 1; }
    SafeText:focus { border: none; background: $c-cursor; }
    """
    is_cell = False
    """True for a cell of a table's row."""

    def on_key(self, event: events.Key) -> None:
        """Insert a joiner, which is part of a letter but no character for Textual."""
        if event.character and event.character in JOINERS:
            event.stop()
            event.prevent_default()
            self.replace(event.character, *self.selection, maintain_selection_offset=False)

    def on_blur(self) -> None:
        """Clear the selection, because typing no longer goes here."""
        self.move_cursor(self.cursor_location)

    @property
    def is_short(self) -> bool:
        """True for one line short enough to be selected when a key leads to it."""
        return len(self.text) <= SHORT_MAX and "\n" not in self.text

    def on_paste(self, event: events.Paste) -> None:
        """Clean the paste; Textual then calls the field's own handler."""
        event.text, dropped = typed(event.text)
        if dropped:
            self.post_message(PasteCut(dropped))


CHOICES = (Kind.CHOICE, Kind.BOOL, Kind.UNION, Kind.MULTI)
TEXTS = (Kind.TEXT, Kind.LONG, Kind.SECRET, Kind.LINES)
AREAS = (Kind.LONG, Kind.LINES, Kind.JSON)


Judge = Callable[[Field, Cell], str]
"""Returns the problem of a cell of a field; empty if there is none."""


class FieldRow(Vertical):
    """A field: its label, its state (not sent, null, length), its editor and its problem."""

    DEFAULT_CSS = """
    FieldRow { height: auto; margin: 0 0 1 0; }
    FieldRow > Static { height: auto; }
    FieldRow > .problem { color: $c-error; display: none; }
    FieldRow.wrong > .problem { display: block; }
    FieldRow.begun > .problem { color: $c-muted; display: block; }
    FieldRow > Select { height: auto; }
    FieldRow.cell > .label, FieldRow > .label.nothing { display: none; }
    """

    class FieldChanged(Message):
        """Sent when something is typed or chosen."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    def __init__(
        self, field: Field, cell: Cell, *, first: Cell, judge: Judge, like: str = ""
    ) -> None:
        super().__init__()
        self.field = field
        self.first = first
        self.like = like
        self._judge = judge
        self.cell: Cell = cell
        self._is_touched = False
        self._label = StillText(classes="label")
        self._problem = StillText(classes="problem")
        self.editor: Widget | None = self.make_editor()

    def make_editor(self) -> Widget | None:
        """Build the editor; None for a fixed value."""
        return _editor(self.field, self.like)

    def compose(self) -> ComposeResult:
        """Compose label, editor and problem."""
        yield self._label
        if self.editor is not None:
            yield self.editor
        yield self._problem

    def on_mount(self) -> None:
        """Show the first value."""
        self.put(self.cell)

    def put(self, cell: Cell) -> None:
        """Show this value."""
        self.cell = cell
        with self.prevent(Input.Changed, TextArea.Changed, Select.Changed, ChoiceField.Changed):
            self.into_editor(cell)
        self.relabel()

    def cycle_blank(self) -> None:
        """Switch between not sent, empty and null, as the field allows."""
        field = self.field
        states: list[Cell] = [] if field.required else [Blank.NOT_SENT]
        if field.required and forms.takes_empty(field):
            states.append(Blank.EMPTY)
        if field.kind in TEXTS and not (field.required and field.nullable):
            states.append("")
        if field.kind is Kind.ROWS and not field.required:
            states.append(())
        if self.like:
            states.append(forms.pretty(loads(self.like)))
        if field.nullable:
            states.append(Blank.NULL)
        if not states:
            return
        place = states.index(self.cell) if self.cell in states else -1
        self.put(states[(place + 1) % len(states)])
        self.say(self._judge(self.field, self.cell))
        self.post_message(self.FieldChanged(self))

    def say(self, problem: str, *, may_be_mended: bool = False) -> None:
        """Show this problem, or none if empty.

        Args:
            may_be_mended: Show it quietly, because more typing may fix it.
        """
        self.set_class(bool(problem) and not may_be_mended, "wrong")
        self.set_class(bool(problem) and may_be_mended, "begun")
        sign = "…" if may_be_mended else "!"
        self._problem.say(safe.line(f"{sign} {problem}", limit=200) if problem else Content(""))
        if problem and self.editor is not None and self.editor.has_focus:
            # The problem stands below the editor, and the screen keeps only the editor in view.
            self.call_after_refresh(self._problem.scroll_visible, animate=False)

    def on_descendant_blur(self) -> None:
        """Judge the field strictly once it is left."""
        if self._is_touched and self.has_class("begun"):
            self.say(self._judge(self.field, self.cell))

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """Help for this field."""
        return f"The field {self.field.label}", tuple(about(self.field))

    def text(self) -> str | None:
        """The text of a text field, for the editor; None for others."""
        if isinstance(self.cell, str):
            return self.cell
        return "" if self.field.kind in (*TEXTS, Kind.JSON) else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Take a change of a one-line field."""
        event.stop()
        empty = not event.value and self.field.kind not in TEXTS and not self.field.required
        self._typed(Blank.NOT_SENT if empty else event.value)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Take a change of a text area."""
        event.stop()
        text = event.text_area.text
        empty = not text and self.field.kind is Kind.JSON and not self.field.required
        self._typed(Blank.NOT_SENT if empty else text)

    def on_select_changed(self, event: Select.Changed) -> None:
        """Take a pick from the list."""
        event.stop()
        value = event.value
        self._typed(value if isinstance(value, int) else Blank.NOT_SENT)

    def on_choice_field_changed(self, event: ChoiceField.Changed) -> None:
        """Take a choice."""
        event.stop()
        chosen = sorted(event.field.chosen)
        self._typed(tuple(chosen) if event.field.several else chosen[0])

    def _typed(self, cell: Cell) -> None:
        is_text = isinstance(cell, str) and self.field.kind in TEXTS
        # Typed spaces alone count as no text; an initial value of spaces counts.
        self.cell = cell = "" if is_text and self.field.required and not str(cell).strip() else cell
        self._is_touched = True
        may_be_mended = self.field.kind not in CHOICES and not complaint(self.field, cell)
        self.say(self._judge(self.field, cell), may_be_mended=may_be_mended)
        self.relabel()
        self.post_message(self.FieldChanged(self))

    def into_editor(self, cell: Cell) -> None:
        """Show this value in the editor."""
        editor = self.editor
        self._say_blank(cell)
        if isinstance(editor, ChoiceField):
            chosen = cell if isinstance(cell, tuple) else (cell,) if isinstance(cell, int) else ()
            editor.set_chosen(chosen)
        elif isinstance(editor, Select):
            if isinstance(cell, int):
                editor.value = cell
            else:
                editor.clear()
        elif isinstance(editor, SafeInput):
            editor.value = typed(cell)[0] if isinstance(cell, str) else ""
            editor.cursor_position = len(editor.value)
        elif isinstance(editor, SafeText):
            editor.load_text(typed(cell)[0] if isinstance(cell, str) else "")
            editor.move_cursor(editor.document.end)

    def _say_blank(self, cell: Cell) -> None:
        """Show "not sent", "null" or "empty" as the placeholder of a table's cell, which has no label."""
        if self.has_class("cell") and isinstance(self.editor, SafeInput | SafeText):
            is_said = isinstance(cell, Blank) and (
                cell is not Blank.NOT_SENT or not self.field.required
            )
            self.editor.placeholder = cell.value if is_said and isinstance(cell, Blank) else ""

    def relabel(self) -> None:
        """Redraw the label with the current state."""
        field = self.field
        is_row = bool(field.path) and isinstance(field.path[-1], int)  # named by its place
        star = " *" if field.required else ""
        parts: list[Any] = [] if is_row else [safe.line(f"{field.label}{star}", "bold", limit=60)]
        if field.description:
            parts += [("  ", ""), safe.line(field.description, "$c-muted", limit=200)]
        parts += [("   ", ""), safe.line(self.state(), "$c-muted", limit=120)]
        said = Content.assemble(*parts)
        self._label.set_class(not said.plain.strip(), "nothing")
        self._label.say(said)

    def state(self) -> str:
        """The state of the value beyond the editor's text, and its limits."""
        field, cell = self.field, self.cell
        words = [] if field.required else ["optional"]
        if cell is Blank.EMPTY:
            words.append(cell.value)
        elif isinstance(cell, Blank) and not (field.required and not field.nullable):
            words.append(f"{cell.value}{default_text(field, cell)}")
        elif isinstance(cell, str) and field.kind in TEXTS:
            if not cell and not field.required:
                words.append("sent empty")
            if field.length_max is not None and field.kind is not Kind.LINES:
                words.append(f"{len(cell)}/{field.length_max}")
        elif field.kind is Kind.CONST:
            words.append(f"always {field.choices[0].label}")
        if field.pattern:
            words.append(f"matches {field.pattern}")
        if field.suggested:
            words.append(f"suggested: {field.suggested}")
        if is_picked(field):
            words.append(f"one of {len(field.choices)}, enter opens the list, type to find")
        if field.range_text():
            words.append(field.range_text())
        if forms.example(field.kind):
            words.append(f"like {forms.example(field.kind)}")
        if field.kind in (Kind.INTEGER, Kind.NUMBER, Kind.LINES, Kind.JSON):
            words.append(field.kind.value)
        if self.like and not field.required:
            words.append("^n fills in an example")
        elif self.like:
            words.append("^n: an example")
        return ", ".join(words)


def _editor(field: Field, like: str = "") -> Widget | None:
    if field.kind is Kind.UNION:
        return ChoiceField([variant.label for variant in field.variants])
    if is_picked(field):
        # `Text`, because Textual's search through the options skips `Content`.
        options = [
            (Text(one_line(choice.label, 80)), index) for index, choice in enumerate(field.choices)
        ]
        # The prompt is the option for "nothing"; it has no letter, because the search includes it.
        return PickField(options, allow_blank=True, prompt="-", compact=True)
    if field.kind in CHOICES:
        return ChoiceField(
            [choice.label for choice in field.choices], several=field.kind is Kind.MULTI
        )
    if field.kind is Kind.CONST:
        return None
    if field.kind in AREAS:
        text = SafeText(
            tab_behavior="focus", soft_wrap=True, placeholder=safe.line(like, limit=400)
        )
        text.is_cell = any(isinstance(part, int) for part in field.path)
        return text
    return SafeInput(password=field.kind is Kind.SECRET, select_on_focus=False)
