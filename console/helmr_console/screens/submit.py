"""The base of all screens that send: input, review, sending, and the outcome.

Ctrl+s reviews, ctrl+s again sends. Nothing leaves before its review, unless it can be taken back, and the input stays
until it is accepted. `helmr.person.review.sending` decides what a key does and when.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from helmr.errors import HelmrError
from helmr.models import AnswerReceipt, WaitInfo
from helmr.person.forms import Built, ToolCall, pretty, redacted, tool_call
from helmr.person.forms.model import choose_text
from helmr.person.forms.template import spelled
from helmr.person.review.outcome import AnswerOutcome, Result, of_error, of_receipt
from helmr.person.review.personal import AnswerDraft
from helmr.person.review.sending import LOOKS_S, READS_S, SEES_S, Press, SendPhase, Submission
from helmr.wire import ids
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionContext, ActionScope, NotPermitted, Permit
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.entry import FormEntry
from helmr_console.widgets.details import review
from helmr_console.widgets.field_row import PasteCut, SafeInput, select_short
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.panes import StillText, lines

TOO_SOON = "Not sent: typed before this could be read; wait a second, then ^s sends it"

Received = AnswerReceipt | AnswerOutcome
"""The reply to a send."""


class SubmitScreen(ConsoleScreen):
    """A screen whose content is reviewed and sent.

    Subclasses give the facts, the effects and `deliver`. One with a form has an `entry`, reads its schema in `load` and
    calls `entry.show`.
    """

    SCOPES: tuple[str, ...] = (ActionScope.ANYWHERE, ActionScope.FORM)
    BINDINGS = bindings(*SCOPES)
    ACTION = ""
    TITLE_TEXT = ""
    IS_REVIEW = False
    """True where the page is itself a review: the confirming key sends."""
    is_one_of_many = False
    """True where the key that confirms this form confirmed another just before."""
    HOLDS_KEYS = True
    """Keys wait for the reply, which decides whether they go to the form or to the screen below."""
    deliver: Callable[[Permit, Any], Awaitable[Received]]
    """Sends the input as operation `submission.operation_id`. A screen that sends otherwise overrides `_send`."""
    DEFAULT_CSS = """
    SubmitScreen #middle { layout: horizontal; height: 1fr; }
    SubmitScreen #left { width: 3fr; height: 1fr; border: round $c-accent; padding: 0 1;
                         border-title-color: $c-foreground; border-subtitle-color: $c-muted;
                         scrollbar-size-vertical: 1; }
    SubmitScreen #left Static { height: auto; }
    SubmitScreen #banner { display: none; margin: 0 0 1 0; }
    SubmitScreen.said #banner { display: block; }
    SubmitScreen #slot { height: auto; margin: 1 0 0 0; }
    SubmitScreen #review { display: none; height: auto; margin: 1 0 0 0; }
    SubmitScreen.reviewing #review { display: block; }
    SubmitScreen.reviewing #slot { display: none; }
    SubmitScreen #context { width: 2fr; height: 1fr; }
    SubmitScreen.-narrow #context { display: none; }
    SubmitScreen.aside #context { display: block; }
    SubmitScreen.-narrow.aside #left { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.submission = Submission(ids.new_id(ids.OPERATION))
        self.entry: FormEntry | None = None
        self._drawings = 0
        self.facts_text = StillText(id="facts")
        self.banner = StillText(id="banner")
        self.review_text = StillText(id="review")
        self.slot = Vertical(id="slot")

    def body(self) -> Iterable[Widget]:
        """The facts, the message, and the input or its review."""
        left = VerticalScroll(
            *self.first(),
            self.facts_text,
            self.banner,
            self.slot,
            self.review_text,
            id="left",
            can_focus=False,
        )
        left.border_title = safe.line(self.TITLE_TEXT, limit=60)
        yield Container(*self.above(), left, *self.beside(), id="middle")

    def on_mount(self) -> None:
        """Call `opens`, which subclasses override; Textual calls `on_mount` of every class."""
        self.opens()

    def opens(self) -> None:
        """Start `load`."""
        self.console.background.start(
            self.load(), group="load", holds_keys=True, on_error=self._not_loaded
        )

    # --- for subclasses

    async def load(self) -> None:
        """Read the data and fill the slot; keys wait until this ends."""

    def above(self) -> Iterable[Widget]:
        """Widgets before the left column."""
        return ()

    def first(self) -> Iterable[Widget]:
        """Widgets above the facts."""
        return ()

    def beside(self) -> Iterable[Widget]:
        """Widgets beside the left column: a form's context."""
        return (self.entry.aside,) if self.entry is not None else ()

    def facts(self) -> Sequence[Content]:
        """Lines above the input."""
        return ()

    def effects(self) -> Sequence[str]:
        """Effects of sending."""
        return ()

    def over(self) -> str:
        """Say why sending is no longer possible; empty if it is."""
        return ""

    async def look_again(self, error: HelmrError) -> WaitInfo | None:
        """Read the wait again after a refusal; None if there is none."""
        return None

    def draft_name(self) -> str | None:
        """Name of the form's draft; None keeps none."""
        return None

    def context_content(self) -> Content:
        """The context beside a form: the JSON that would be sent."""
        return lines(self.preview())

    def result(self) -> Built:
        """The form's JSON and problems."""
        return self.form.result() if self.form is not None else Built()

    def lacks(self) -> str:
        """Ask for input still missing before sending; empty if complete."""
        return ""

    @property
    def has_undo(self) -> bool:
        """True if the send can be taken back for a while, and so needs no review."""
        return False

    def pend(self, data: Any) -> None:
        """Hold the confirmed data; it is sent unless taken back."""

    async def let_go_of_it(self) -> None:
        """Clean up when the page is left without sending."""

    def accepted(self, outcome: AnswerOutcome) -> None:
        """Show the receipt and close; the input is in the ledger."""
        self.console.say(f"{outcome.result.value}: {'; '.join(outcome.lines)}", "receipt")
        self.dismiss()

    def after_refusal(self, outcome: AnswerOutcome) -> None:
        """Show each problem of a refused answer at its field."""
        if self.form is not None and outcome.problems:
            self.form.show_problems(outcome.problems)

    # --- the form

    def composes(self) -> FormEntry:
        """Give this screen a form, and return it."""
        self.entry = FormEntry(self)
        self.parts = (*self.parts, self.entry)
        return self.entry

    @property
    def form(self) -> SchemaForm | None:
        """The form, once it is there."""
        return self.entry.form if self.entry is not None else None

    @property
    def draft_state(self) -> str:
        """The draft's state, in words."""
        return self.entry.state if self.entry is not None else ""

    def preview(self) -> list[Content]:
        """The current JSON, and whether it fits the schema."""
        return self.entry.preview() if self.entry is not None else []

    def tool_call(self) -> ToolCall | None:
        """The tool call that the form decides about; None if there is none."""
        return tool_call(self.form.form) if self.form is not None else None

    def focus_form(self, form: SchemaForm) -> None:
        """Focus the first field of a new form, and show it from its beginning."""
        form.focus_first(scrolls=False)
        self._begin_once_focused()

    def begin_with(self, field: Widget) -> None:
        """Focus the first field of a page without a form, and show the page from its beginning."""
        field.focus(scroll_visible=False)
        self._begin_once_focused()

    def _begin_once_focused(self) -> None:
        # The app gives the focus, some messages later.
        self.app.call_later(self.call_after_refresh, self.begin_at_the_top)

    def begin_at_the_top(self, laid_out: Sequence[Size] = ()) -> None:
        """Scroll to the beginning, then to the focused field unless it is a call's; repeat until the layout rests.

        Textual would scroll to the field while a scroll bar has no room yet, and the page would begin at its fields.
        """
        left = self.query_one("#left", VerticalScroll)
        now = [left.scrollable_content_region.size, *(part.size for part in left.children)]
        if now == laid_out:
            return
        left.scroll_home(animate=False, immediate=True)
        if self.tool_call() is None and self.focused is not None:
            self.focused.scroll_visible(animate=False, immediate=True)
        self.call_after_refresh(self.begin_at_the_top, now)

    def on_schema_form_form_changed(self) -> None:
        """Update the preview, and keep the draft when typing rests."""
        self.redraw()
        if self.entry is not None:
            self.entry.changed()

    def on_row_actions_row_refused(self, event: SchemaForm.RowRefused) -> None:
        """Show why a row could not be added."""
        event.stop()
        if self.entry is not None:
            self.entry.say_why_not(event.why)

    def focus_next(self, selector: str | type[Widget] = "*") -> Widget | None:
        """Focus the next field, and select its text if short, so that typing replaces it."""
        if self.form is None:
            return super().focus_next(selector)
        if self.form.arguments.is_there_already():
            return self.focused
        if self.form.step(1):
            return self.focused
        found = super().focus_next(selector)
        select_short(found)
        return found

    def focus_previous(self, selector: str | type[Widget] = "*") -> Widget | None:
        """Focus the previous field, like `focus_next`."""
        if self.form is not None and self.form.step(-1):
            return self.focused
        found = super().focus_previous(selector)
        if self.form is not None:
            select_short(found)
        return found

    def on_input_submitted(self, event: SafeInput.Submitted) -> None:
        """Move to the next field on enter."""
        if self.entry is not None:
            event.stop()
            self.focus_next()

    def checked(self) -> Built | None:
        """Return the form's JSON; if it has problems, show them and return None."""
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

    def draft_of(self, name: str, operation_id: str | None) -> AnswerDraft:
        """The input as a draft of this name."""
        assert self.entry is not None, "something was entered"
        return self.entry.draft_of(name, operation_id)

    async def keep(self, *, sent: bool = False) -> None:
        """Save the draft. `sent`: the operation was tried and its outcome is unknown."""
        if self.entry is not None:
            await self.entry.keep(sent=sent)

    async def drop(self) -> None:
        """Drop the draft after acceptance."""
        if self.entry is not None:
            await self.entry.drop()

    # --- drawing

    def redraw(self) -> None:
        """Redraw facts, review and context."""
        if not self.is_attached:
            return
        self.set_class(self.submission.is_reviewing, "reviewing")
        self.facts_text.say(lines([*self.facts()]))
        if self.submission.is_reviewing:
            self.review_text.say(self._review_content())
        self.refresh_bars()
        if self.entry is not None:
            self.entry.aside.say(self.context_content(), "Context")

    def _review_content(self) -> Content:
        over = self.over()
        parts = review(self.submission, self.effects(), self.console.identity, over=over)
        if self.submission.phase is SendPhase.SENDING:
            said = self.sending_text()
            parts.append(Content.styled(f"{said[0].upper()}{said[1:]}", "bold $c-accent"))
        elif over:
            parts.append(safe.line(f"Can't be sent: {over}", "bold $c-error"))
        elif self.submission.is_readable(monotonic()):
            parts.append(
                Content.styled("^s sends it.  esc goes back to the form.", "bold $c-accent")
            )
        return lines(parts)

    def tell(self, texts: Sequence[str], role: str) -> None:
        """Show a message above the input; it stays until the next one."""
        self.banner.say(lines([safe.line(text, f"$c-{role}", limit=300) for text in texts]))
        self.set_class(bool(texts), "said")

    def tick(self) -> None:
        """Redraw countdowns and freshness."""
        self.facts_text.say(lines([*self.facts()]))
        super().tick()

    def store_changed(self) -> None:
        """Redraw, because the data shown may have changed."""
        super().store_changed()
        if self.is_attached and self.submission.phase is not SendPhase.LOADING:
            self.redraw()

    def status(self) -> tuple[Pairs, Pairs]:
        """The path and the phase."""
        words = {
            SendPhase.LOADING: "asking the gateway…",
            SendPhase.FORM: self.draft_state or "nothing has been sent",
            SendPhase.REVIEW: "review: nothing has been sent",
            SendPhase.SENDING: self.sending_text(),
        }
        return ((self.path(), "foreground"),), ((words[self.submission.phase], "muted"),)

    def path(self) -> str:
        """The place of this screen, safe text."""
        return self.TITLE_TEXT

    def context(self) -> ActionContext:
        """The context with the phase and the focus."""
        entry, form = self.entry, self.form
        filling = entry.filling if entry is not None else None
        return replace(
            super().context(),
            wait=True,
            wait_over=self.over(),
            composing=True,
            reviewing=self.submission.is_reviewing,
            has_form=entry is not None,
            folded=filling is not None and not filling.is_raw and filling.arguments.is_folded,
            is_narrow=entry is not None and self.has_class("-narrow"),
            field=form is not None and (form.focused_row() is not None or form.is_raw),
            in_list=filling is not None and filling.focused_list() is not None,
            list_below=filling is not None and filling.list_at_hand() is not None,
            discardable=entry is not None and entry.can_discard,
        )

    def labels(self) -> dict[str, str]:
        """Name the review key "Send" when it sends."""
        is_send = self.submission.is_reviewing or self.press is Press.PEND
        return {"review": "Send"} if is_send else {}

    def on_paste_cut(self, event: PasteCut) -> None:
        """Show what a paste lost."""
        event.stop()
        self.console.say(event.text(), "warning")

    # --- back, or on

    def do_back(self) -> None:
        """Go back from context to form, from review to input, and from there away, keeping the draft."""
        was, entry = self.submission.phase, self.entry
        if entry is not None and self.has_class("aside") and was is not SendPhase.SENDING:
            entry.do_context()
        elif was is SendPhase.SENDING:
            self.console.say("It is being sent; wait for what comes back", "warning")
        elif was is SendPhase.REVIEW:
            self.submission.phase = SendPhase.FORM
            self.redraw()
            if self.form is not None:
                self.form.focus_first()
        elif entry is not None:
            self.console.background.start(self._leave(), group="draft", holds_keys=True)
        else:
            super().do_back()

    async def _leave(self) -> None:
        await self.let_go_of_it()
        await self.keep()
        if self.draft_state and self.form is not None and self.form.is_touched():
            self.console.say(f"Nothing was sent; {self.draft_state}", "information")
        self.dismiss()

    @property
    def press(self) -> Press:
        """The current effect of ^s."""
        return self.submission.press(has_undo=self.has_undo, is_review=self.IS_REVIEW)

    @property
    def sends_next(self) -> bool:
        """True if ^s sends, at once or after a while."""
        return self.press in (Press.SEND, Press.PEND)

    def do_review(self) -> None:
        """Review the input, or send it if it was reviewed."""
        press = self.press
        if press is Press.SEND:
            if lacks := self.lacks():
                self.tell((lacks,), "error")
            else:
                self.send_now()
            return
        built = self.checked() if press is not Press.NOTHING and self.form is not None else None
        if built is None:
            return
        if press is Press.REVIEW:
            self._show_review(built)
        elif self.permit_of_reader() is not None:
            self.pend(built.data)

    def _show_review(self, built: Built) -> None:
        assert self.form is not None, "a form is reviewed"
        hidden = redacted(self.form.form, built.data)
        self.submission.review(
            built.data, pretty(hidden), self.form.left_out(), spelled=spelled(hidden)
        )
        self.remove_class("aside")
        self.set_focus(None)
        self.redraw()
        self.query_one("#left").scroll_home(animate=False)  # a review is read from its beginning
        self.reads_from_now()

    def reads_from_now(self) -> None:
        """Note that the next drawing shows the text to be read before sending."""
        self.submission.is_to_draw()
        self._drawings += 1
        # Parts that open or change their height are drawn with the layout, some time before all is quiet.
        drawn = partial(self._drawn, self._drawings)
        drawings = self.screen_layout_refresh_signal
        drawings.unsubscribe(self.facts_text)
        drawings.subscribe(self.facts_text, lambda _: drawn(), immediate=True)
        self.call_after_refresh(drawn)

    def _drawn(self, drawing: int) -> None:
        if drawing != self._drawings or self.submission.drawn_s is not None or not self.is_current:
            return  # another text replaced this one, or it was drawn already
        self.screen_layout_refresh_signal.unsubscribe(self.facts_text)
        self.submission.drawn_s = monotonic()
        for after_s in (SEES_S, READS_S - LOOKS_S):
            read = self._comes_to_be_read(self.submission.drawn_s, after_s)
            self.console.background.start(read, group="reads")
        self.is_drawn()

    async def _comes_to_be_read(self, drawn_s: float, after_s: float) -> None:
        """Advance the submission once later keys can only come from an operator who has had this time to read."""
        quiet_s = await self.console.keys.quiet_from(drawn_s + after_s)
        if self.submission.drawn_s != drawn_s:
            return
        self.submission.quiet(quiet_s)
        if self.submission.quiet_s is not None and self.submission.is_reviewing:
            self.redraw()  # shows that it may be sent

    def is_drawn(self) -> None:
        """Act once the text to be read is on screen."""

    def send_now(self) -> None:
        """Send, if the operator could read the text and the gate permits."""
        permit = self.permit_of_reader()
        if permit is None:
            return
        self.submission.phase = SendPhase.SENDING
        self.redraw()
        self.let_go(permit)

    def permit_of_reader(self) -> Permit | None:
        """Return the permit if the text could be read before the key press; else show why not, and return None."""
        press = self.console.keys.press
        if not self.submission.takes(press, is_one_of_many=self.is_one_of_many):
            self.console.say(TOO_SOON, "warning")
            return None
        try:
            return self.permit(self.ACTION)
        except NotPermitted as refusal:
            self.console.say(f"Not sent: {refusal}", "warning")
            return None

    def let_go(self, permit: Permit) -> None:
        """Start sending."""
        self.console.sending += 1
        self.console.background.start(
            self._send(permit), group="send", holds_keys=self.HOLDS_KEYS, on_error=self._broke
        )

    def sending_text(self) -> str:
        """State shown while sending."""
        return "sending…"

    async def _send(self, permit: Permit) -> None:
        try:
            await self.keep(sent=True)
            outcome = await self._try(permit)
        finally:
            self.console.sending -= 1
        self.submission.ended(outcome)
        if outcome.is_done:
            await self.drop()
            self.accepted(outcome)
            return
        self._came_back((outcome.result.value, *outcome.lines), outcome.role)
        self.after_refusal(outcome)
        await self.keep(sent=outcome.is_open)

    async def _try(self, permit: Permit) -> AnswerOutcome:
        try:
            received = await self.deliver(permit, self.submission.data)
        except HelmrError as error:
            found = await self.look_again(error)
            return of_error(error, now_wait=found, now=self.console.store.now())
        return received if isinstance(received, AnswerOutcome) else of_receipt(received)

    def _broke(self, text: str) -> None:
        self.submission.broke()
        said = (Result.UNKNOWN.value, text, "sending again is the same operation")
        self._came_back(said, "warning")

    def _came_back(self, said: Sequence[str], role: str) -> None:
        """Show a refusal, and drop keys typed for the screen that follows acceptance."""
        self.console.keys.forget()
        self.redraw()
        self.reads_from_now()
        self.tell(said, role)

    def _not_loaded(self, text: str) -> None:
        self.console.keys.forget()
        self.tell((text, "esc goes back"), "error")
        self.redraw()
