"""The form for one wait. It belongs to the wait that was opened, wherever the cursor is afterwards.

In a review, `ReviewTurns` gives one wait after the other, and reads the next while one is on screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from textual import events
from textual.app import App
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget

from helmr.errors import HelmrError, WaitClaimed
from helmr.models import AnswerReceipt, ClaimInfo, EntryInfo, WaitInfo, WaitStatus
from helmr.person.forms import Form, form_of, redacted
from helmr.person.forms.model import json_text
from helmr.person.review import agreement, words
from helmr.person.review.outcome import AnswerOutcome, Result, claim_of
from helmr.person.review.personal import Beginning
from helmr.person.review.queue import FORM_CLAIM_S, ReviewQueue
from helmr.person.review.sending import SendPhase
from helmr.signing import SshSigner, as_shown, beside
from helmr.wire.safe_text import one_line
from helmr_console import effects, entry_lines, safe, views
from helmr_console.actions import ActionScope, NotPermitted, Permit, permit
from helmr_console.console import Console
from helmr_console.link import answer_of, tail
from helmr_console.pending_answer import PendingAnswer
from helmr_console.screens.base import Pairs, bindings
from helmr_console.screens.entry import FormEntry, begun_with
from helmr_console.screens.overlays import TextScreen
from helmr_console.screens.submit import TOO_SOON, SubmitScreen
from helmr_console.screens.wait_actions import FormClaim, WaitActions
from helmr_console.unsent import PendingSend
from helmr_console.widgets import details
from helmr_console.widgets.asked_text import (
    FEWEST_LINES,
    LEAST_LINES,
    AskedText,
    Unseen,
    outside,
    unseen_text,
    wrapped,
)
from helmr_console.widgets.details import dry_run_lines
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.markdown import CodeLines, markdown_parts
from helmr_console.widgets.panes import (
    asked_parts,
    brief_facts,
    call_effects,
    entry_content,
    head,
    lines,
    own_text,
    wait_due,
    wait_ids,
    who_may,
)

LOOKED_AHEAD_MAX = 8
"""Most waits read ahead to find one that no one else has claimed."""
FRESH_S = 15.0
"""Seconds after which a wait read ahead is read again, like the claims in the inbox."""
CONTEXT_ENTRIES = 30


def form_for(wait: WaitInfo) -> Form:
    """The form that answers the wait."""
    return form_of(wait.json_schema, initial=agreement.initial_of(wait))


@dataclass(frozen=True, slots=True)
class Ahead:
    """The next wait and its form's contents, read while the one before is on screen."""

    wait: WaitInfo
    entries: list[EntryInfo]
    begun: Beginning
    read_s: float


class ReviewTurns:
    """The queue of waits of one review.

    Args:
        console: Reads and claims the waits.
        wait_ids: The waits at the start.
        listed: Returns the ids in the list now; waits that came in meanwhile join the review.
    """

    def __init__(
        self, console: Console, wait_ids: Sequence[str], listed: Callable[[], Sequence[str]]
    ) -> None:
        self._console = console
        self.queue = ReviewQueue(
            wait_ids, listed, console.is_claimed_by_another, console.unsent.open_ids
        )
        self.ahead: Ahead | None = None
        self.left_out = 0
        """Number of waits skipped because this person may not answer them."""

    async def take_free(self) -> AnswerScreen | None:
        """Claim the next wait that this person may answer, and return its form; None if there is none.

        Two people who review the same list get different waits. Waits claimed by others come last, and then show the
        claimant.
        """
        refused: set[str] = set()
        while (coming := self.take()) is not None:
            wait_id, _, ahead = coming
            with suppress(HelmrError):  # the form shows why it can't be read
                ahead = ahead or await self._read(await self._wait(wait_id))
            if ahead is not None and _is_left_out(ahead.wait, self._console.identity):
                self.left_out += 1
                self.queue.leave_out(wait_id)
                continue
            claim = None
            if wait_id not in refused:
                try:
                    claim = await self._claim(wait_id)
                except WaitClaimed as error:
                    refused.add(wait_id)
                    self._put_claim(wait_id, claim_of(error))
                    self.queue.later(wait_id)
                    continue
            screen = AnswerScreen(wait_id, self, ahead)
            if claim is not None:
                screen.claim.begun_with(claim)
            return screen
        return None

    def ended_text(self) -> str:
        """Message when there is no next wait."""
        what = "That was the last one" if self.queue.asked else "There is nothing here to answer"
        others = f"; {self.left_out} left out, which you may not answer" if self.left_out else ""
        return what + others

    async def _claim(self, wait_id: str) -> ClaimInfo | None:
        """Claim the wait for its form; None if this person already holds a claim, or can't claim now.

        Raises:
            WaitClaimed: Someone else holds the claim.
        """
        console = self._console
        known = console.store.wait(wait_id)
        now = console.store.now()
        claim = known.claim if known is not None else None
        if claim is not None and claim.until > now and claim.on_behalf_of == console.identity:
            return None
        try:
            given = permit("claim", replace(console.base_context(), wait=True), console.client)
            console.form_claims[wait_id] = (
                given  # a console that ends before the reply gives it back, too
            )
            receipt = await given.client.waits.claim(wait_id, expires_in=FORM_CLAIM_S)
        except WaitClaimed:
            console.form_claims.pop(wait_id, None)
            raise
        except (NotPermitted, HelmrError):
            return None  # the answer needs no claim
        return receipt.claim

    def _put_claim(self, wait_id: str, claim: ClaimInfo | None) -> None:
        known = self._console.store.wait(wait_id)
        if known is not None and claim is not None:
            self._console.store.put_claims([known.model_copy(update={"claim": claim})])

    async def _wait(self, wait_id: str) -> WaitInfo:
        wait = await self._console.client.waits.get(wait_id)
        self._console.store.put_wait(wait)
        return wait

    async def _read(self, wait: WaitInfo) -> Ahead:
        console = self._console
        entries = await tail(console.client, wait.session_id, CONTEXT_ENTRIES)
        begun = await begun_with(console, wait.id, form_for(wait))
        return Ahead(wait, entries, begun, console.store.mono())

    def take(self) -> tuple[str, ReviewTurns, Ahead | None] | None:
        """Return the next wait and what was read ahead of it; None if there is none."""
        wait_id = self.queue.next(self._console.open_ids())
        ahead, self.ahead = self.ahead, None
        if wait_id is None:
            return None
        is_it = ahead is not None and ahead.wait.id == wait_id and self._is_fresh(ahead)
        return wait_id, self, ahead if is_it else None

    def drawn(self) -> None:
        """Start reading the next wait, now that one is on screen."""
        if self.ahead is None:
            self._look_ahead()

    def tick(self, *, is_drawn: bool) -> None:
        """Read ahead again when the last read is older than `FRESH_S`."""
        is_old = self.ahead is None or not self._is_fresh(self.ahead)
        if is_old and is_drawn and self._console.base_context().live:
            self._look_ahead()

    def _is_fresh(self, ahead: Ahead) -> bool:
        return self._console.store.mono() - ahead.read_s < FRESH_S

    def _look_ahead(self) -> None:
        self._console.background.start(
            self._read_ahead(), group="ahead", exclusive=True, on_error=_nothing_said
        )

    async def _read_ahead(self) -> None:
        """Read the next wait, so that it is there when this one is answered."""
        console = self._console
        for _ in range(LOOKED_AHEAD_MAX):
            wait_id = self.queue.coming(console.open_ids())
            if wait_id is None:
                return
            wait = await self._wait(wait_id)
            if _is_left_out(wait, console.identity):
                self.left_out += 1
                self.queue.leave_out(wait_id)
            elif not console.is_claimed_by_another(wait_id):
                break  # otherwise someone has claimed it by now, and it comes later
        else:
            return
        self.ahead = await self._read(wait)


def _is_left_out(wait: WaitInfo, me: str) -> bool:
    """True if a review skips the wait: it is for others, or this person can't answer it (again)."""
    return bool(agreement.why_not(wait, me)) or agreement.is_for_others(wait)


def _nothing_said(text: str) -> None:
    """Ignore errors of reading ahead; the form reads again and shows them."""


REVIEW_SCOPES = (ActionScope.ONE_BY_ONE, ActionScope.ONE_WAIT)
REVIEW_HELP = (
    "Digits and first letters choose, ^s answers and goes on to the next wait. An answer is sent after some "
    "seconds: until then u takes it back, and F5 does while you type. s or F8 skips the wait, c claims or "
    "releases it, d assigns it to someone, z snoozes it. A text field has the focus at once; Esc leaves it, "
    "so that letters are keys again, and Esc once more leaves the form. What you entered is kept as a draft."
)
BODY_LINES = 8
"""Most lines of a body above the form; a longer one stands beside it."""


class AnswerScreen(SubmitScreen):
    """The form for exactly one wait (S-18)."""

    ACTION = "answer"
    AREA = "inbox"
    TITLE_TEXT = "Answer"
    SCOPES = (*SubmitScreen.SCOPES, ActionScope.ANSWER)
    BINDINGS = bindings(*SCOPES, *REVIEW_SCOPES)
    HELP_TEXT = (
        "Fill in the fields; those with `*` are required. An optional field is not sent unless you type: ^n "
        "changes it between not sent, empty and null. ^s shows exactly what would be sent; ^s again sends it. "
        "Esc keeps a draft. ^t shows what the run would do with the answer, and stores nothing."
    )

    DEFAULT_CSS = """
    AnswerScreen.reading #left { width: 2fr; }
    AnswerScreen.reading #context { width: 3fr; }
    """

    def __init__(
        self, wait_id: str, turns: ReviewTurns | None = None, read: Ahead | None = None
    ) -> None:
        super().__init__()
        self.wait_id = wait_id
        self.wait: WaitInfo | None = None
        self.entries: list[EntryInfo] = []
        self.fields: FormEntry = self.composes()
        self.claim = FormClaim(self, wait_id)
        self.turns = turns
        self._read = read
        self.aside_width = 0
        """Width of the context before it is laid out."""
        self._was_over = ""
        self._theirs: list[Content] = []
        """The answer of another person who was first."""
        self.asked_text = AskedText(id="asked")
        self._unseen = Unseen()
        self.is_one_of_many = turns is not None
        if turns is not None:
            self.SCOPES = (*type(self).SCOPES, *REVIEW_SCOPES)
            self.TITLE_TEXT = "One by one"
            self.HELP_TEXT = REVIEW_HELP
            self.parts = (*self.parts, WaitActions(self))
        if read is not None:
            self.wait, self.entries = read.wait, read.entries
            self.fields.form = SchemaForm(form_for(read.wait), read.begun.cells, read.begun.raw)
            self.slot = Vertical(self.fields.form, id="slot")

    def on_mount(self) -> None:
        """Draw the question, and count lines as seen when scrolled to."""
        self._draw_asked()
        self.watch(self.query_one("#left"), "scroll_y", self._count_unseen, init=False)

    def on_resize(self, event: events.Resize) -> None:
        """Start over counting seen lines, because another size shows others."""
        self._unseen = Unseen()
        self.call_after_refresh(self.redraw)
        self.call_after_refresh(self.begin_at_the_top)

    def opens(self) -> None:
        """Show at once what was read ahead; otherwise read."""
        if self._read is None:
            super().opens()
            return
        known = self.console.store.wait(self.wait_id) or self._read.wait
        changed = {"claim": known.claim, "assignee": known.assignee}
        self.take(self._read.wait.model_copy(update=changed))
        self.fields.stands(self._read.begun)
        self._notice_end()
        self.reads_from_now()

    def is_drawn(self) -> None:
        """Claim the wait, because its form is being read; read the next wait meanwhile."""
        self.console.unsent.returned.discard(self.wait_id)
        self.claim.begin()
        if self.turns is not None:
            self.turns.drawn()

    async def load(self) -> None:
        """Read the wait in full, show its form, and start reading the end of its transcript."""
        wait = await self.console.client.waits.get(self.wait_id)
        self.console.store.put_wait(wait)
        self.take(wait)
        await self.fields.show(form_for(wait))
        self._notice_end()
        self.reads_from_now()
        self.console.background.start(self._load_entries(wait.session_id), group="entries")

    def take(self, wait: WaitInfo) -> None:
        """Set the form's wait."""
        self.wait = self.fields.last_of = wait
        self.claim.opened(wait)

    def on_key(self, event: events.Key) -> None:
        """Scroll the text beside the form by pages, when everything above the form fits."""
        aside, left = self.fields.aside, self.query_one("#left", VerticalScroll)
        if left.display and left.max_scroll_y:
            return
        if event.key == "pagedown":
            aside.scroll_page_down(animate=False)
        elif event.key == "pageup":
            aside.scroll_page_up(animate=False)

    # --- the question

    async def _load_entries(self, session_id: str) -> None:
        self.entries = await tail(self.console.client, session_id, CONTEXT_ENTRIES)
        self.redraw()

    def draft_name(self) -> str | None:
        """Name of the draft: the wait's id."""
        return self.wait_id

    def now_wait(self) -> WaitInfo | None:
        """The wait with its status and votes from the store."""
        known = self.console.store.wait(self.wait_id)
        if self.wait is None or known is None:
            return self.wait
        names = ["status", "resolved_at", "resolved_by", "have", "voters"]
        if known.json_schema is not None:
            names.append("votes")
        changed = {name: getattr(known, name) for name in names}
        return self.wait.model_copy(update=changed)

    def over(self) -> str:
        """Say why the wait can't be answered any more; empty if it can.

        While the outcome of a send is unknown, that very send may have ended the wait: sending again repeats the
        operation and shows.
        """
        if self.submission.tried:
            return ""
        wait, outcome = self.now_wait(), self.submission.outcome
        if outcome is not None and outcome.is_final:
            return outcome.result.value.removeprefix("Not sent: ")
        if wait is None:
            return ""
        return words.wait_over(wait, self.console.store.now()) or self._why_not()

    def _why_not(self) -> str:
        """Say why this person can only read the wait; empty if they may answer."""
        return agreement.why_not(self.wait, self.console.identity) if self.wait is not None else ""

    def first(self) -> Iterable[Widget]:
        """The question, above the form."""
        return (self.asked_text,)

    def redraw(self) -> None:
        """Redraw the question, which changes with the answer, and everything else."""
        if self.is_attached:
            self._draw_asked()
        super().redraw()

    def _draw_asked(self) -> None:
        """Draw the question above the form, unless it stands beside it; a narrow review of a call shows its subject."""
        wait = self.now_wait()
        if wait is None:
            known = self.console.store.wait(self.wait_id)
            what = words.subject_of(known) if known is not None else self.wait_id
            self.asked_text.say([safe.line(what, "bold")], width=self._width, least=None)
            return
        call, is_narrow = self.tool_call(), self.has_class("-narrow")
        parts = self._asked_parts()
        if is_narrow:
            parts = parts[:1] if call is not None and self.submission.is_reviewing else parts
        elif not self._is_short:
            parts = parts[:1]
        is_read = self.submission.is_reviewing or (self.form is not None and self.form.is_raw)
        least = FEWEST_LINES if is_read else LEAST_LINES
        is_whole = call is not None or not is_narrow
        self.asked_text.say(parts, width=self._width, least=None if is_whole else least)
        self.call_after_refresh(self._count_unseen)

    def _asked_parts(self) -> list[Content | CodeLines]:
        wait = self.now_wait()
        assert wait is not None, "it was read"
        return asked_parts(wait, call=self.tool_call(), answer=self.result().data, is_whole=True)

    @property
    def _width(self) -> int:
        """Width of the question before it is laid out."""
        width = self.app.size.width
        return (width if self.has_class("-narrow") else width * 3 // 5) - 4

    @property
    def _aside_width(self) -> int:
        """Width of the context within its frame, also before it is laid out."""
        known = self.fields.aside.size.width or self.aside_width
        is_alone = self.has_class("-narrow")
        return (known or (self.app.size.width if is_alone else self.app.size.width * 2 // 5)) - 2

    @property
    def _is_short(self) -> bool:
        """True if the question stands above the form even with room beside it; a call always does."""
        if self.wait is None or self.tool_call() is not None:
            return True
        return len(wrapped(markdown_parts(own_text(self.wait, None)), self._width)) <= BODY_LINES

    def _count_unseen(self) -> None:
        """Show in the frame how much of a call was never on screen, or of a text is not on it now."""
        left, text = self.query_one("#left", VerticalScroll), self.asked_text
        if not text.content_size.height:
            return
        top, room = round(left.scroll_y), left.scrollable_content_region.height
        if self.tool_call() is None:
            count = len(text.lines) - text.cut  # the cut has a line of its own
            unseen = [] if self.has_class("aside") else outside(top, room, count)
            what = "the text"
        else:
            if self.has_class("aside"):
                top, room = 0, round(self.fields.aside.scroll_y) + self.fields.aside.size.height
            self._unseen.looks(top, room)
            unseen = self._unseen.of(len(text.lines))
            what = "this call"
        key = "pgup" if unseen and unseen[-1] < left.scroll_y else "pgdn"
        left.border_subtitle = unseen_text(len(unseen), f"{what}, {key}")

    def facts(self) -> Sequence[Content]:
        """The wait in brief: subject, time left, votes."""
        wait = self.now_wait()
        if wait is None:
            return (safe.line("Asking for its form…", "$c-muted"),)
        due = words.of_wait(wait, self.console.store.now())
        role = views.DUE_ROLE.get(due.urgency, "")
        agree = who_may(wait, self.form.form, self.console.identity) if self.form else []
        return [*brief_facts(wait, due.full_text, role), *agree]

    def focus_form(self, form: SchemaForm) -> None:
        """Disable the form if it can't be answered; else give the text its width, and focus the first field."""
        if self._why_not():
            form.disabled = True
            return
        self.set_class(not self._is_short and form.is_short, "reading")
        super().focus_form(form)

    def context_content(self) -> Content:
        """The question where it is not above the form, the transcript, then the JSON."""
        aside = self.fields.aside
        width = self._aside_width
        parts = [*self._theirs, head("Transcript, newest last")]
        parts += [entry_content(entry_lines.entry_line(entry), width) for entry in self.entries]
        aside.asked_lines = 0
        if self.wait is not None and (self.has_class("-narrow") or not self._is_short):
            shown = wrapped(self._asked_parts(), width - 2)
            aside.asked_lines = len(shown)
            parts = [*shown, Content(""), *parts]
        if preview := self.preview():
            parts += [Content(""), *preview]
        wait = self.now_wait()
        if wait is not None:
            now = self.console.store.now()
            due = words.of_wait(wait, now)
            role = views.DUE_ROLE.get(due.urgency, "")
            parts += [Content(""), *wait_due(wait, due.full_text, role, now), *wait_ids(wait)]
        return lines(parts)

    def effects(self) -> Sequence[str]:
        """Effects of the answer."""
        if self.wait is None:
            return ()
        passed = self.claim.state.overrides
        over = (f"overrides the claim of {one_line(passed.label, 60)}",) if passed else ()
        called = call_effects(self.tool_call(), self.result().data)
        return (*over, *called, *effects.of_answer(self.wait))

    def path(self) -> str:
        """Inbox > subject > Answer; in a review Inbox > 3 of 12 > subject."""
        wait = self.wait or self.console.store.wait(self.wait_id)
        what = words.subject_of(wait) if wait is not None else self.wait_id
        if self.turns is not None:
            return f"Inbox > {self.turns.queue.asked} of {self.turns.queue.count} > {what[:60]}"
        return f"Inbox > {what[:60]} > Answer"

    def status(self) -> tuple[Pairs, Pairs]:
        """The path and the form's state; a review omits "nothing sent" to leave room for pending answers."""
        left, right = super().status()
        is_quiet = self.submission.phase is SendPhase.FORM and not self.draft_state
        return left, () if is_quiet and self.turns is not None else right

    def store_changed(self) -> None:
        """Show it if the wait ended while the form is open; keep the text."""
        super().store_changed()
        self._notice_end()

    def tick(self) -> None:
        """Check the deadline, and renew the claim when due."""
        super().tick()
        self.claim.renew_if_due()
        self._notice_end()
        if self.turns is not None:
            self.turns.tick(is_drawn=self.submission.drawn_s is not None)

    def tick_behind(self) -> None:
        """Renew the claim also under another screen, such as help: the operator still works on the wait."""
        self.claim.renew_if_due()

    def _notice_end(self) -> None:
        over = self.over()
        if (
            over
            and over != self._was_over
            and self.submission.phase in (SendPhase.FORM, SendPhase.REVIEW)
            and self.submission.outcome is None
        ):
            self._was_over = over
            self.tell(self._ended(over), "warning")
            self.redraw()
            wait = self.now_wait()
            if wait is not None and wait.status is WaitStatus.FULFILLED:
                self.console.background.start(
                    self._compare(self._ended(over), "warning"), group="compare"
                )

    def _ended(self, over: str) -> tuple[str, ...]:
        if over == self._why_not():
            return ("To be read only: nothing can be sent from here",)
        wait = self.now_wait()
        at = f" at {words.clock(wait.resolved_at)} UTC" if wait and wait.resolved_at else ""
        return (
            f"{over[0].upper()}{over[1:]}{at}",
            "your text is kept; o in the inbox opens the session",
        )

    async def deliver(self, permit: Permit, data: Any) -> AnswerReceipt:
        """Answer this wait and no other."""
        return await permit.client.waits.answer(
            self.wait_id,
            data,
            override_claim=self.claim.state.overrides is not None,
            sign=as_shown(self.wait, beside(SshSigner())) if self.wait is not None else None,
            operation_id=self.submission.operation_id,
        )

    async def look_again(self, error: HelmrError) -> WaitInfo | None:
        """Read the wait after a refusal; None if that fails."""
        if isinstance(error, WaitClaimed):
            self.claim.lost(error)
        try:
            wait = await self.console.client.waits.get(self.wait_id)
        except HelmrError:
            return None
        self.console.store.put_wait(wait)
        return wait

    def after_refusal(self, outcome: AnswerOutcome) -> None:
        """Show the other answer next to this one, if someone was first."""
        super().after_refusal(outcome)
        if outcome.result is Result.RESOLVED:
            said = (outcome.result.value, *outcome.lines)
            self.console.background.start(
                self._compare(said, outcome.role, outcome.theirs), group="compare"
            )

    async def _compare(self, said: Sequence[str], role: str, theirs: Any = None) -> None:
        """Compare the other person's answer with this form's."""
        wait = self.now_wait()
        if theirs is None and wait is not None:
            theirs = await answer_of(self.console.client, wait)
        if theirs is None or self.form is None:
            return
        form = self.form
        self._theirs = details.whole(form.form, theirs)
        self.tell((*said, *details.compared(form.form, theirs, form.result())), role)
        self.redraw()

    def on_schema_form_choice_made(self) -> None:
        """Count a choice made by a key as seen."""
        if self.form is not None and self.form.form.is_one_choice:
            self.submission.chose(self.console.keys.typed_s)

    # --- pending with undo instead of a review

    @property
    def has_undo(self) -> bool:
        """True if the answer is sent with undo instead of a review page: the form itself shows all that is sent."""
        return (
            self.console.outbox.holds
            and self.form is not None
            and not self.over()
            and self.claim.state.overrides is None
            and (self.turns is not None or not (self.form.is_raw or self.form.form.has_free_text))
        )

    def pend(self, data: Any) -> None:
        """Hold the answer; it is sent after a while, unless it is taken back."""
        self.console.background.start(self._pend(data), group="hold", holds_keys=True)

    async def _pend(self, data: Any) -> None:
        """Save the draft, put the answer into the outbox, and go on.

        In a review, repeats of the key press that answered the last wait never answer this one, however late they come.
        """
        if (
            self.is_one_of_many
            and self.console.keys.press.is_again
            and await self.console.keys.is_held()
        ):
            self.console.say(TOO_SOON, "warning")
            return
        wait, form = self.wait, self.form
        assert wait is not None, "a form was loaded"
        assert form is not None, "a form is filled"
        await self.keep()
        answer = PendingAnswer(
            self.console,
            wait,
            data,
            shown=json_text(redacted(form.form, data)),
            draft=self.draft_of(wait.id, None),
            operation_id=self.submission.operation_id,
        )
        app = self.app
        self.console.hold(
            PendingSend(
                answer.title, frozenset((wait.id,)), answer.send, lambda: self.taken_back(app)
            )
        )
        await self.go_on()

    def taken_back(self, app: App[Any]) -> None:
        """Show the form again with the entered text; in a review, in place of the current wait."""
        shown = app.screen
        if self.turns is None or not isinstance(shown, AnswerScreen) or shown.turns is None:
            app.push_screen(AnswerScreen(self.wait_id))
        elif shown.submission.phase is not SendPhase.SENDING:
            giving_way = shown.give_way(self.wait_id)
            self.console.background.start(giving_way, group="draft", holds_keys=True)

    # --- in a review

    async def give_way(self, wait_id: str) -> None:
        """Show that wait now, and this one after it."""
        assert self.turns is not None, "in a review"
        await self.keep()
        await self.claim.let_go()
        self.turns.queue.again(wait_id, self.wait_id)
        self.turns.queue.asked -= 2
        await self.go_on()

    async def go_on(self) -> None:
        """Show the next wait of the review; outside a review, close."""
        if self.turns is None:
            self.dismiss()
            return
        self.console.line.unsay(TOO_SOON)
        following = await self.turns.take_free()
        if following is None:
            self.console.say(self.turns.ended_text(), "information")
            self.dismiss()
            return
        following.aside_width = self.fields.aside.size.width
        self.app.switch_screen(following)

    def do_skip(self) -> None:
        """Keep a draft, and go on to the next wait."""
        if self.submission.phase is SendPhase.SENDING:
            self.console.say("It is being sent; wait for what comes back", "warning")
            return
        self.console.background.start(self._skip(), group="draft", holds_keys=True)

    async def _skip(self) -> None:
        await self.keep()
        await self.claim.let_go()
        await self.go_on()

    async def let_go_of_it(self) -> None:
        """Release the claim."""
        await self.claim.let_go()

    def wait_in_front(self) -> WaitInfo | None:
        """The wait on screen, with its claim."""
        known = self.console.store.wait(self.wait_id)
        claim = self.claim.state.own or (known.claim if known is not None else None)
        return self.wait.model_copy(update={"claim": claim}) if self.wait is not None else None

    def claim_changed(self, claim: ClaimInfo | None) -> None:
        """Keep a claim made by a key; don't claim again what was released."""
        self.claim.state.set_by_key(claim)

    def seen_to(self) -> None:
        """Go on to the next wait, as if this one was skipped."""
        self.do_skip()

    def labels(self) -> dict[str, str]:
        """Name esc "Keys" while it would leave a text field of a review."""
        is_keys = self.turns is not None and self.is_typing
        return {**super().labels(), "back": "Keys"} if is_keys else super().labels()

    def do_back(self) -> None:
        """Leave the text field in a review, so that letters are keys again; otherwise leave the form."""
        is_filling = self.submission.phase is SendPhase.FORM
        if self.turns is not None and self.is_typing and is_filling:
            self.set_focus(None)
            return
        super().do_back()

    # --- results

    def do_dry_run(self) -> None:
        """Try the session's code with this answer; store nothing (S-87)."""
        built = self.result()
        if self.form is None or self.submission.phase is not SendPhase.FORM:
            return
        if built.problems:
            self.form.show_problems(built.problems)
            self.console.say("What if: fill the form first; it must be an answer", "warning")
            return
        self.console.say(
            "What if: the code is tried with this answer; nothing is stored", "information"
        )
        self.console.background.start(
            self._dry_run(built.data), group="dry_run", exclusive=True, holds_keys=True
        )

    async def _dry_run(self, data: Any) -> None:
        found = await self.console.client.waits.dry_run(self.wait_id, data)
        if self.app.screen is self:
            self.app.push_screen(TextScreen("What if", dry_run_lines(found)))

    def accepted(self, outcome: AnswerOutcome) -> None:
        """Show the receipt, keep the answer as the last one, and go on to the next wait."""
        if self.wait is not None and self.form is not None:
            self.console.keep_as_last(self.wait, self.draft_of(self.wait.id, None))
        what = one_line(words.subject_of(self.wait), 60) if self.wait is not None else self.wait_id
        self.console.say(f"{outcome.result.value}: {what}; {'; '.join(outcome.lines)}", "receipt")
        if self.turns is None:
            self.dismiss()
            self.console.took(self.wait_id, outcome)
        else:
            self.console.took(self.wait_id, outcome)
            self.console.background.start(self.go_on(), group="next", holds_keys=True)
