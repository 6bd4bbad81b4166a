"""`SchemaForm`: a JSON Schema as fields, with JSON as another view of the same answer.

Keys add, remove and move the rows of its lists. The arguments of a tool call are folded, because the call stands above
the form; when it is declined they disappear, and the form asks for the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from helmr.errors import BadJson
from helmr.person import forms
from helmr.person.forms import Built, Cell, Cells, Field, Form, Kind
from helmr.person.forms.template import template_text
from helmr.person.forms.tool_call import ARGUMENTS, REASON, is_call, is_declined, tool_call
from helmr.wire.jsonio import loads
from helmr.wire.safe_text import typed
from helmr_console import form_fields, safe
from helmr_console.form_fields import default_text
from helmr_console.widgets.field_row import FieldRow, SafeText, enter
from helmr_console.widgets.list_field import AddRow, ListField, RowBox
from helmr_console.widgets.panes import StillText
from helmr_console.widgets.table_field import TableField


class CallArguments:
    """Folds the arguments of a form's tool call behind a key, and hides them once the call is declined.

    Args:
        form: The form; without a tool call nothing is hidden.
        rows: Its fields by key.
    """

    def __init__(self, form: Form, rows: Mapping[str, FieldRow]) -> None:
        self._form = form
        self._rows = rows
        self._is_call = is_call(form.schema, form.initial)
        self._first = forms.first_cells(form)
        self._widgets: list[Widget] = []
        self._folded = StillText(classes="folded")
        self._is_declined = self._is_open = False
        self._led_to: FieldRow | None = None

    def seen(self, field: Field, widgets: Iterable[Widget]) -> list[Widget]:
        """Return the widgets of a field; remember and fold those of the arguments."""
        made = list(widgets)
        if not self._is_call or field.path != (ARGUMENTS,):
            return made
        self._widgets = made
        call = tool_call(self._form)
        what = safe.line(f"  changes what {call.tool if call else ''} is called with", "$c-muted")
        self._folded.say(Content.assemble(("e", "bold $c-accent"), what))
        return [self._folded, *made]

    @property
    def is_folded(self) -> bool:
        """True while arguments are folded."""
        return bool(self._widgets) and not self._is_open and not self._is_declined

    def show(self, cells: Cells) -> bool:
        """Hide or show the arguments to match these cells; return True if the call was just declined.

        Changed arguments stay unfolded.
        """
        was, self._is_declined = (
            self._is_declined,
            self._is_call and is_declined(self._form, cells),
        )
        self._is_open = self._is_open or self._is_changed(cells)
        self._apply()
        return self._is_declined and not was

    def open(self) -> Widget | None:
        """Unfold the arguments; return their first editor."""
        self._is_open = True
        self._apply()
        editors = (row.editor for key, row in self._rows.items() if _is_argument(key))
        return next((one for one in editors if one is not None and one.focusable), None)

    def _apply(self) -> None:
        self._folded.display = self.is_folded
        for widget in self._widgets:
            widget.display = self._is_open and not self._is_declined

    def _is_changed(self, cells: Cells) -> bool:
        keys = {key for key in (*cells, *self._first) if _is_argument(key)}
        return any(cells.get(key) != self._first.get(key) for key in keys)

    def ask_why(self) -> None:
        """Focus the reason."""
        reason = self._rows.get(REASON)
        if reason is not None and reason.editor is not None:
            reason.editor.focus()
            self._led_to = reason

    def is_there_already(self) -> bool:
        """True once, if the choice just before already moved the focus to the reason; a tab then does nothing."""
        row, self._led_to = self._led_to, None
        if row is None or row.editor is None or not row.editor.has_focus:
            return False
        return not (isinstance(row.cell, str) and row.cell)


def _is_argument(key: str) -> bool:
    return key == ARGUMENTS or key.startswith((f"{ARGUMENTS}.", f"{ARGUMENTS}@"))


class RowActions(Vertical):
    """Adds, removes and moves rows of a form's lists; acts on the innermost list with the focus.

    Only `add_row` also works without the focus in a list: on the next list below.
    """

    form: Form

    class RowRefused(Message):
        """Sent when a row can't be added; `why` gives the reason."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def cells(self) -> Cells:
        """Values of all fields, by key."""
        raise NotImplementedError

    @property
    def is_raw(self) -> bool:
        """True while the JSON is shown in place of the fields."""
        raise NotImplementedError

    def rows_changed(self) -> None:
        """Act after a row was added."""

    def focused_list(self) -> tuple[ListField, RowBox | None] | None:
        """The innermost list with the focus, and its row; None as row on the line that adds one."""
        focus = self.screen.focused
        if focus is None or self.is_raw:
            return None
        around = next((one for one in focus.ancestors if isinstance(one, ListField)), None)
        return (around, around.box_around(focus)) if around is not None else None

    def list_at_hand(self) -> tuple[ListField, RowBox | None] | None:
        """The list with the focus and its row; without one, the next list below."""
        found = self.focused_list()
        if found is not None or self.is_raw:
            return found
        chain, focus = self.screen.focus_chain, self.screen.focused
        below = chain[chain.index(focus) + 1 :] if focus in chain else chain
        for part in below:
            around = [one for one in part.ancestors if isinstance(one, ListField)]
            if around:
                return around[-1], None
        return None

    async def add_row(self) -> str:
        """Add a row after the one with the focus, or at the end, and focus it; return why not, else empty."""
        found = self.list_at_hand()
        if found is None:
            return "there is no list of rows here or below"
        field, box = found
        why_not = forms.room(self.form, field.field, self.cells())
        if why_not:
            return f"{why_not}; F2 takes it as JSON" if "shows" in why_not else why_not
        added = await field.add(box)
        self.rows_changed()
        self._focus_row(field, added)
        return ""

    async def remove_row(self) -> str:
        """Remove the row with the focus, or the last one; return why not, else empty."""
        found = self.focused_list()
        field, box = found if found is not None else (None, None)
        if field is not None and box is None and field.numbers:
            box = field.box(field.numbers[-1])
        if field is None or box is None:
            return "no row has the focus"
        is_inside = found is not None and found[1] is not None
        left = await field.take_away(box)
        self._focus_row(field, left if is_inside else None)
        return ""

    def move_row(self, by: int) -> str:
        """Move the row with the focus down (1) or up (-1); return why not, else empty."""
        found = self.focused_list()
        if found is None or found[1] is None:
            return "no row has the focus"
        if not found[0].move(found[1], by):
            return "it is there already"
        focus = self.screen.focused
        assert focus is not None, "it is in that row"
        self._show_when_laid_out(focus)
        return ""

    def _focus_row(self, field: ListField, box: RowBox | None) -> None:
        editors = box.editors() if box is not None else []
        target = editors[0] if editors else field.editor
        if target is not None:
            enter(target)
            self._show_when_laid_out(target)

    def _show_when_laid_out(self, target: Widget) -> None:
        """Scroll to a widget after the layout, which also decides the next field at Tab; the next key waits for it."""
        self.call_after_refresh(target.scroll_visible, animate=False)

    async def on_add_row_pressed(self, event: AddRow.Pressed) -> None:
        """Add a row on enter on the last line of a list."""
        event.stop()
        why_not = await self.add_row()
        if why_not:
            self.post_message(self.RowRefused(why_not))


SHORT_FIELDS = 4
"""Most fields of a form that leaves the wider side of the screen to the question."""


class SchemaForm(RowActions):
    """The fields of a schema and, behind F2, its JSON."""

    DEFAULT_CSS = """
    SchemaForm { height: auto; }
    SchemaForm > #raw { height: auto; display: none; }
    SchemaForm > #raw > SafeText { height: 12; border: round $c-accent; background: $c-background; }
    SchemaForm.raw > #raw { display: block; }
    SchemaForm.raw > #fields { display: none; }
    SchemaForm #fields { height: auto; }
    SchemaForm .folded { margin: 0 0 1 0; }
    SchemaForm .group { height: auto; border-left: solid $c-border; padding: 0 0 0 1; margin: 0 0 1 0; }
    SchemaForm .variant { height: auto; display: none; }
    SchemaForm .variant.chosen { display: block; }
    """

    class FormChanged(Message):
        """Sent when the answer changes."""

    class ChoiceMade(Message):
        """Sent when a key or a click makes the decision."""

    def __init__(self, form: Form, cells: Cells | None = None, raw: str | None = None) -> None:
        super().__init__()
        self.form = form
        self._first = forms.first_cells(form)
        self._begun = {**self._first, **(cells or {})}
        self._first_raw = raw
        self.rows: dict[str, FieldRow] = {}
        self._variants: dict[str, list[Vertical]] = {}
        self.arguments = CallArguments(form, self.rows)
        self._raw = SafeText(tab_behavior="focus", soft_wrap=True)
        self._raw_problem = StillText()

    def compose(self) -> ComposeResult:
        """Compose the fields, and the JSON behind them."""
        with Vertical(id="fields"):
            yield from self.widgets_of(self.form.root)
        with Vertical(id="raw"):
            yield Static(Content.styled("answer as JSON", "bold"))
            yield self._raw
            yield self._raw_problem

    def on_mount(self) -> None:
        """Show the fields, or the JSON if the draft was JSON."""
        self._show_variants()
        self.arguments.show(self.cells())
        if self._first_raw is not None:
            self._open_raw(self._first_raw)

    # --- the input

    @property
    def is_short(self) -> bool:
        """True if the form is short enough to leave the wider side to the question."""
        return len(self.rows) <= SHORT_FIELDS and all(
            row.field.kind not in (Kind.ROWS, Kind.JSON, Kind.LINES) for row in self.rows.values()
        )

    @property
    def is_raw(self) -> bool:
        """True while the JSON is shown."""
        return self.has_class("raw")

    @property
    def raw_text(self) -> str | None:
        """The JSON as typed; None while the fields are shown."""
        return self._raw.text if self.is_raw else None

    def cells(self) -> Cells:
        """Values of all fields, by key, also of drawn rows of tables."""
        found = {key: cell for table in self._tables() for key, cell in table.inside.items()}
        return {**found, **{key: row.cell for key, row in self.rows.items()}}

    def drafted(self) -> Cells:
        """Values that may be kept on disk: all but secrets."""
        cells = self.cells()
        secrets = {key for key, _ in self._secrets(cells)}
        return {key: cell for key, cell in cells.items() if key not in secrets}

    def is_touched(self) -> bool:
        """True if anything differs from a fresh form."""
        return self.is_raw or self.cells() != self._first

    def result(self) -> Built:
        """The JSON, or its problems by field key; the schema is checked once each field is valid."""
        if self.is_raw:
            try:
                data = loads(self._raw.text)
            except BadJson as error:
                return Built(None, {"$": error.message})
            return Built(data, form_fields.problems(self.form.schema, data))
        built = forms.build(self.form, self.cells())
        if built.problems:
            return built
        return Built(built.data, self._by_key(form_fields.problems(self.form.schema, built.data)))

    def show_problems(self, problems: Mapping[str, str]) -> str:
        """Show problems at their fields and focus the first; return those without a field as text."""
        by_key = self._by_key(problems)
        if any(map(_is_argument, by_key)):
            self.arguments.open()
        if not self.is_raw:
            self._show_row_of(by_key)
        for key, row in self.rows.items():
            row.say(by_key.get(key, ""))
        known = self.cells().keys()
        rest = [
            f"{k}: {v}" if k != "$" else v
            for k, v in by_key.items()
            if k not in known or self.is_raw
        ]
        text = "; ".join(rest)
        self._raw_problem.say(safe.line(f"! {text}" if text else "", "$c-error", limit=300))
        first = next((row for row in self._in_order() if row.field.key in by_key), None)
        editor = first.editor if first is not None and not self.is_raw else None
        if editor is not None and not editor.has_focus:
            enter(editor)
        return "" if self.is_raw else text

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """Help for the JSON view; fields have their own."""
        return "The answer as JSON", (
            "checked against the schema as you type; problems show below",
            "F2 goes back to the fields if they can show this JSON; else it is sent as written here",
        )

    # --- actions

    def toggle_raw(self) -> str:
        """Switch between JSON and fields; return why not, else empty."""
        if not self.is_raw:
            typed_in = self.cells()
            for key, label in self._secrets(typed_in):
                if isinstance(typed_in[key], str) and typed_in[key]:
                    return f"{label} is a secret, and the JSON would show it"
            self._open_raw(forms.pretty(forms.build(self.form, self.cells()).data))
            return ""
        try:
            data = loads(self._raw.text)
        except BadJson as error:
            return f"no fields yet: {error.message}"
        cells = forms.fill(self.form, data)
        if cells is None:
            return "the fields can't show this JSON; it can be sent as it is"
        self.remove_class("raw")
        self._show(cells)
        self.focus_first()
        self.post_message(self.FormChanged())
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
        """Take text from the editor; return the number of characters dropped because no field can show them."""
        text, dropped = typed(text)
        row = self.focused_row()
        if self.is_raw:
            self._raw.load_text(text)
        elif row is not None:
            row.put(text)
        self.post_message(self.FormChanged())
        return dropped

    def focus_first(self, *, scrolls: bool = True) -> None:
        """Focus the first editor, and scroll to it if `scrolls`."""
        first = self.first_editor()
        if first is not None:
            enter(first, scrolls=False)
            if scrolls:
                self._show_when_laid_out(first)

    def first_editor(self) -> Widget | None:
        """The first editor of the form."""
        if self.is_raw:
            return self._raw
        editors = (row.editor for row in self._in_order())
        return next((one for one in editors if one is not None and one.focusable), None)

    def on_field_row_field_changed(self, event: FieldRow.FieldChanged) -> None:
        """Act on a change of a field; a union's tag also changes the fields below it."""
        event.stop()
        if event.row.field.kind is Kind.UNION:
            self._show_variants()
        if event.row.field.is_decision:
            self.post_message(self.ChoiceMade())
            event.row.scroll_visible(animate=False)
            if self.arguments.show(self.cells()):
                self.arguments.ask_why()
        elif _is_argument(event.row.field.key):
            self.arguments.show(self.cells())
        self.post_message(self.FormChanged())

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Judge the JSON as it is typed."""
        event.stop()
        if self.is_raw:
            self.show_problems(self.result().problems)
            self.post_message(self.FormChanged())

    def begin(self, cells: Cells, raw: str | None = None) -> None:
        """Replace the contents, and focus the first field."""
        self.remove_class("raw")
        self._show(cells)
        if raw is not None:
            self._open_raw(raw)
            return
        self.focus_first()
        self.post_message(self.FormChanged())

    def first_cells(self) -> Cells:
        """Values of a fresh form."""
        return dict(self._first)

    def left_out(self) -> list[tuple[str, str]]:
        """Label and default of each field that is not sent and has a default."""
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
        self.post_message(self.FormChanged())

    def _tables(self) -> list[TableField]:
        return [row for row in self.rows.values() if isinstance(row, TableField)]

    def _secrets(self, cells: Cells) -> list[tuple[str, str]]:
        """Keys and labels of secret fields."""
        if not self.form.has_secret:
            return []
        found = forms.present(self.form.root, cells)
        return [(one.key, one.label) for one in found if one.kind is Kind.SECRET]

    def _show_row_of(self, problems: Mapping[str, str]) -> None:
        """Mark table rows with problems, and open the row of the first one."""
        tables = self._tables()
        for table in tables:
            table.say_wrong(problems)
        if not problems or not tables:
            return
        fields = forms.present(self.form.root, self.cells())
        first = next((one.key for one in fields if one.key in problems), None)
        if first is None or first in self.rows:
            return
        for table in tables:
            number = table.number_of(first)
            if number is not None:
                table.go(number)

    def step(self, by: int) -> bool:
        """Tab on (1) or back (-1) from the end of a table's row to another row; False anywhere else."""
        found = self.focused_list()
        return (
            found is not None
            and isinstance(found[0], TableField)
            and found[0].step(self.screen.focused, by)
        )

    def _in_order(self) -> list[FieldRow]:
        """The fields from top to bottom."""
        found = forms.present(self.form.root, self.cells())
        return [self.rows[field.key] for field in found if field.key in self.rows]

    def _show(self, cells: Cells) -> None:
        self._begun = forms.with_rows(self.form, cells)
        for table in self._tables():
            table.inside.clear()
        for key, row in list(self.rows.items()):
            if self.rows.get(key) is row:  # not removed with its row of a list
                row.put(self._begun.get(key, row.first))
                row.say("")
        self._show_variants()
        self.arguments.show(self.cells())

    def widgets_of(self, field: Field) -> Iterable[Widget]:
        """Yield the widgets of a field, its label first."""
        if field.kind is Kind.GROUP:
            inner = [widget for child in field.children for widget in self._of_child(child)]
            # The root needs no label, and a row has its number.
            if not field.path or isinstance(field.path[-1], int):
                yield from inner
                return
            yield Static(safe.line(field.label, "bold", limit=60))
            yield Vertical(*inner, classes="group")
            return
        row = self.rows[field.key] = self._row_of(field)
        yield row
        if field.kind is Kind.UNION:
            boxes = []
            for variant in field.variants:
                inside = [widget for child in variant.fields for widget in self.widgets_of(child)]
                boxes.append(Vertical(*inside, classes="group variant"))
            self._variants[field.key] = boxes
            yield from boxes

    def _of_child(self, field: Field) -> list[Widget]:
        return self.arguments.seen(field, self.widgets_of(field))

    def _row_of(self, field: Field) -> FieldRow:
        first = self._first.get(field.key, forms.first_cell(field))
        cell = self._begun.get(field.key, first)
        if field.kind is Kind.ROWS:
            made = TableField if field.is_table else ListField
            return made(field, cell, first=first, judge=self._judge, maker=self)
        like = ""
        if field.kind is Kind.JSON and isinstance(self.form.schema, Mapping):
            like = template_text(field.schema, self.form.schema)
        return FieldRow(field, cell, first=first, judge=self._judge, like=like)

    def begun_with(self, field: Field) -> Cell:
        """Initial value of a field of this form."""
        return self._begun.get(field.key, self._first.get(field.key, forms.first_cell(field)))

    def becomes(self, row: FieldRow, field: Field, cell: Cell) -> None:
        """Reuse the widgets of a field for the same field of another row."""
        self.rows.pop(row.field.key, None)
        row.field, row.first = field, self._first.get(field.key, forms.first_cell(field))
        self.rows[field.key] = row
        row.put(cell)
        row.say("")

    def forget(self, field: Field) -> None:
        """Forget the fields of a removed row."""
        for one in forms.present(field, self.cells()):
            self.rows.pop(one.key, None)
            self._variants.pop(one.key, None)

    def _judge(self, field: Field, cell: Cell) -> str:
        return form_fields.problem(field, cell, self.form.schema)

    def rows_changed(self) -> None:
        """Update the unions, in which a new row has nothing chosen yet."""
        self._show_variants()

    def _show_variants(self) -> None:
        for key, boxes in self._variants.items():
            chosen = self.rows[key].cell
            for index, box in enumerate(boxes):
                box.set_class(index == chosen, "chosen")

    def _by_key(self, problems: Mapping[str, str]) -> dict[str, str]:
        """Map problems from paths to keys of fields; fields of variants not chosen have none."""
        if not problems:
            return {}
        cells = self.cells()
        found = {
            ".".join(str(part) for part in where): field.key
            for where, field in forms.places(self.form, cells).items()
            if field.key in cells
        }
        return {self._key_of(path, cells, found): text for path, text in problems.items()}

    @staticmethod
    def _key_of(path: str, cells: Cells, found: Mapping[str, str]) -> str:
        if path in cells:
            return path
        while path:
            if path in found:
                return found[path]
            path = path.rpartition(".")[0]
        return "$"


def escaped(text: str) -> str:
    """JSON text with hidden characters as JSON escapes: the same value, safe to show."""
    return "".join(_escape(char) for char in text)


def _escape(char: str) -> str:
    if char == "\n" or char.isprintable():
        return char
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[place]:02x}{data[place + 1]:02x}" for place in range(0, len(data), 2))


def _seen(row: FieldRow) -> bool:
    return all(node.display for node in row.ancestors_with_self if isinstance(node, Widget))
