"""What is done with a wait besides answering it: claim it, give it to somebody, put it off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from helmr import durations
from helmr.errors import UsageError, WaitClaimed
from helmr.models import ClaimInfo, WaitInfo
from helmr.safe_text import one_line
from helmr.snoozes import back_at
from helmr_console import countdown, safe, views
from helmr_console.actions import Context
from helmr_console.outcome import Outcome, Result
from helmr_console.permits import Permit
from helmr_console.screens.base import ConsoleScreen
from helmr_console.screens.correct import AmendScreen
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_console.submission import SendPhase
from helmr_console.widgets.fields import SafeInput
from helmr_console.widgets.panes import fact, head

SNOOZES = ("10m", "30m", "1h", "4h", "1d", "7d")
"""What can be picked; `helmr next` takes any time."""
NAMES_SHOWN = 12
NAME_MAX = 200


class DeskScreen(ConsoleScreen):
    """A screen with one wait in front."""

    _asked_to_override: tuple[str, str] | None = None
    """Wait and person of another's claim that the operator was told of: the next key takes it over."""

    def wait_in_front(self) -> WaitInfo | None:
        """The wait that is meant."""
        raise NotImplementedError

    def claim_changed(self, claim: ClaimInfo | None) -> None:
        """The operator claimed the wait in front, or released it."""

    def seen_to(self) -> None:
        """The wait in front was given away, snoozed or woken."""

    # --- claims

    def do_claim(self) -> None:
        """Claim the wait in front, or release one's claim of it; amend what one answered oneself."""
        wait = self.wait_in_front()
        if wait is not None and self.context().own_answer:
            self.app.push_screen(AmendScreen(wait.id))
        elif wait is not None:
            work = self._claim(self.permit("claim"), wait)
            self.console.background.start(work, group="claim", holds_keys=True)

    async def _claim(self, permit: Permit, wait: WaitInfo) -> None:
        console, now = self.console, self.console.store.now()
        claim = wait.claim if wait.claim is not None and now < wait.claim.until else None
        try:
            if claim is not None and claim.on_behalf_of == console.identity:
                receipt = await console.writer.release(permit, wait.id)
            else:
                over = claim is not None and self._asked_to_override == (wait.id, claim.label)
                if claim is not None and not over:
                    self._tell_of(wait.id, claim.label, views.presence(claim, now))
                    return
                receipt = await console.writer.claim(permit, wait.id, override_claim=over)
        except WaitClaimed as error:
            found = await console.client.waits.get(wait.id)
            console.store.put_claims([found])
            label = found.claim.label if found.claim is not None else ""
            self._tell_of(wait.id, label, one_line(error.message, 200))
            return
        self._asked_to_override = None
        console.store.put_claims([wait.model_copy(update={"claim": receipt.claim})])
        self.claim_changed(receipt.claim)
        said = views.presence(receipt.claim, now)
        console.say(f"Claimed: {said}; c releases it" if said else "Released", "information")
        self.store_changed()

    def _tell_of(self, wait_id: str, label: str, said: str) -> None:
        self._asked_to_override = (wait_id, label)
        self.console.say(f"Another is at it: {said}. c once more takes it over", "warning")
        self.store_changed()

    # --- to somebody

    def do_delegate(self) -> None:
        """To whom is asked on a page of its own."""
        wait = self.wait_in_front()
        if wait is not None:
            self.app.push_screen(DelegateScreen(wait, self.seen_to))

    # --- snoozed

    def do_snooze(self) -> None:
        """For how long is picked."""
        wait, console = self.wait_in_front(), self.console
        if wait is None:
            return
        now = console.store.now()
        choices = []
        if console.snoozed.until(wait.id) is not None:
            wake = partial(self._start, self._wake(wait.id))
            choices.append(MenuItem("wake", "it is back now", wake))
        for text in SNOOZES:
            try:
                until = back_at(wait, timedelta(seconds=durations.seconds(text)), now)
            except UsageError as error:
                console.say(f"Snooze: {error.message}. {error.hint}", "warning")
                return
            before = "  ten minutes before its deadline"
            is_cut = until - now < timedelta(seconds=durations.seconds(text))
            detail = f"back at {countdown.stamp(until)}{before if is_cut else ''}"
            pick = partial(self._start_snoozing, wait, text)
            choices.append(MenuItem(text, detail, pick))
            if is_cut:
                break
        title = one_line(f"Snooze: {views.subject_of(wait)}", 80)
        self.app.push_screen(PickScreen(title, choices, typed=False))

    def _start(self, work: Any) -> None:
        self.console.background.start(work, group="snooze", holds_keys=True)

    def _start_snoozing(self, wait: WaitInfo, text: str) -> None:
        self._start(self._put_it_off(wait, text))

    async def _put_it_off(self, wait: WaitInfo, text: str) -> None:
        console = self.console
        snoozed_for = timedelta(seconds=durations.seconds(text))
        try:
            await console.snoozed.snooze(wait.id, back_at(wait, snoozed_for, console.store.now()))
        except UsageError as error:
            console.say(f"Snooze: {error.message}", "warning")
        except OSError as error:
            console.say(f"Snooze: it can't be kept: {error.strerror}", "error")
        else:
            console.say(f"Snoozed, {console.snoozed.text(wait.id)}", "information")
            console.lists_changed()
            self.seen_to()

    async def _wake(self, wait_id: str) -> None:
        await self.console.snoozed.wake(wait_id)
        self.console.lists_changed()
        self.seen_to()


class DelegateScreen(SubmitScreen):
    """To whom a wait is given: one name, sent by enter or ctrl+s.

    Args:
        wait: The wait.
        given: Called once it was given to somebody.
    """

    ACTION = "delegate"
    AREA = "inbox"
    TITLE_TEXT = "Delegate"
    HELP_TEXT = "A name says whom the wait concerns from now on; without one it concerns nobody in particular."

    def __init__(self, wait: WaitInfo, given: Any) -> None:
        super().__init__()
        self.wait = wait
        self._given = given
        self.names: list[str] = []
        self.field = SafeInput(id="typed", select_on_focus=False, max_length=NAME_MAX)

    async def load(self) -> None:
        """The field."""
        self.names = self.console.store.people()
        self.field.suggester = SuggestFromList(self.names, case_sensitive=False)
        await self.slot.mount(*self._widgets())
        self.submission.phase = SendPhase.FORM
        self.field.focus()
        self.redraw()
        self.reads_from_now()

    def _widgets(self) -> Iterable[Widget]:
        yield Static(Content.styled("To whom; empty: nobody in particular", "bold"))
        yield self.field
        hint = "\nenter gives it.  right completes a name.  esc leaves everything as it is."
        yield Static(Content.styled(hint, "bold $c-accent"))

    def facts(self) -> Sequence[Content]:
        """Which wait, whose it is, and who there is."""
        now = self.wait.assignee
        parts = [
            safe.line(views.subject_of(self.wait), "bold"),
            fact("assignee", safe.line(now or "nobody", limit=NAME_MAX)),
        ]
        if self.names:
            known = ", ".join(self.names[:NAMES_SHOWN])
            parts += [head("Known here"), safe.line(f"  {known}", limit=300)]
        return parts

    def context(self) -> Context:
        """It can be given as long as it is open."""
        wait = self.console.store.wait(self.wait.id) or self.wait
        over = views.wait_over(wait, self.console.store.now())
        return replace(super().context(), wait=True, wait_over=over)

    @property
    def sends_next(self) -> bool:
        """This page is the review."""
        return self.submission.phase in (SendPhase.FORM, SendPhase.REVIEW)

    def do_review(self) -> None:
        """This page is the review."""
        if self.sends_next:
            self.submission.data = self.field.value.strip() or None
            self.send_now()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter gives it."""
        event.stop()
        self.do_review()

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """What is typed."""
        return self.TITLE_TEXT, ("a name as others filter by it: assignee:NAME, is:mine",)

    def path(self) -> str:
        """Inbox > subject > Delegate."""
        return f"Inbox > {views.subject_of(self.wait)[:60]} > Delegate"

    async def deliver(self, permit: Permit, data: Any) -> Outcome:
        """Give it."""
        receipt = await self.console.writer.assign(
            permit, self.wait.id, data, operation_id=self.submission.operation_id
        )
        self.console.store.assigned(self.wait.id, receipt.assignee)
        return Outcome(Result.ACCEPTED, (f"given to {one_line(data or 'nobody', 60)}",))

    def accepted(self, outcome: Outcome) -> None:
        """Closed; what was in front goes on."""
        super().accepted(outcome)
        self.console.lists_changed()
        self.app.call_after_refresh(self._given)
