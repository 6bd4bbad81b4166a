"""The form of a page that sends: its fields, its draft, the JSON beside it, and filling it as last time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from textual.app import App
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from helmr.models import WaitInfo
from helmr.person.forms import Built, Cells, Form, redacted
from helmr.person.review.personal import AnswerDraft, Beginning, beginning
from helmr.person.review.sending import SendPhase, Submission
from helmr.person.review.words import diff, summary
from helmr_console.console import Console
from helmr_console.widgets.asked_text import AsidePane
from helmr_console.widgets.details import preview
from helmr_console.widgets.field_row import enter
from helmr_console.widgets.form import SchemaForm

DRAFT_DELAY_S = 0.4
"""Pause in typing after which the draft is written, in seconds."""
DIFF_LINES = 12


async def begun_with(console: Console, name: str | None, form: Form) -> Beginning:
    """Initial contents of a form: the draft of this name, if there is one, else the schema's."""
    draft = None
    if name is not None:
        draft = await asyncio.to_thread(console.files.drafts.load, name, form.schema_hash)
    return beginning(draft, form)


class FormPage(Protocol):
    """The page that holds a form."""

    submission: Submission
    slot: Vertical

    @property
    def console(self) -> Console: ...
    @property
    def app(self) -> App[object]: ...
    @property
    def is_attached(self) -> bool: ...
    @property
    def focused(self) -> Widget | None: ...
    def draft_name(self) -> str | None: ...
    def result(self) -> Built: ...
    def focus_form(self, form: SchemaForm) -> None: ...
    def tell(self, texts: Sequence[str], role: str) -> None: ...
    def redraw(self) -> None: ...
    def refresh_bars(self) -> None: ...
    def on_schema_form_form_changed(self) -> None: ...
    def has_class(self, *class_names: str) -> bool: ...
    def toggle_class(self, *class_names: str) -> object: ...
    def set_timer(self, delay: float, callback: Callable[[], None]) -> Timer: ...


class FormEntry:
    """The form of one page, kept as a draft until its answer is accepted.

    Args:
        page: Holds the form, names the draft, and shows problems beyond the fields.
    """

    def __init__(self, page: FormPage) -> None:
        self._page = page
        self.form: SchemaForm | None = None
        self.aside = AsidePane("Context", id="context")
        self.state = ""
        """The draft's state, in words."""
        self.last_of: WaitInfo | None = None
        """The wait for which the last similar answer is looked up."""
        self._discarded: tuple[Cells, str | None] | None = None
        self._filled: tuple[Cells, Cells] | None = None
        """Contents before the form was filled as last time, and those it was filled with."""
        self._before_aside: Widget | None = None
        self._timer: Timer | None = None
        self._drafting = asyncio.Lock()

    async def show(self, form: Form) -> None:
        """Mount the form, with an earlier draft if there is one."""
        page = self._page
        begun = await begun_with(page.console, page.draft_name(), form)
        if not page.is_attached:
            return  # the operator left while the draft was read
        self.form = SchemaForm(form, begun.cells, begun.raw)
        await page.slot.mount(self.form)
        self.stands(begun)

    def stands(self, begun: Beginning) -> None:
        """Begin filling a form that is in place."""
        assert self.form is not None, "a form is in place"
        page = self._page
        if begun.operation_id is not None:
            page.submission.resume(begun.operation_id)
        page.submission.phase = SendPhase.FORM
        if begun.note:
            undo = "; F9 discards it" if begun.operation_id is None else ""
            page.tell((begun.note + undo,), "warning")
        page.focus_form(self.form)
        page.redraw()

    async def remove(self) -> None:
        """Remove the form, to make room for another."""
        if self.form is not None:
            await self.form.remove()
        self.form = None

    @property
    def filling(self) -> SchemaForm | None:
        """The form while it is being filled; None during a review."""
        return self.form if self._page.submission.phase is SendPhase.FORM else None

    @property
    def can_discard(self) -> bool:
        """True if there are contents to discard, or discarded ones to bring back."""
        form = self.filling
        return self._discarded is not None or (form is not None and form.is_touched())

    def preview(self) -> list[Content]:
        """The current JSON, and whether it fits the schema."""
        return preview(self.filling) if self.filling is not None else []

    # --- the draft

    def changed(self) -> None:
        """Note a change; write the draft when typing rests."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._page.set_timer(DRAFT_DELAY_S, self._keep_soon)

    def _keep_soon(self) -> None:
        self._page.console.background.start(self.keep(), group="draft")

    async def keep(self, *, sent: bool = False) -> None:
        """Write the draft now, but never after the answer was accepted, even if a change is reported late."""
        page = self._page
        name, outcome = page.draft_name(), page.submission.outcome
        if name is None or self.form is None or not (self.form.is_touched() or sent):
            return
        if outcome is not None and outcome.is_done:
            return
        is_operation = sent or page.submission.tried
        draft = self.draft_of(name, page.submission.operation_id if is_operation else None)
        async with self._drafting:
            try:
                await asyncio.to_thread(page.console.files.drafts.save, draft)
                self.state = "draft saved"
            except OSError as error:
                self.state = f"draft NOT saved: {error.strerror}"
        page.refresh_bars()

    def draft_of(self, name: str, operation_id: str | None) -> AnswerDraft:
        """The contents as a draft of this name."""
        assert self.form is not None, "something was entered"
        form = self.form.form
        return AnswerDraft(
            wait_id=name,
            schema_hash=form.schema_hash,
            cells=self.form.drafted(),
            raw=None if form.has_secret else self.form.raw_text,
            operation_id=operation_id,
            schema=form.schema,
        )

    async def drop(self) -> None:
        """Forget the draft."""
        if self._timer is not None:
            self._timer.stop()
        name = self._page.draft_name()
        if name is not None:
            async with self._drafting:
                await asyncio.to_thread(self._page.console.files.drafts.discard, name)

    # --- actions

    def do_raw(self) -> None:
        """Switch between fields and JSON; in a review, between texts and JSON."""
        page = self._page
        submission = page.submission
        if submission.phase is SendPhase.REVIEW and submission.spelled:
            submission.is_json = not submission.is_json
            page.redraw()
        elif self.filling is not None:
            why_not = self.filling.toggle_raw()
            if why_not:
                page.console.say(why_not, "warning")
            page.redraw()

    def do_context(self) -> None:
        """Show or hide the context where there is no room for both, and restore the focus."""
        page = self._page
        if not page.has_class("aside"):
            self._before_aside = page.focused
        page.toggle_class("aside")
        page.app.call_after_refresh(page.redraw)  # at its new size
        if not page.has_class("aside") and self._before_aside is not None:
            # A hidden field loses the focus.
            page.app.call_after_refresh(self._before_aside.focus)

    def do_blank(self) -> None:
        """Switch the field between not sent, empty and null."""
        row = self.form.focused_row() if self.form is not None else None
        if row is not None:
            row.cycle_blank()

    def do_arguments(self) -> None:
        """Open the arguments of a call, to change them."""
        first = self.filling.arguments.open() if self.filling is not None else None
        if first is not None:
            self._page.app.call_after_refresh(enter, first)

    def do_reset(self) -> None:
        """Reset the field to its first value."""
        row = self.form.focused_row() if self.form is not None else None
        if row is not None:
            row.put(row.first)
            self._page.on_schema_form_form_changed()

    async def do_row_add(self) -> None:
        """Add a row after this one."""
        if self.filling is not None:
            self.say_why_not(await self.filling.add_row())

    async def do_row_remove(self) -> None:
        """Remove this row."""
        if self.filling is not None:
            self.say_why_not(await self.filling.remove_row())

    def do_row_up(self) -> None:
        """Move this row up."""
        self._move_row(-1)

    def do_row_down(self) -> None:
        """Move this row down."""
        self._move_row(1)

    def _move_row(self, by: int) -> None:
        if self.filling is not None:
            self.say_why_not(self.filling.move_row(by))

    def say_why_not(self, why_not: str) -> None:
        """Show why a row could not be added, removed or moved; nothing if the text is empty."""
        if why_not:
            self._page.console.say(f"Row: {why_not}", "warning")

    def do_discard(self) -> None:
        """Empty the form and drop the draft; pressed again, bring the contents back."""
        page, form = self._page, self.filling
        if form is None:
            return
        if self._discarded is not None and not form.is_touched():
            cells, raw = self._discarded
            self._discarded = None
            form.begin(cells, raw)
            page.tell(("brought back",), "muted")
            return
        self._discarded = (form.cells(), form.raw_text)
        form.begin(form.first_cells())
        self.state = "draft discarded"
        page.tell(("draft discarded; F9 brings it back",), "muted")
        page.console.background.start(self.drop(), group="draft")

    def do_editor(self) -> None:
        """Edit the focused text in $EDITOR."""
        console = self._page.console
        found = self.form.focused_text() if self.form is not None else None
        if found is None or self.form is None:
            console.say("this field is not a text", "warning")
            return
        edited = console.edit(found[0], found[1])
        if edited is not None:
            dropped = self.form.set_focused_text(edited)
            if dropped:
                console.say(f"{dropped} control characters were left out", "warning")

    # --- as last time

    def do_as_last(self) -> None:
        """Fill the form as last time, or put back the contents from before; send nothing."""
        form, wait, console = self.filling, self.last_of, self._page.console
        if form is None or wait is None:
            return
        if form.is_raw:
            console.say("As last time fills fields; F2 shows them", "warning")
            return
        console.background.start(self._fill(form, wait), group="last", holds_keys=True)

    async def _fill(self, form: SchemaForm, wait: WaitInfo) -> None:
        page = self._page
        if self._filled is not None and form.cells() == self._filled[1]:
            form.begin(self._filled[0])
            self._filled = None
            page.tell(("put back as it was",), "muted")
            return
        cells = await asyncio.to_thread(page.console.files.last.cells, wait, form.form)
        if cells is None:
            page.console.say("You have answered no wait like this on this machine", "information")
            return
        was, before = form.result().data, form.cells()
        form.begin({**cells, **_secrets(form)})
        self._filled = (before, form.cells())
        page.tell(_said(redacted(form.form, was), redacted(form.form, form.result().data)), "muted")


def _secrets(form: SchemaForm) -> Cells:
    """Contents of secret fields, which no file holds."""
    kept = form.drafted()
    return {key: cell for key, cell in form.cells().items() if key not in kept}


def _said(was: object, now: object) -> Sequence[str]:
    found = [line for line in diff(was, now) if line.sign != " "]
    shown = [f"{line.sign} {line.path}  {line.text}" for line in found[:DIFF_LINES]]
    more = [f"… {len(found) - DIFF_LINES} more"] if len(found) > DIFF_LINES else []
    return (f"as last time: {summary(found)}; ^l puts it back, nothing was sent", *shown, *more)
