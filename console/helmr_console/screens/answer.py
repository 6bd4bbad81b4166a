"""Answering one wait. The form belongs to the wait that was opened; nothing after that looks at the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.app import App
from textual.content import Content

from helmr.errors import HelmrError, WaitClaimed
from helmr.forms import Form, form_of, redacted
from helmr.forms.model import json_text
from helmr.models import EntryInfo, SendReceipt, TokenAnswerReceipt, WaitInfo, WaitStatus
from helmr.safe_text import one_line
from helmr_console import countdown, effects, entry_lines, rival, safe, views
from helmr_console.actions import Scope
from helmr_console.held_send import HeldSend
from helmr_console.outbox import Sending
from helmr_console.outcome import Outcome, Result
from helmr_console.permits import Permit
from helmr_console.reads import answer_of, tail
from helmr_console.screens.base import bindings
from helmr_console.screens.claiming import ClaimingScreen
from helmr_console.screens.overlays import TextScreen
from helmr_console.submission import SendPhase
from helmr_console.widgets.call import call_effects
from helmr_console.widgets.details import dry_run_lines
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.markdown import markdown
from helmr_console.widgets.panes import (
    asked,
    brief_facts,
    entry_content,
    head,
    lines,
    own_text,
    wait_due,
    wait_ids,
)

CONTEXT_ENTRIES = 30
BODY_LINES = 8
"""A body of so many lines stands above the form; a longer one beside it."""


def form_for(wait: WaitInfo) -> Form:
    """What is entered to answer it."""
    return form_of(wait.json_schema, initial=views.initial_of(wait))


class AnswerScreen(ClaimingScreen):
    """The form for exactly one wait (S-18)."""

    ACTION = "answer"
    AREA = "inbox"
    TITLE_TEXT = "Answer"
    SCOPES = (*ClaimingScreen.SCOPES, Scope.ANSWER)
    BINDINGS = bindings(*SCOPES)
    HELP_TEXT = (
        "Fill the fields; `*` must be. Optional fields are not sent unless you type: ^n goes through not sent, "
        "empty and null. ^s shows exactly what would be sent; ^s again sends it. Esc keeps a draft. "
        "^t says what the answer would set off, and stores nothing."
    )

    DEFAULT_CSS = """
    AnswerScreen.reading #left { width: 2fr; }
    AnswerScreen.reading #context { width: 3fr; }
    """

    def __init__(self, wait_id: str) -> None:
        super().__init__(wait_id)
        self.wait: WaitInfo | None = None
        self.entries: list[EntryInfo] = []
        self.aside_width = 0
        """Of the context before it is laid out."""
        self._was_over = ""
        self._theirs: list[Content] = []
        """Another's answer that was first."""

    async def load(self) -> None:
        """The wait in full, its form, the end of its transcript."""
        wait = await self.console.client.waits.get(self.wait_id)
        self.console.store.put_wait(wait)
        self.take(wait)
        await self.show_form(form_for(wait))
        self.reads_from_now()
        self.console.background.start(self._load_entries(wait.session_id), group="entries")

    def take(self, wait: WaitInfo) -> None:
        """This is the wait."""
        self.wait = wait
        self.was_claimed(wait.claim)

    # --- what it is about

    async def _load_entries(self, session_id: str) -> None:
        self.entries = await tail(self.console.client, session_id, CONTEXT_ENTRIES)
        self.redraw()

    def draft_name(self) -> str | None:
        """Drafts belong to the wait."""
        return self.wait_id

    def now_wait(self) -> WaitInfo | None:
        """The wait with its status as the store knows it."""
        known = self.console.store.wait(self.wait_id)
        if self.wait is None or known is None:
            return self.wait
        changed = {name: getattr(known, name) for name in ("status", "resolved_at", "resolved_by")}
        return self.wait.model_copy(update=changed)

    def over(self) -> str:
        """Another answer, the clock or a cancel ended it.

        While the outcome of a send is unknown the wait may be over by that very send: asking again is the same
        operation and tells.
        """
        if self.submission.tried:
            return ""
        wait, outcome = self.now_wait(), self.submission.outcome
        if outcome is not None and outcome.is_final:
            return outcome.result.value.removeprefix("Not sent: ")
        return views.wait_over(wait, self.console.store.now()) if wait is not None else ""

    def facts(self) -> Sequence[Content]:
        """Which wait, and how long it has."""
        wait = self.now_wait()
        if wait is None:
            return (safe.line(f"Asking for {self.wait_id}…", "$c-muted"),)
        due = countdown.of_wait(wait, self.console.store.now())
        role = views.DUE_ROLE.get(due.urgency, "")
        call, answer = self.tool_call(), self.result().data
        if self.has_class("-narrow"):
            shown = asked(wait, call=call, answer=answer, lines_max=2, is_whole=True)
            if call is not None and self.submission.is_reviewing:
                shown = shown[:1]  # what is sent and what it does say the rest
        else:
            brief = wait if self._is_short(wait) else wait.model_copy(update={"body": None})
            shown = asked(brief, call=call, answer=answer, is_whole=True)
        return [*shown, *brief_facts(wait, due.full_text, role)]

    def _is_short(self, wait: WaitInfo) -> bool:
        return len(markdown(own_text(wait, self.tool_call()))) <= BODY_LINES

    def focus_form(self, form: SchemaForm) -> None:
        """A call is read from its beginning, however far below it is decided."""
        super().focus_form(form)
        is_long = self.wait is not None and not self._is_short(self.wait)
        self.set_class(is_long and form.is_short, "reading")
        if self.tool_call() is not None:
            self.call_after_refresh(self.query_one("#left").scroll_home, animate=False)

    def context_content(self) -> Content:
        """What is asked in full, transcript, then the JSON."""
        width = (self.aside.size.width or self.aside_width) - 2
        parts = [*self._theirs, head("Transcript, newest last")]
        parts += [entry_content(entry_lines.entry_line(entry), width) for entry in self.entries]
        beside = self.has_class("-narrow") or (
            self.wait is not None and not self._is_short(self.wait)
        )
        if self.wait is not None and self.wait.body and beside:
            shown = asked(self.wait, call=self.tool_call(), answer=self.result().data)
            parts = [*shown, Content(""), *parts]
        if preview := self.preview():
            parts += [Content(""), *preview]
        wait = self.now_wait()
        if wait is not None:
            now = self.console.store.now()
            due = countdown.of_wait(wait, now)
            role = views.DUE_ROLE.get(due.urgency, "")
            parts += [Content(""), *wait_due(wait, due.full_text, role, now), *wait_ids(wait)]
        return lines(parts)

    def effects(self) -> Sequence[str]:
        """What the answer causes."""
        if self.wait is None:
            return ()
        passed = self.overrides
        over = (f"overrides the claim of {one_line(passed.label, 60)}",) if passed else ()
        called = call_effects(self.tool_call(), self.result().data)
        return (*over, *called, *effects.of_answer(self.wait))

    def path(self) -> str:
        """Inbox > subject > Answer."""
        what = views.subject_of(self.wait) if self.wait is not None else self.wait_id
        return f"Inbox > {what[:60]} > Answer"

    def store_changed(self) -> None:
        """The wait may have ended while the form is open: say it, keep the text."""
        super().store_changed()
        self._notice_end()

    def tick(self) -> None:
        """The deadline may have passed; the claim has to be renewed."""
        super().tick()
        self.renew_if_due()
        self._notice_end()

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
        wait = self.now_wait()
        at = f" at {countdown.clock(wait.resolved_at)} UTC" if wait and wait.resolved_at else ""
        return (
            f"{over[0].upper()}{over[1:]}{at}",
            "your text is kept; o in the inbox opens the session",
        )

    async def deliver(self, permit: Permit, data: Any) -> SendReceipt | TokenAnswerReceipt:
        """Answer this wait and no other."""
        return await self.console.writer.answer(
            permit,
            self.wait_id,
            data,
            override_claim=self.overrides is not None,
            operation_id=self.submission.operation_id,
        )

    async def look_again(self, error: HelmrError) -> WaitInfo | None:
        """How the wait stands after a refusal; unknown if that can't be asked."""
        if isinstance(error, WaitClaimed):
            self.told_of(error)
        try:
            wait = await self.console.client.waits.get(self.wait_id)
        except HelmrError:
            return None
        self.console.store.put_wait(wait)
        return wait

    def after_refusal(self, outcome: Outcome) -> None:
        """Another was first: show their answer next to this one."""
        super().after_refusal(outcome)
        if outcome.result is Result.RESOLVED:
            said = (outcome.result.value, *outcome.lines)
            self.console.background.start(
                self._compare(said, outcome.role, outcome.theirs), group="compare"
            )

    async def _compare(self, said: Sequence[str], role: str, theirs: Any = None) -> None:
        """What the other answered, against what stands here."""
        wait = self.now_wait()
        if theirs is None and wait is not None:
            theirs = await answer_of(self.console.client, wait)
        if theirs is None or self.form is None:
            return
        form = self.form
        self._theirs = rival.whole(form.form, theirs)
        self.tell((*said, *rival.compared(form.form, theirs, form.result())), role)
        self.redraw()

    # --- held in place of reviewed

    @property
    def holds(self) -> bool:
        """Whether ^s holds the answer and leaves out the review."""
        return (
            self.console.outbox.holds
            and self.submission.phase is SendPhase.FORM
            and not self.submission.tried
            and self.form is not None
            and not self.over()
            and self.overrides is None
            and self.needs_no_review(self.form)
        )

    def needs_no_review(self, form: SchemaForm) -> bool:
        """What is only chosen says on the form what is sent."""
        return not form.is_raw and not form.form.has_free_text

    @property
    def sends_next(self) -> bool:
        """Whether ^s would hold or send."""
        return self.holds or super().sends_next

    def labels(self) -> dict[str, str]:
        """The key says what it does."""
        return {"review": "Send"} if self.holds else super().labels()

    def do_review(self) -> None:
        """Hold what needs no review."""
        if not self.holds:
            super().do_review()
            return
        built = self.checked()
        if built is not None and self.permit_of_reader() is not None:
            self.console.background.start(self._hold(built.data), group="hold", holds_keys=True)

    async def _hold(self, data: Any) -> None:
        """The draft first, then the outbox, then on."""
        wait, form = self.wait, self.form
        assert wait is not None, "a form was loaded"
        assert form is not None, "a form is filled"
        await self.keep()
        answer = HeldSend(
            self.console,
            wait,
            data,
            shown=json_text(redacted(form.form, data)),
            draft=self.draft_of(wait.id, None),
            operation_id=self.submission.operation_id,
        )
        app = self.app
        self.console.hold(
            Sending(answer.title, frozenset((wait.id,)), answer.send, lambda: self.taken_back(app))
        )
        self.leave_held()

    def leave_held(self) -> None:
        """It is held: on to what comes next."""
        self.dismiss()

    def taken_back(self, app: App[Any]) -> None:
        """Its form again, with what was entered."""
        app.push_screen(AnswerScreen(self.wait_id))

    def do_dry_run(self) -> None:
        """What this answer would set off (S-87)."""
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

    def accepted(self, outcome: Outcome) -> None:
        """Say it and go on to the next wait."""
        self.say_accepted(outcome)
        self.dismiss()
        self.console.answered(self.wait_id)

    def say_accepted(self, outcome: Outcome) -> None:
        """What was accepted, and how; it is kept for the next time."""
        if self.wait is not None and self.form is not None:
            self.console.keep_as_last(self.wait, self.draft_of(self.wait.id, None))
        what = one_line(views.subject_of(self.wait), 60) if self.wait is not None else self.wait_id
        self.console.say(f"{outcome.result.value}: {what}; {'; '.join(outcome.lines)}", "receipt")
