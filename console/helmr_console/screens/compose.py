"""What is entered into a form before it is sent: its fields, its draft, the JSON beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget

from helmr.drafts import AnswerDraft, Beginning, beginning
from helmr.forms import Built, Cells, Form, ToolCall, pretty, redacted, tool_call
from helmr.forms.decision import choose_text
from helmr.forms.spelling import spelled
from helmr.safe_text import one_line
from helmr_console.actions import Context
from helmr_console.console import Console
from helmr_console.outcome import Outcome
from helmr_console.screens.submit import SubmitScreen
from helmr_console.submission import SendPhase
from helmr_console.widgets.fields import SafeInput, select_short
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.panes import TextPane, lines
from helmr_console.widgets.review import preview

DRAFT_DELAY_S = 0.4
"""A draft is written when typing rests this long."""


async def begun_with(console: Console, name: str | None, form: Form) -> Beginning:
    """What a form begins with: the draft of this name, if there is one."""
    draft = None
    if name is not None:
        draft = await asyncio.to_thread(console.drafts.load, name, form.schema_hash)
    return beginning(draft, form)


class ComposeScreen(SubmitScreen):
    """A form, kept as a draft until it is accepted.

    Subclasses read its schema in `load` and call `show_form`.
    """

    DEFAULT_CSS = """
    ComposeScreen #context { width: 2fr; height: 1fr; }
    ComposeScreen.-narrow #context { display: none; }
    ComposeScreen.aside #context { display: block; }
    ComposeScreen.-narrow.aside #left { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.form: SchemaForm | None = None
        self.aside = TextPane("Context", id="context")
        self._discarded: tuple[Cells, str | None] | None = None
        self._before_aside: Widget | None = None
        self._draft_timer: Timer | None = None
        self._drafting = asyncio.Lock()

    def beside(self) -> Iterable[Widget]:
        """The context."""
        yield self.aside

    def draft_name(self) -> str | None:
        """What the draft is kept under; None keeps none."""
        return None

    # --- form and draft

    async def show_form(self, form: Form) -> None:
        """Put the form in place, with the draft of an earlier time."""
        begun = await begun_with(self.console, self.draft_name(), form)
        if not self.is_attached:
            return  # left while it was read
        self.form = SchemaForm(form, begun.cells, begun.raw)
        await self.slot.mount(self.form)
        self.form_stands(begun)

    def form_stands(self, begun: Beginning) -> None:
        """The form is in place: it can be filled."""
        assert self.form is not None, "a form is in place"
        if begun.operation_id is not None:
            self.submission.resume(begun.operation_id)
        self.submission.phase = SendPhase.FORM
        if begun.note:
            undo = "; F9 discards it" if begun.operation_id is None else ""
            self.tell((begun.note + undo,), "warning")
        self.focus_form(self.form)
        self.redraw()

    def focus_form(self, form: SchemaForm) -> None:
        """What has the focus when the form is there."""
        form.focus_first()

    def on_schema_form_changed(self) -> None:
        """Typing: the preview follows, the draft is kept when typing rests."""
        self.redraw()
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(DRAFT_DELAY_S, self._keep_soon)

    def focus_next(self, selector: str | type[Widget] = "*") -> Widget | None:
        """What a key leads to is selected if it is short, so that what is typed replaces it."""
        if self.form is not None and self.form.declining.is_there_already():
            return self.focused
        found = super().focus_next(selector)
        select_short(found)
        return found

    def focus_previous(self, selector: str | type[Widget] = "*") -> Widget | None:
        """As `focus_next`."""
        found = super().focus_previous(selector)
        select_short(found)
        return found

    def on_input_submitted(self, event: SafeInput.Submitted) -> None:
        """Enter in a line goes on to the next field."""
        event.stop()
        self.focus_next()

    def _keep_soon(self) -> None:
        self.console.background.start(self.keep(), group="draft")

    async def keep(self, *, sent: bool = False) -> None:
        """Write the draft now; once it was accepted there is none, also for who was told of typing only then."""
        name, outcome = self.draft_name(), self.submission.outcome
        if name is None or self.form is None or not (self.form.is_touched() or sent):
            return
        if outcome is not None and outcome.is_done:
            return
        is_operation = sent or self.submission.tried
        draft = self.draft_of(name, self.submission.operation_id if is_operation else None)
        async with self._drafting:
            try:
                await asyncio.to_thread(self.console.drafts.save, draft)
                self.draft_state = "draft saved"
            except OSError as error:
                self.draft_state = f"draft NOT saved: {error.strerror}"
        self.refresh_bars()

    def draft_of(self, name: str, operation_id: str | None) -> AnswerDraft:
        """What was entered, as the draft of this name."""
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
        if self._draft_timer is not None:
            self._draft_timer.stop()
        name = self.draft_name()
        if name is not None:
            async with self._drafting:
                await asyncio.to_thread(self.console.drafts.discard, name)

    async def _leave(self) -> None:
        await self.keep()
        if self.draft_state and self.form is not None and self.form.is_touched():
            self.console.say(f"Nothing was sent; {self.draft_state}", "information")
        self.dismiss()

    # --- drawing

    def redraw(self) -> None:
        """The context, too."""
        super().redraw()
        if self.is_attached:
            self.aside.say(self.context_content(), "Context")

    def context_content(self) -> Content:
        """What stands beside the form: the JSON that would be sent."""
        return lines(self.preview())

    def preview(self) -> list[Content]:
        """The JSON as it is now, and whether it fits."""
        shown = self.form is not None and self.submission.phase is SendPhase.FORM
        return preview(self.form) if self.form is not None and shown else []

    def context(self) -> Context:
        """What has the focus."""
        form, in_form = self.form, self.submission.phase is SendPhase.FORM
        return replace(
            super().context(),
            has_form=True,
            is_narrow=self.has_class("-narrow"),
            field=form is not None and (form.focused_row() is not None or form.is_raw),
            in_list=in_form and form is not None and form.focused_list() is not None,
            list_below=in_form and form is not None and form.list_at_hand() is not None,
            discardable=self._discarded is not None
            or (in_form and form is not None and form.is_touched()),
        )

    # --- actions

    def do_review(self) -> None:
        """Review; from there send."""
        if self.submission.phase is SendPhase.REVIEW:
            self.send_now()
        elif self.submission.phase is SendPhase.FORM and self.form is not None:
            built = self.checked()
            if built is None:
                return
            hidden = redacted(self.form.form, built.data)
            self.submission.review(
                built.data, pretty(hidden), self.form.left_out(), spelled=spelled(hidden)
            )
            self.remove_class("aside")
            self.set_focus(None)
            self.redraw()
            self.query_one("#left").scroll_home(animate=False)  # it is read from its beginning
            self.reads_from_now()

    def checked(self) -> Built | None:
        """The JSON of the form; None if it is not whole, and what is wrong is said."""
        assert self.form is not None, "a form is filled"
        built = self.result()
        rest = self.form.show_problems(built.problems)
        if not built.problems:
            return built
        self.tell((rest,) if rest else (), "error")
        decision = self.form.form.decision
        if decision is not None and decision.key in built.problems and not self.form.is_raw:
            how = f"{choose_text(decision)} first, by its digit or its first letter"
            self.console.say(one_line(f"Not sent: {how}", 200), "warning")
        else:
            self.console.say(f"{len(built.problems)} field(s) need something else", "warning")
        return None

    def result(self) -> Built:
        """The JSON of the form."""
        return self.form.result() if self.form is not None else Built()

    def tool_call(self) -> ToolCall | None:
        """The call that the form asks leave for; None if it asks for something else."""
        return tool_call(self.form.form) if self.form is not None else None

    def after_refusal(self, outcome: Outcome) -> None:
        """What does not fit is said at its field."""
        if self.form is not None and outcome.problems:
            self.form.show_problems(outcome.problems)

    def do_back(self) -> None:
        """From the context to the form, from review to the form; from the form away, with the draft kept."""
        was = self.submission.phase
        if self.has_class("aside") and was is not SendPhase.SENDING:
            self.do_context()
        elif not self.submission.is_reviewing:
            self.console.background.start(self._leave(), group="draft", holds_keys=True)
        else:
            super().do_back()
            if was is SendPhase.REVIEW and self.form is not None:
                self.form.focus_first()

    def do_raw(self) -> None:
        """JSON, or the fields again; of what is reviewed its texts."""
        if self.submission.phase is SendPhase.REVIEW and self.submission.spelled:
            self.submission.is_json = not self.submission.is_json
            self.redraw()
            return
        if self.form is not None and self.submission.phase is SendPhase.FORM:
            why_not = self.form.toggle_raw()
            if why_not:
                self.console.say(why_not, "warning")
            self.redraw()

    def do_context(self) -> None:
        """Show or hide the context where there is no room for both; what had the focus has it again."""
        if not self.has_class("aside"):
            self._before_aside = self.focused
        self.toggle_class("aside")
        if not self.has_class("aside") and self._before_aside is not None:
            # A field that is not shown loses the focus.
            self.call_after_refresh(self._before_aside.focus)

    def do_blank(self) -> None:
        """Not sent, empty, null."""
        row = self.form.focused_row() if self.form is not None else None
        if row is not None:
            row.cycle_blank()

    def do_reset(self) -> None:
        """The field's first value."""
        row = self.form.focused_row() if self.form is not None else None
        if row is not None:
            row.put(row.first)
            self.on_schema_form_changed()

    async def do_row_add(self) -> None:
        """A row behind this one."""
        if self.form is not None and self.submission.phase is SendPhase.FORM:
            self._say_why_not(await self.form.add_row())

    async def do_row_remove(self) -> None:
        """Without this row."""
        if self.form is not None and self.submission.phase is SendPhase.FORM:
            self._say_why_not(await self.form.remove_row())

    def do_row_up(self) -> None:
        """This row a place up."""
        self._move_row(-1)

    def do_row_down(self) -> None:
        """This row a place down."""
        self._move_row(1)

    def _move_row(self, by: int) -> None:
        if self.form is not None and self.submission.phase is SendPhase.FORM:
            self._say_why_not(self.form.move_row(by))

    def on_row_actions_refused(self, event: SchemaForm.Refused) -> None:
        """A row that could not be added."""
        event.stop()
        self._say_why_not(event.why)

    def _say_why_not(self, why_not: str) -> None:
        if why_not:
            self.console.say(f"Row: {why_not}", "warning")

    def do_discard(self) -> None:
        """The empty form, and no draft; or what was just thrown away."""
        if self.form is None or self.submission.phase is not SendPhase.FORM:
            return
        if self._discarded is not None and not self.form.is_touched():
            cells, raw = self._discarded
            self._discarded = None
            self.form.begin(cells, raw)
            self.tell(("brought back",), "muted")
            return
        self._discarded = (self.form.cells(), self.form.raw_text)
        self.form.begin(self.form.first_cells())
        self.draft_state = "draft discarded"
        self.tell(("draft discarded; F9 brings it back",), "muted")
        self.console.background.start(self.drop(), group="draft")

    def do_editor(self) -> None:
        """The text in focus through $EDITOR."""
        found = self.form.focused_text() if self.form is not None else None
        if found is None or self.form is None:
            self.console.say("this field is not a text", "warning")
            return
        edited = self.console.edit(found[0], found[1])
        if edited is not None:
            dropped = self.form.set_focused_text(edited)
            if dropped:
                self.console.say(f"{dropped} control characters were left out", "warning")
