"""What everything that is sent has in common: review, send, and what became of it.

Ctrl+s reviews, ctrl+s again sends; nothing leaves before its review. Whatever comes back, what was typed stays
until it is accepted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget

from helmr import ids
from helmr.errors import HelmrError, OperationConflict
from helmr.models import SendReceipt, TokenAnswerReceipt, WaitInfo
from helmr_console import safe
from helmr_console.actions import Context, Scope
from helmr_console.outcome import Outcome, Result, of_error, of_receipt
from helmr_console.permits import Permit, Refused
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.submission import READS_S, SendPhase, Submission
from helmr_console.widgets.fields import PasteCut
from helmr_console.widgets.panes import lines
from helmr_console.widgets.review import review
from helmr_console.widgets.still_text import StillText

TOO_SOON = "Not sent: the key was typed before this could be read; ^s once more sends it"

Received = SendReceipt | TokenAnswerReceipt | Outcome
"""What comes back of sending."""


class SubmitScreen(ConsoleScreen):
    """Something that is read and sent.

    Subclasses say what it is, what it will do, and how it is sent.
    """

    SCOPES: tuple[Scope, ...] = (Scope.ANYWHERE, Scope.FORM)
    BINDINGS = bindings(*SCOPES)
    ACTION = ""
    TITLE_TEXT = ""
    HOLDS_KEYS = True
    """Keys wait for what comes back: it decides whether they are for the form or for what is below it."""
    deliver: Callable[[Permit, Any], Awaitable[Received]]
    """Sends it, once, as `submission.operation_id`. A screen that sends otherwise has its own `_send`."""
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
    """

    def __init__(self) -> None:
        super().__init__()
        self.submission = Submission(ids.new_id(ids.OPERATION))
        self.draft_state = ""
        self._drawings = 0
        self.facts_text = StillText(id="facts")
        self.banner = StillText(id="banner")
        self.review_text = StillText(id="review")
        self.slot = Vertical(id="slot")

    def body(self) -> Iterable[Widget]:
        """What it is about, what came back, what is entered or its review."""
        left = VerticalScroll(
            self.facts_text, self.banner, self.slot, self.review_text, id="left", can_focus=False
        )
        left.border_title = safe.line(self.TITLE_TEXT, limit=60)
        yield Container(*self.above(), left, *self.beside(), id="middle")

    def on_mount(self) -> None:
        """Textual calls this of every class; `opens` is the one to be replaced."""
        self.opens()

    def opens(self) -> None:
        """Read what is needed, then show it."""
        self.console.background.start(
            self.load(), group="load", holds_keys=True, on_error=self._not_loaded
        )

    # --- what subclasses say

    async def load(self) -> None:
        """Read what is needed and fill the slot; keys wait until it has ended."""

    def above(self) -> Iterable[Widget]:
        """What stands before it."""
        return ()

    def beside(self) -> Iterable[Widget]:
        """What stands beside it."""
        return ()

    def facts(self) -> Sequence[Content]:
        """The lines above what is entered."""
        return ()

    def effects(self) -> Sequence[str]:
        """What sending will do."""
        return ()

    def over(self) -> str:
        """Why it can't be sent any more, empty if it can."""
        return ""

    async def look_again(self, error: HelmrError) -> WaitInfo | None:
        """The wait as it is now, after a refusal."""
        return None

    async def keep(self, *, sent: bool = False) -> None:
        """Keep what was entered. `sent`: the operation was tried and its outcome is not known yet."""

    async def drop(self) -> None:
        """It was accepted: what was kept has done its work."""

    def accepted(self, outcome: Outcome) -> None:
        """It is in the ledger: close."""
        self.console.say(f"{outcome.result.value}: {'; '.join(outcome.lines)}", "receipt")
        self.dismiss()

    def after_refusal(self, outcome: Outcome) -> None:
        """Something came back that is not acceptance."""

    # --- drawing

    def redraw(self) -> None:
        """Facts and review as they are now."""
        if not self.is_attached:
            return
        self.set_class(self.submission.is_reviewing, "reviewing")
        self.facts_text.say(lines([*self.facts()]))
        if self.submission.is_reviewing:
            self.review_text.say(self._review_content())
        self.refresh_bars()

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
        """Say something above what is entered; it stays until something else is said."""
        self.banner.say(lines([safe.line(text, f"$c-{role}", limit=300) for text in texts]))
        self.set_class(bool(texts), "said")

    def tick(self) -> None:
        """Countdown and freshness go on."""
        self.facts_text.say(lines([*self.facts()]))
        super().tick()

    def store_changed(self) -> None:
        """What is shown may have changed under it."""
        super().store_changed()
        if self.is_attached and self.submission.phase is not SendPhase.LOADING:
            self.redraw()

    def status(self) -> tuple[Pairs, Pairs]:
        """Where, and how far."""
        words = {
            SendPhase.LOADING: "asking the gateway…",
            SendPhase.FORM: self.draft_state or "nothing has been sent",
            SendPhase.REVIEW: "review: nothing has been sent",
            SendPhase.SENDING: self.sending_text(),
        }
        return ((self.path(), "foreground"),), ((words[self.submission.phase], "muted"),)

    def path(self) -> str:
        """Where we are, safe text."""
        return self.TITLE_TEXT

    def context(self) -> Context:
        """How far it is."""
        return replace(
            super().context(),
            wait=True,
            wait_over=self.over(),
            composing=True,
            reviewing=self.submission.is_reviewing,
        )

    def labels(self) -> dict[str, str]:
        """In review the key sends."""
        return {"review": "Send"} if self.submission.is_reviewing else {}

    def on_paste_cut(self, event: PasteCut) -> None:
        """Say what a paste lost."""
        event.stop()
        self.console.say(event.text(), "warning")

    # --- back, or on

    def do_back(self) -> None:
        """From the review to what was entered; from there away."""
        if self.submission.phase is SendPhase.SENDING:
            self.console.say("It is being sent; wait for what comes back", "warning")
        elif self.submission.phase is SendPhase.REVIEW:
            self.submission.phase = SendPhase.FORM
            self.redraw()
        else:
            super().do_back()

    def reads_from_now(self) -> None:
        """What is to be read before it is sent is drawn next; it can be read from then on."""
        self.submission.drawn_s = None
        self._drawings += 1
        # What opens or changes its height is drawn with the layout, some time before all is quiet.
        drawn = partial(self._drawn, self._drawings)
        drawings = self.screen_layout_refresh_signal
        drawings.unsubscribe(self.facts_text)
        drawings.subscribe(self.facts_text, lambda _: drawn(), immediate=True)
        self.call_after_refresh(drawn)

    def _drawn(self, drawing: int) -> None:
        if drawing != self._drawings or self.submission.drawn_s is not None or not self.is_current:
            return  # something else is to be read by now, or this was drawn already
        self.screen_layout_refresh_signal.unsubscribe(self.facts_text)
        self.submission.drawn_s = monotonic()
        if self.submission.is_reviewing:
            self.set_timer(READS_S, self.redraw)  # it says that it may be sent
        self.is_drawn()

    def is_drawn(self) -> None:
        """What is to be read is on screen."""

    @property
    def sends_next(self) -> bool:
        """Whether ^s would send."""
        return self.submission.phase is SendPhase.REVIEW

    def send_now(self) -> None:
        """Send it, if it could be read and may be sent."""
        permit = self.permit_of_reader()
        if permit is None:
            return
        self.submission.phase = SendPhase.SENDING
        self.redraw()
        self.let_go(permit)

    def permit_of_reader(self) -> Permit | None:
        """The permit, if what is sent could be read when the key was pressed; else None, and why is said."""
        if not self.submission.is_readable(self.console.keys.typed_s):
            self.console.say(TOO_SOON, "warning")
            return None
        try:
            return self.permit(self.ACTION)
        except Refused as refusal:
            self.console.say(f"Not sent: {refusal}", "warning")
            return None

    def let_go(self, permit: Permit) -> None:
        """It leaves now."""
        self.console.sending += 1
        self.console.background.start(
            self._send(permit), group="send", holds_keys=self.HOLDS_KEYS, on_error=self._broke
        )

    def sending_text(self) -> str:
        """What is said while it is on its way."""
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

    async def _try(self, permit: Permit) -> Outcome:
        try:
            received = await self.deliver(permit, self.submission.data)
        except OperationConflict:
            return Outcome(
                Result.RESOLVED,
                ("your first try was accepted; what you changed since was not sent",),
            )
        except HelmrError as error:
            return of_error(error, now_wait=await self.look_again(error))
        return received if isinstance(received, Outcome) else of_receipt(received)

    def _broke(self, text: str) -> None:
        self.submission.broke()
        said = (Result.UNKNOWN.value, text, "sending again is the same operation")
        self._came_back(said, "warning")

    def _came_back(self, said: Sequence[str], role: str) -> None:
        """It was not accepted: say so; what was typed for what comes after acceptance is left out."""
        self.console.keys.forget()
        self.redraw()
        self.reads_from_now()
        self.tell(said, role)

    def _not_loaded(self, text: str) -> None:
        self.console.keys.forget()
        self.tell((text, "esc goes back"), "error")
        self.redraw()
