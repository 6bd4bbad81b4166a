"""What keys do with the rows of a form's lists: add one, take one away, move one."""

from __future__ import annotations

from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from helmr import forms
from helmr.forms import Cells, Form
from helmr_console.widgets.fields import enter
from helmr_console.widgets.list_field import AddRow, ListField, RowBox


class RowActions(Vertical):
    """A form with lists of rows. The one in which the focus is, is meant, and of nested ones the innermost.

    Only a new row may come to a list that does not have the focus: to the next one below it.
    """

    form: Form

    class Refused(Message):
        """A row can't be added; `why` says why."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def cells(self) -> Cells:
        """What the fields hold."""
        raise NotImplementedError

    @property
    def is_raw(self) -> bool:
        """Whether the JSON is shown in place of the fields."""
        raise NotImplementedError

    def rows_changed(self) -> None:
        """A row came."""

    def focused_list(self) -> tuple[ListField, RowBox | None] | None:
        """The innermost list in which the focus is, and its row; no row on the line that adds one."""
        focus = self.screen.focused
        if focus is None or self.is_raw:
            return None
        around = next((one for one in focus.ancestors if isinstance(one, ListField)), None)
        return (around, around.box_around(focus)) if around is not None else None

    def list_at_hand(self) -> tuple[ListField, RowBox | None] | None:
        """The list in which the focus is, and its row; where it is in none, the next one below it."""
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
        """A row behind the one in which the focus is, or at the end, and the focus into it; returns why not, if not."""
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
        """Without the row in which the focus is, or the last one; returns why not, if not."""
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
        """The row in which the focus is, a place down (1) or up (-1); returns why not, if not."""
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
        """Where rows stand, and with it what comes next at Tab, is known then; the next key waits for it."""
        self.call_after_refresh(target.scroll_visible, animate=False)

    async def on_add_row_pressed(self, event: AddRow.Pressed) -> None:
        """Enter on the last line of a list."""
        event.stop()
        why_not = await self.add_row()
        if why_not:
            self.post_message(self.Refused(why_not))
