"""The page that approves an agent's call and allows similar calls for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from helmr.errors import HelmrError, UsageError
from helmr.gate.grants import matches_text
from helmr.models import WaitInfo
from helmr.person.review import words
from helmr.person.review.granting import (
    APPROVED,
    HINT,
    SHOWN_CHARS_MAX,
    VALID_FOR,
    GrantOffer,
    offered,
)
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.person.review.sending import SendPhase
from helmr.wire import durations, ids
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionContext, Permit
from helmr_console.screens.submit import SubmitScreen
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.panes import fact


class GrantScreen(SubmitScreen):
    """A grant for calls like this one: a line for each telling argument, and a time; sent by enter or ctrl+s.

    Args:
        wait: The wait of the call.
        given: Called once the call is approved.
    """

    ACTION = "grant"
    AREA = "inbox"
    TITLE_TEXT = "Allow for a while"
    IS_REVIEW = True
    HELP_TEXT = (
        "Approves this call, and allows calls of this tool in this agent's session that look as the lines say, without "
        "asking, until the time is over. `*` stands for any text; an empty line allows any. "
        "`helmr gate grant revoke` ends it."
    )

    def __init__(self, wait: WaitInfo, given: Callable[[], None]) -> None:
        super().__init__()
        self.wait = wait
        self._given = given
        self._offer = GrantOffer("", {})
        self._granting = ids.new_id(ids.OPERATION)
        self._globs: dict[str, SafeInput] = {}
        self._time = SafeInput(VALID_FOR, id="time", max_length=40)

    async def load(self) -> None:
        """Read the wait in full, and show the lines; UsageError if such a call can't be allowed for a while."""
        wait = await self.console.client.waits.get(self.wait.id)
        offer = offered(wait)
        if offer is None:
            raise UsageError("this is no call that can be allowed for a while")
        self.wait, self._offer = wait, offer
        self._globs = {
            name: SafeInput(shown, select_on_focus=False, max_length=SHOWN_CHARS_MAX)
            for name, shown in offer.shown().items()
        }
        await self.slot.mount(*self._widgets())
        self.submission.phase = SendPhase.FORM
        self.begin_with(next(iter(self._globs.values()), self._time))
        self.redraw()
        self.reads_from_now()

    def _widgets(self) -> Iterable[Widget]:
        for name, field in self._globs.items():
            yield Static(safe.line(f"{name} is like", "bold", limit=100))
            yield field
        if not self._globs:
            yield Static(Content.styled("Whatever it is called with", "bold"))
        yield Static(Content.styled("For", "bold"))
        yield self._time
        hint = f"\n{HINT}.\nenter approves this call and allows those.  esc leaves everything as it is."
        yield Static(Content.styled(hint, "bold $c-accent"))

    def facts(self) -> Sequence[Content]:
        """The call and its agent."""
        parts = [safe.line(words.subject_of(self.wait), "bold")]
        if self._offer.tool:
            parts.append(fact("tool", safe.line(self._offer.tool, limit=200)))
        if self.wait.body:
            parts.append(safe.line(self.wait.body.strip().splitlines()[-1], "$c-muted", limit=300))
        return parts

    def context(self) -> ActionContext:
        """The context of a call, which can be allowed while it can be answered."""
        return replace(super().context(), wait=True, wait_over=self.over(), call=True)

    def over(self) -> str:
        """Say why the call can't be approved any more; empty if it can."""
        wait = self.console.store.wait(self.wait.id) or self.wait
        return words.wait_over(wait, self.console.store.now())

    def lacks(self) -> str:
        """Problem of the time; empty, with the data set, if it can be read."""
        try:
            valid_s = durations.seconds(self._time.value.strip() or VALID_FOR)
        except UsageError as error:
            return f"for how long: {error.message}"
        typed = {name: field.value for name, field in self._globs.items()}
        self.submission.data = (self._offer.matches(typed), valid_s)
        return ""

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Send on enter."""
        event.stop()
        self.do_review()

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help: the patterns to type."""
        return self.TITLE_TEXT, (HINT, "an empty line: whatever it is")

    def path(self) -> str:
        """Inbox > subject > Allow for a while."""
        return f"Inbox > {words.subject_of(self.wait)[:60]} > {self.TITLE_TEXT}"

    async def deliver(self, permit: Permit, data: Any) -> AnswerOutcome:
        """Approve the call, then grant; a repeat repeats the same two operations."""
        matches, valid_s = data
        operation_id = self.submission.operation_id
        await permit.client.waits.answer(self.wait.id, APPROVED, operation_id=operation_id)
        try:
            made = await permit.client.grants.create(
                self.wait.session_id,
                matches=matches,
                expires_in=valid_s,
                operation_id=self._granting,
            )
        except HelmrError as error:
            said = f"approved, but not allowed for a while: {one_line(error.message, 200)}"
            return AnswerOutcome(Result.ACCEPTED, (said,))
        allows = one_line(f"{made.tool}, {matches_text(made.matches)}", 200)
        until = words.moment(made.expires_at, self.console.store.now())
        return AnswerOutcome(Result.ACCEPTED, (f"approved, and allowed until {until}: {allows}",))

    def accepted(self, outcome: AnswerOutcome) -> None:
        """Close, and let the screen below go on."""
        super().accepted(outcome)
        self.console.lists_changed()
        self.app.call_after_refresh(self._given)
