"""`SchemaForm`: a JSON Schema as fields, with JSON as the other view of the same answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Select, Static, TextArea

from helmr import forms
from helmr.errors import BadJson
from helmr.forms import Blank, Built, Cell, Cells, Field, Form, Kind
from helmr.forms.template import template_text
from helmr.jsonio import loads
from helmr.safe_text import one_line, typed
from helmr_console import safe
from helmr_console.forms import check
from helmr_console.forms.about import about, complaint, default_text, is_picked
from helmr_console.widgets.fields import ChoiceField, SafeInput, SafeText

CHOICES = (Kind.CHOICE, Kind.BOOL, Kind.UNION, Kind.MULTI)
TEXTS = (Kind.TEXT, Kind.LONG, Kind.SECRET, Kind.LINES)
AREAS = (Kind.LONG, Kind.LINES, Kind.JSON)


class FieldRow(Vertical):
    """A field: its label, what it is now (not sent, null, so many characters), its editor and its problem."""

    DEFAULT_CSS = """
    FieldRow { height: auto; margin: 0 0 1 0; }
    FieldRow > Static { height: auto; }
    FieldRow > .problem { color: $c-error; display: none; }
    FieldRow.wrong > .problem { display: block; }
    FieldRow > Select { height: auto; }
    """

    class Changed(Message):
        """Something was typed or chosen."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, field: Field, cell: Cell, *, first: Cell, like: str = "") -> None:
        super().__init__()
        self.field = field
        self.first = first
        self.like = like
        self.cell: Cell = cell
        self._label = Static(markup=False)
        self._problem = Static(classes="problem", markup=False)
        self.editor = _editor(field, like)

    def compose(self) -> ComposeResult:
        """Label, editor, problem."""
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
            self._into_editor(cell)
        self._relabel()

    def cycle_blank(self) -> None:
        """The next of: not sent, empty, null; what the field allows."""
        field = self.field
        states: list[Cell] = [] if field.required else [Blank.NOT_SENT]
        if field.kind in TEXTS:
            states.append("")
        if self.like:
            states.append(forms.pretty(loads(self.like)))
        if field.nullable:
            states.append(Blank.NULL)
        if not states:
            return
        place = states.index(self.cell) if self.cell in states else -1
        self.put(states[(place + 1) % len(states)])
        self.post_message(self.Changed(self))

    def say(self, problem: str) -> None:
        """Show what is wrong with this field, or nothing."""
        self.set_class(bool(problem), "wrong")
        self._problem.update(safe.line(f"! {problem}", limit=200) if problem else Content(""))

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """What this field is and takes."""
        return f"The field {self.field.label}", tuple(about(self.field))

    def text(self) -> str | None:
        """The text of a text field, for the editor; None for others."""
        if isinstance(self.cell, str):
            return self.cell
        return "" if self.field.kind in (*TEXTS, Kind.JSON) else None

    def on_input_changed(self, event: Input.Changed) -> None:
        """Typed on one line."""
        event.stop()
        empty = not event.value and self.field.kind not in TEXTS and not self.field.required
        self._typed(Blank.NOT_SENT if empty else event.value)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Typed in several lines."""
        event.stop()
        text = event.text_area.text
        empty = not text and self.field.kind is Kind.JSON and not self.field.required
        self._typed(Blank.NOT_SENT if empty else text)

    def on_select_changed(self, event: Select.Changed) -> None:
        """Picked from a list."""
        event.stop()
        value = event.value
        self._typed(value if isinstance(value, int) else Blank.NOT_SENT)

    def on_choice_field_changed(self, event: ChoiceField.Changed) -> None:
        """Chosen."""
        event.stop()
        chosen = sorted(event.field.chosen)
        self._typed(tuple(chosen) if event.field.several else chosen[0])

    def _typed(self, cell: Cell) -> None:
        self.cell = cell
        self.say(complaint(self.field, cell))
        self._relabel()
        self.post_message(self.Changed(self))

    def _into_editor(self, cell: Cell) -> None:
        editor = self.editor
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

    def _relabel(self) -> None:
        field = self.field
        star = " *" if field.required else ""
        parts: list[Any] = [safe.line(f"{field.label}{star}", "bold", limit=60)]
        if field.description:
            parts += [("  ", ""), safe.line(field.description, "$c-muted", limit=200)]
        parts += [("   ", ""), safe.line(self._state(), "$c-muted", limit=120)]
        self._label.update(Content.assemble(*parts))

    def _state(self) -> str:
        field, cell = self.field, self.cell
        words = [] if field.required else ["optional"]
        if isinstance(cell, Blank) and not (field.required and not field.nullable):
            words.append(f"{cell.value}{default_text(field, cell)}")
        elif isinstance(cell, str) and field.kind in TEXTS:
            if not cell and not field.required:
                words.append("sent empty")
            if field.length_max is not None and field.kind is not Kind.LINES:
                words.append(f"{len(cell)}/{field.length_max}")
        elif field.kind is Kind.CONST:
            words.append(f"always {field.choices[0].label}")
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


class SchemaForm(Vertical):
    """The fields of a schema and, behind F2, its JSON."""

    DEFAULT_CSS = """
    SchemaForm { height: auto; }
    SchemaForm > #raw { height: auto; display: none; }
    SchemaForm > #raw > SafeText { height: 12; }
    SchemaForm.raw > #raw { display: block; }
    SchemaForm.raw > #fields { display: none; }
    SchemaForm #fields { height: auto; }
    SchemaForm .group { height: auto; border-left: solid $c-border; padding: 0 0 0 1; margin: 0 0 1 0; }
    SchemaForm .variant { height: auto; display: none; }
    SchemaForm .variant.chosen { display: block; }
    """

    class Changed(Message):
        """The answer is another."""

    def __init__(self, form: Form, cells: Cells | None = None, raw: str | None = None) -> None:
        super().__init__()
        self.form = form
        self._first = forms.first_cells(form)
        self._begun = {**self._first, **(cells or {})}
        self._first_raw = raw
        self.rows: dict[str, FieldRow] = {}
        self._variants: dict[str, list[Vertical]] = {}
        self._raw = SafeText(tab_behavior="focus", soft_wrap=True)
        self._raw_problem = Static(markup=False)

    def compose(self) -> ComposeResult:
        """Fields, and the JSON behind them."""
        with Vertical(id="fields"):
            yield from self._widgets(self.form.root)
        with Vertical(id="raw"):
            yield Static(Content.styled("answer as JSON", "bold"))
            yield self._raw
            yield self._raw_problem

    def on_mount(self) -> None:
        """A draft typed as JSON opens as JSON."""
        self._show_variants()
        if self._first_raw is not None:
            self._open_raw(self._first_raw)

    # --- what is typed

    @property
    def is_raw(self) -> bool:
        """Whether the JSON is shown."""
        return self.has_class("raw")

    @property
    def raw_text(self) -> str | None:
        """The JSON as typed; None while the fields are shown."""
        return self._raw.text if self.is_raw else None

    def cells(self) -> Cells:
        """What the fields hold."""
        return {key: row.cell for key, row in self.rows.items()}

    def drafted(self) -> Cells:
        """What may be kept on disk: everything but secrets."""
        return {k: row.cell for k, row in self.rows.items() if row.field.kind is not Kind.SECRET}

    def is_touched(self) -> bool:
        """Whether anything differs from an empty form."""
        return self.is_raw or self.cells() != forms.first_cells(self.form)

    def result(self) -> Built:
        """The JSON, with everything wrong by field key; the schema is checked when the fields are well."""
        if self.is_raw:
            try:
                data = loads(self._raw.text)
            except BadJson as error:
                return Built(None, {"$": error.message})
            return Built(data, check.problems(self.form.schema, data))
        built = forms.build(self.form, self.cells())
        if built.problems:
            return built
        return Built(built.data, self._by_key(check.problems(self.form.schema, built.data)))

    def show_problems(self, problems: Mapping[str, str]) -> str:
        """Put each at its field; what belongs to none is returned as text. The first field gets the focus."""
        by_key = self._by_key(problems)
        for key, row in self.rows.items():
            row.say(by_key.get(key, ""))
        rest = [
            f"{k}: {v}" if k != "$" else v
            for k, v in by_key.items()
            if k not in self.rows or self.is_raw
        ]
        text = "; ".join(rest)
        self._raw_problem.update(safe.line(f"! {text}" if text else "", "$c-error", limit=300))
        first = next((row for key, row in self.rows.items() if key in by_key), None)
        if not self.is_raw and first is not None and first.editor is not None:
            first.editor.focus()
        return "" if self.is_raw else text

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """The JSON view; fields speak for themselves."""
        return "The answer as JSON", (
            "judged against the schema as you type; what is wrong stands below it",
            "F2 goes back to the fields if they can show it; what they can't is sent as it stands here",
        )

    # --- actions

    def toggle_raw(self) -> str:
        """Show the JSON or the fields; returns why not, if not."""
        if not self.is_raw:
            secret = next((r for r in self.rows.values() if r.field.kind is Kind.SECRET), None)
            if secret is not None and isinstance(secret.cell, str) and secret.cell:
                return f"{secret.field.label} is a secret; as JSON it would be shown"
            self._open_raw(forms.pretty(forms.build(self.form, self.cells()).data))
            return ""
        try:
            data = loads(self._raw.text)
        except BadJson as error:
            return f"no fields yet: {error.message}"
        cells = forms.fill(self.form, data)
        if cells is None:
            return "the fields can't show this JSON; it can be sent as it is"
        for key, row in self.rows.items():
            row.put(cells.get(key, row.first))
        self.remove_class("raw")
        self._show_variants()
        self.focus_first()
        self.post_message(self.Changed())
        return ""

    def focused_row(self) -> FieldRow | None:
        """The field that has the focus."""
        focus = self.screen.focused
        return next(
            (row for row in self.rows.values() if focus is not None and row.editor is focus), None
        )

    def focused_text(self) -> tuple[str, str] | None:
        """The text in focus and its file suffix, for the editor."""
        if self.is_raw:
            return self._raw.text, ".json"
        row = self.focused_row()
        text = row.text() if row is not None and row.field.kind is not Kind.SECRET else None
        if row is None or text is None:
            return None
        return text, ".json" if row.field.kind is Kind.JSON else ".md"

    def set_focused_text(self, text: str) -> int:
        """Take text from the editor; returns how many characters no field can show."""
        text, dropped = typed(text)
        row = self.focused_row()
        if self.is_raw:
            self._raw.load_text(text)
        elif row is not None:
            row.put(text)
        self.post_message(self.Changed())
        return dropped

    def focus_first(self) -> None:
        """Focus what is to be entered first."""
        first = self.first_editor()
        if first is not None:
            first.focus()

    def first_editor(self) -> Widget | None:
        """What is entered first."""
        if self.is_raw:
            return self._raw
        editors = (row.editor for row in self.rows.values())
        return next((one for one in editors if one is not None and one.focusable), None)

    def on_field_row_changed(self, event: FieldRow.Changed) -> None:
        """A field changed; a tag also changes which fields there are."""
        event.stop()
        if event.row.field.kind is Kind.UNION:
            self._show_variants()
        self.post_message(self.Changed())

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """The JSON changed: it is judged as it is typed."""
        event.stop()
        if self.is_raw:
            self.show_problems(self.result().problems)
            self.post_message(self.Changed())

    def begin(self, cells: Cells, raw: str | None = None) -> None:
        """Show these instead of what is there; the first field gets the focus."""
        self.remove_class("raw")
        for key, row in self.rows.items():
            row.put(cells.get(key, row.first))
            row.say("")
        self._show_variants()
        if raw is not None:
            self._open_raw(raw)
            return
        self.focus_first()
        self.post_message(self.Changed())

    def first_cells(self) -> Cells:
        """A fresh form."""
        return dict(self._first)

    def left_out(self) -> list[tuple[str, str]]:
        """Fields that are not sent although the schema has a default for them: label and default."""
        if self.is_raw:
            return []
        return [
            (row.field.label, text.removeprefix(": "))
            for row in self.rows.values()
            if _seen(row) and (text := default_text(row.field, row.cell))
        ]

    # --- parts

    def _open_raw(self, text: str) -> None:
        self._raw.load_text(escaped(text))
        self._raw.move_cursor(self._raw.document.end)
        self.add_class("raw")
        self._raw.focus()
        self.post_message(self.Changed())

    def _widgets(self, field: Field) -> Iterable[Widget]:
        if field.kind is Kind.GROUP:
            inner = [widget for child in field.children for widget in self._widgets(child)]
            if not field.path:
                yield from inner
                return
            yield Static(safe.line(field.label, "bold", limit=60))
            yield Vertical(*inner, classes="group")
            return
        first = self._first.get(field.key, Blank.NOT_SENT)
        like = ""
        if field.kind is Kind.JSON and isinstance(self.form.schema, Mapping):
            like = template_text(field.schema, self.form.schema)
        row = FieldRow(field, self._begun.get(field.key, first), first=first, like=like)
        self.rows[field.key] = row
        yield row
        if field.kind is Kind.UNION:
            boxes = []
            for variant in field.variants:
                inside = [widget for child in variant.fields for widget in self._widgets(child)]
                boxes.append(Vertical(*inside, classes="group variant"))
            self._variants[field.key] = boxes
            yield from boxes

    def _show_variants(self) -> None:
        for key, boxes in self._variants.items():
            chosen = self.rows[key].cell
            for index, box in enumerate(boxes):
                box.set_class(index == chosen, "chosen")

    def _by_key(self, problems: Mapping[str, str]) -> dict[str, str]:
        """Problems by path, at the keys of the fields; fields of a variant not chosen have none."""
        return {self._key_of(path): text for path, text in problems.items()}

    def _key_of(self, path: str) -> str:
        if path in self.rows:
            return path
        places = {
            ".".join(row.field.path): key
            for key, row in self.rows.items()
            if row.display and _seen(row)
        }
        while path:
            if path in places:
                return places[path]
            path = path.rpartition(".")[0]
        return "$"


def escaped(text: str) -> str:
    """JSON text with hidden characters as its own escapes: the same JSON, safe to show."""
    return "".join(_escape(char) for char in text)


def _escape(char: str) -> str:
    if char == "\n" or char.isprintable():
        return char
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[place]:02x}{data[place + 1]:02x}" for place in range(0, len(data), 2))


def _seen(row: FieldRow) -> bool:
    return all(node.display for node in row.ancestors_with_self if isinstance(node, Widget))


def _editor(field: Field, like: str = "") -> Widget | None:
    if field.kind is Kind.UNION:
        return ChoiceField([variant.label for variant in field.variants])
    if is_picked(field):
        # As `Text`: Textual's search through the options skips what is `Content`.
        options = [
            (Text(one_line(choice.label, 80)), index) for index, choice in enumerate(field.choices)
        ]
        # The prompt is the option for "nothing"; the search looks there too, so it holds no letter.
        return Select(options, allow_blank=True, prompt="-", compact=True)
    if field.kind in CHOICES:
        return ChoiceField(
            [choice.label for choice in field.choices], several=field.kind is Kind.MULTI
        )
    if field.kind is Kind.CONST:
        return None
    if field.kind in AREAS:
        return SafeText(
            tab_behavior="focus", soft_wrap=True, placeholder=safe.line(like, limit=400)
        )
    return SafeInput(password=field.kind is Kind.SECRET, select_on_focus=False)
