"""The part of a form that goes away when a tool's call is declined: its arguments. What is then asked is why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textual.widget import Widget

from helmr.forms import Cells, Field, Form
from helmr.forms.tool_call import ARGUMENTS, REASON, is_call, is_declined
from helmr_console.widgets.field_row import FieldRow


class Declining:
    """Shows or hides the arguments of one form's call.

    Args:
        form: The form; in one that asks leave for no call nothing is ever hidden.
        rows: Its fields by key.
    """

    def __init__(self, form: Form, rows: Mapping[str, FieldRow]) -> None:
        self._form = form
        self._rows = rows
        self._is_call = is_call(form.schema, form.initial)
        self._widgets: list[Widget] = []
        self._declined = False
        self._led_to: FieldRow | None = None

    def seen(self, field: Field, widgets: Iterable[Widget]) -> list[Widget]:
        """The widgets of a field, remembered if they are the arguments."""
        made = list(widgets)
        if self._is_call and field.path == (ARGUMENTS,):
            self._widgets = made
        return made

    def show(self, cells: Cells) -> bool:
        """Hide or show the arguments as these cells say; whether the call has just been declined."""
        was, self._declined = self._declined, self._is_call and is_declined(self._form, cells)
        for widget in self._widgets:
            widget.display = not self._declined
        return self._declined and not was

    def ask_why(self) -> None:
        """The reason has the focus."""
        reason = self._rows.get(REASON)
        if reason is not None and reason.editor is not None:
            reason.editor.focus()
            self._led_to = reason

    def is_there_already(self) -> bool:
        """Whether a tab is nothing: the choice before it has led to where it was to lead."""
        row, self._led_to = self._led_to, None
        if row is None or row.editor is None or not row.editor.has_focus:
            return False
        return not (isinstance(row.cell, str) and row.cell)
