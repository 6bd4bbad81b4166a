"""What everything that is sent has in common: enter, review, send, and what became of it.

Ctrl+s reviews, ctrl+s again sends; nothing leaves before its review. Whatever comes back, what was typed stays
until it is accepted, and a send whose outcome is unknown is repeated as the same operation (S-61).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from time import monotonic
from typing import Any

from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from helmr import ids
from helmr.errors import HelmrError, OperationConflict
from helmr.forms import Built, Cells, Form, Kind, carry, form_of, pretty, redacted
from helmr.models import SendReceipt, TokenAnswerReceipt, WaitInfo
from helmr_console import safe
from helmr_console.actions import Context, Scope
from helmr_console.drafts import Draft
from helmr_console.outcome import Outcome, Result, of_error, of_receipt
from helmr_console.permits import Permit, Refused
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.widgets.fields import PasteCut, SafeInput
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.panes import TextPane, head, lines

DRAFT_DELAY_S = 0.4
"""A draft is written when typing rests this long."""
READS_S = 0.3
"""Nobody reads a review in less: a key typed sooner was typed for something else."""

Received = SendReceipt | TokenAnswerReceipt | Outcome
"""What comes back of sending."""


class Phase(StrEnum):
    """How far it is."""

    LOADING = "loading"
    FORM = "form"
    REVIEW = "review"
    SENDING = "sending"


class ComposeScreen(ConsoleScreen):
    """A form, its review, its sending.

    Subclasses say what is asked, what it will do, and how it is sent.
    """

    SCOPES: tuple[Scope, ...] = (Scope.ANYWHERE, Scope.FORM)
    BINDINGS = bindings(*SCOPES)
    ACTION = ""
    TITLE_TEXT = ""
    deliver: Callable[[Permit, Any], Awaitable[Received]]
    """Sends it, once, with `operation_id`. A screen that sends otherwise has its own `_send`."""
    DEFAULT_CSS = """
    ComposeScreen #middle { layout: horizontal; height: 1fr; }
    ComposeScreen #left { width: 3fr; height: 1fr; border: round $c-accent; padding: 0 1;
                          border-title-color: $c-foreground; border-subtitle-color: $c-muted;
                          scrollbar-size-vertical: 1; }
    ComposeScreen #left Static { height: auto; }
    ComposeScreen #banner { display: none; margin: 0 0 1 0; }
    ComposeScreen.said #banner { display: block; }
    ComposeScreen #slot { height: auto; margin: 1 0 0 0; }
    ComposeScreen #review { display: none; height: auto; margin: 1 0 0 0; }
    ComposeScreen.reviewing #review { display: block; }
    ComposeScreen.reviewing #slot { display: none; }
    ComposeScreen #context { width: 2fr; height: 1fr; }
    ComposeScreen.-narrow #context { display: none; }
    ComposeScreen.aside #context { display: block; }
    ComposeScreen.-narrow.aside #left { display: none; }
    ComposeScreen.plain #context { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase = Phase.LOADING
        self.form: SchemaForm | None = None
        self.outcome: Outcome | None = None
        self.operation_id = ids.new_id(ids.OPERATION)
        self.tried = False
        self.draft_state = ""
        self._discarded: tuple[Cells, str | None] | None = None
        self._reviewed: Any = None
        self._drawn_s: float | None = None
        self._before_aside: Widget | None = None
        self._draft_timer: Timer | None = None
        self._drafting: asyncio.Lock = asyncio.Lock()
        self.facts_text = Static(id="facts", markup=False)
        self.banner = Static(id="banner", markup=False)
        self.review_text = Static(id="review", markup=False)
        self.slot = Vertical(id="slot")
        self.aside = TextPane("Context", id="context")

    def body(self) -> Iterable[Widget]:
        """What it is about, what came back, the form or its review; context beside it."""
        left = VerticalScroll(
            self.facts_text, self.banner, self.slot, self.review_text, id="left", can_focus=False
        )
        left.border_title = safe.line(self.TITLE_TEXT, limit=60)
        yield Container(left, self.aside, id="middle")

    def on_mount(self) -> None:
        """Read what is needed, then show the form."""
        self.console.background(
            self.load(), group="load", holds_keys=True, on_error=self._not_loaded
        )

    # --- what subclasses say

    async def load(self) -> None:
        """Read what the form needs and call `show_form`; keys wait until it has ended."""

    def facts(self) -> Sequence[Content]:
        """The lines above the form."""
        return ()

    def effects(self) -> Sequence[str]:
        """What sending will do."""
        return ()

    async def look_again(self, error: HelmrError) -> WaitInfo | None:
        """The wait as it is now, after a refusal."""
        return None

    def draft_name(self) -> str | None:
        """What the draft is kept under; None keeps none."""
        return None

    def accepted(self, outcome: Outcome) -> None:
        """It is in the ledger: close."""
        self.console.say(f"{outcome.result.value}: {'; '.join(outcome.lines)}", "information")
        self.dismiss()

    def over(self) -> str:
        """Why it can't be sent any more, empty if it can."""
        return ""

    # --- form and draft

    async def show_form(self, form: Form) -> None:
        """Put the form in place, with the draft of an earlier time."""
        cells, raw, note = None, None, ""
        name = self.draft_name()
        draft = None
        if name is not None:
            draft = await asyncio.to_thread(self.console.drafts.load, name, form.schema_hash)
        if draft is not None and draft.schema_hash == form.schema_hash:
            cells, raw, note = draft.cells, draft.raw, "draft restored; F9 discards it"
            if draft.operation_id is not None:
                self.operation_id, self.tried = draft.operation_id, True
                note = "draft restored; its last send had no answer, sending again is the same operation"
        elif draft is not None:
            cells, dropped = carry(form_of(draft.schema), draft.cells, form)
            note = "the schema has changed since the draft"
            note += f"; left out: {', '.join(dropped)}" if dropped else "; all of it was taken over"
        if not self.is_attached:
            return  # left while it was read
        self.form = SchemaForm(form, cells, raw)
        await self.slot.mount(self.form)
        self.phase = Phase.FORM
        if note:
            self.tell((note,), "warning")
        self.form.focus_first()
        self.redraw()

    def on_schema_form_changed(self) -> None:
        """Typing: the preview follows, the draft is kept when typing rests."""
        self.redraw()
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self.set_timer(DRAFT_DELAY_S, self._keep_draft_soon)

    def on_paste_cut(self, event: PasteCut) -> None:
        """Say what a paste lost."""
        event.stop()
        self.console.say(event.text(), "warning")

    def on_input_submitted(self, event: SafeInput.Submitted) -> None:
        """Enter in a line goes on to the next field."""
        event.stop()
        self.focus_next()

    def _keep_draft_soon(self) -> None:
        self.console.background(self.keep_draft(), group="draft")

    async def keep_draft(self, *, sent: bool = False) -> None:
        """Write the draft now. `sent`: the operation was tried and its outcome is not known yet."""
        name = self.draft_name()
        if name is None or self.form is None or not (self.form.is_touched() or sent):
            return
        schema = self.form.form.schema
        secret = any(leaf.kind is Kind.SECRET for leaf in self.form.form.leaves())
        draft = Draft(
            wait_id=name,
            schema_hash=self.form.form.schema_hash,
            cells=self.form.drafted(),
            raw=None if secret else self.form.raw_text,
            operation_id=self.operation_id if sent or self.tried else None,
            schema=schema,
        )
        async with self._drafting:
            try:
                await asyncio.to_thread(self.console.drafts.save, draft)
                self.draft_state = "draft saved"
            except OSError as error:
                self.draft_state = f"draft NOT saved: {error.strerror}"
        self.redraw()

    async def drop_draft(self) -> None:
        """It was accepted: the draft has done its work."""
        if self._draft_timer is not None:
            self._draft_timer.stop()
        name = self.draft_name()
        if name is not None:
            async with self._drafting:
                await asyncio.to_thread(self.console.drafts.discard, name)

    # --- drawing

    def redraw(self) -> None:
        """Facts, review and context as they are now."""
        if not self.is_attached:
            return
        self.set_class(self.phase in (Phase.REVIEW, Phase.SENDING), "reviewing")
        self.facts_text.update(lines([*self.facts()]))
        self.aside.say(self.context_content(), "Context")
        if self.phase in (Phase.REVIEW, Phase.SENDING):
            self.review_text.update(self.review_content())
        self.refresh_bars()

    def context_content(self) -> Content:
        """What stands beside the form: the JSON that would be sent."""
        return lines(self.preview())

    def preview(self) -> list[Content]:
        """The JSON as it is now, and whether it fits."""
        if self.form is None or self.phase is not Phase.FORM:
            return []
        built = self.form.result()
        parts = [head("What would be sent")]
        if built.problems:
            return [*parts, safe.line("not complete yet", "$c-muted")]
        return [
            *parts,
            safe.text(self.shown_json(built.data)),
            safe.line("fits the schema", "$c-success"),
        ]

    def shown_json(self, data: Any) -> str:
        """The JSON without secrets."""
        return pretty(redacted(self.form.form, data) if self.form is not None else data)

    def review_content(self) -> Content:
        """Exactly what leaves, as whom, and what it does; of a wait that is over, what would have left."""
        over = self.over()
        parts = [
            head("This was to be sent" if over else "This is sent, exactly"),
            safe.text(self.shown_json(self._reviewed)),
            Content(""),
        ]
        if self.form is not None and (left_out := self.form.left_out()):
            parts.append(head("Not sent, so the task takes its default"))
            parts += [safe.line(f"{name}: {text}", limit=200) for name, text in left_out]
            parts.append(Content(""))
        if not over:
            parts += [
                head("It will do this"),
                *(safe.line(text) for text in self.effects()),
                Content(""),
            ]
        parts += [
            Content.assemble(
                ("As  ", "$c-muted"),
                safe.line(self.console.identity, "bold"),
                ("  recorded with it", "$c-muted"),
            )
        ]
        parts.append(Content(""))
        if self.phase is Phase.SENDING:
            parts.append(Content.styled("Sending…", "bold $c-accent"))
        elif over:
            parts.append(safe.line(f"Can't be sent: {over}", "bold $c-error"))
        elif self.is_readable(monotonic()):
            parts.append(
                Content.styled("^s sends it.  esc goes back to the form.", "bold $c-accent")
            )
        return lines(parts)

    def tell(self, texts: Sequence[str], role: str) -> None:
        """Say something above the form; it stays until something else is said."""
        self.banner.update(lines([safe.line(text, f"$c-{role}", limit=300) for text in texts]))
        self.set_class(bool(texts), "said")

    def tick(self) -> None:
        """Countdown and freshness go on."""
        self.facts_text.update(lines([*self.facts()]))
        super().tick()

    def store_changed(self) -> None:
        """What is shown may have changed under the form."""
        super().store_changed()
        if self.is_attached and self.phase is not Phase.LOADING:
            self.redraw()

    def status(self) -> tuple[Pairs, Pairs]:
        """Where, and how far."""
        words = {
            Phase.LOADING: "asking the gateway…",
            Phase.FORM: self.draft_state or "nothing has been sent",
            Phase.REVIEW: "review: nothing has been sent",
            Phase.SENDING: "sending…",
        }
        return ((self.path(), "foreground"),), ((words[self.phase], "muted"),)

    def path(self) -> str:
        """Where we are, safe text."""
        return self.TITLE_TEXT

    def context(self) -> Context:
        """What has the focus."""
        row = self.form.focused_row() if self.form is not None else None
        raw = self.form is not None and self.form.is_raw
        return replace(
            super().context(),
            field=row is not None or raw,
            wait=True,
            wait_over=self.over(),
            composing=True,
            reviewing=self.phase in (Phase.REVIEW, Phase.SENDING),
            discardable=self._discarded is not None
            or (self.phase is Phase.FORM and self.form is not None and self.form.is_touched()),
        )

    def labels(self) -> dict[str, str]:
        """In review the key sends."""
        return {"review": "Send"} if self.phase in (Phase.REVIEW, Phase.SENDING) else {}

    # --- actions

    def do_review(self) -> None:
        """Review; from there send."""
        if self.form is None or self.phase in (Phase.LOADING, Phase.SENDING):
            return
        if self.phase is Phase.REVIEW:
            self._send_now()
            return
        built = self.result()
        if built.problems:
            rest = self.form.show_problems(built.problems)
            self.tell((rest,) if rest else (), "error")
            self.console.say(f"{len(built.problems)} field(s) need something else", "warning")
            return
        self.form.show_problems({})
        self._reviewed = built.data
        self.phase = Phase.REVIEW
        self.remove_class("aside")
        self.set_focus(None)
        self.redraw()
        self.reads_from_now()

    def result(self) -> Built:
        """The JSON of the form."""
        return self.form.result() if self.form is not None else Built()

    def do_back(self) -> None:
        """From review to the form; from the form away, with the draft kept."""
        if self.phase is Phase.SENDING:
            self.console.say("It is being sent; wait for what comes back", "warning")
        elif self.has_class("aside"):
            self.do_context()
        elif self.phase is Phase.REVIEW:
            self.phase = Phase.FORM
            self.redraw()
            if self.form is not None:
                self.form.focus_first()
        else:
            self.console.background(self._leave(), group="draft", holds_keys=True)

    async def _leave(self) -> None:
        await self.keep_draft()
        if self.draft_state and self.form is not None and self.form.is_touched():
            self.console.say(f"Nothing was sent; {self.draft_state}", "information")
        self.dismiss()

    def do_raw(self) -> None:
        """JSON, or the fields again."""
        if self.form is not None and self.phase is Phase.FORM:
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

    def do_discard(self) -> None:
        """The empty form, and no draft; or what was just thrown away."""
        if self.form is None or self.phase is not Phase.FORM:
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
        self.console.background(self.drop_draft(), group="draft")

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

    # --- sending

    HOLDS_KEYS = True
    """Keys wait for what comes back: it decides whether they are for the form or for what is below it."""

    def reads_from_now(self) -> None:
        """What is to be read before it is sent is drawn next; it can be read from then on."""
        self._drawn_s = None
        self.call_after_refresh(self._is_drawn)

    def _is_drawn(self) -> None:
        self._drawn_s = monotonic()
        self.set_timer(READS_S, self.redraw)

    @property
    def sends_next(self) -> bool:
        """Whether ^s would send."""
        return self.phase is Phase.REVIEW

    def is_readable(self, typed_s: float) -> bool:
        """Whether somebody who pressed a key then can have read what it sends."""
        return self._drawn_s is not None and typed_s - self._drawn_s >= READS_S

    def _send_now(self) -> None:
        if not self.is_readable(self.console.keys.typed_s):
            self.console.say(
                "Not sent: the key was typed before this could be read; ^s once more sends it",
                "warning",
            )
            return
        try:
            permit = self.permit(self.ACTION)
        except Refused as refusal:
            self.console.say(f"Not sent: {refusal}", "warning")
            return
        self.phase = Phase.SENDING
        self.console.sending += 1
        self.redraw()
        self.console.background(
            self._send(permit), group="send", holds_keys=self.HOLDS_KEYS, on_error=self._broke
        )

    async def _send(self, permit: Permit) -> None:
        try:
            await self.keep_draft(sent=True)
            outcome = await self._try(permit)
        finally:
            self.console.sending -= 1
        self.outcome = outcome
        if outcome.is_done:
            self.phase = Phase.FORM
            await self.drop_draft()
            self.accepted(outcome)
            return
        self.console.keys.forget()  # typed for what comes after an accepted answer
        self.tried = outcome.is_open
        self.phase = Phase.REVIEW if outcome.is_open else Phase.FORM
        self.redraw()
        self.reads_from_now()
        self.tell((outcome.result.value, *outcome.lines), outcome.role)
        if self.form is not None and outcome.problems:
            self.form.show_problems(outcome.problems)
        self.after_refusal(outcome)
        await self.keep_draft(sent=outcome.is_open)

    def after_refusal(self, outcome: Outcome) -> None:
        """Something came back that is not acceptance."""

    async def _try(self, permit: Permit) -> Outcome:
        try:
            received = await self.deliver(permit, self._reviewed)
        except OperationConflict:
            return Outcome(
                Result.RESOLVED,
                ("your first try was accepted; what you changed since was not sent",),
            )
        except HelmrError as error:
            return of_error(error, now_wait=await self.look_again(error))
        return received if isinstance(received, Outcome) else of_receipt(received)

    def _broke(self, text: str) -> None:
        self.phase = Phase.REVIEW
        self.tried = True
        self.tell((Result.UNKNOWN.value, text, "sending again is the same operation"), "warning")
        self.redraw()
        self.console.keys.forget()
        self.reads_from_now()

    def _not_loaded(self, text: str) -> None:
        self.console.keys.forget()
        self.tell((text, "esc goes back"), "error")
        self.redraw()
