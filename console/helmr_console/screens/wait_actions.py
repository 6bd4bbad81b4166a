"""Actions on a wait besides answering: claim, delegate, snooze, allow more calls like it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from textual.app import App
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from helmr.errors import HelmrError, UsageError, WaitClaimed
from helmr.models import ClaimInfo, WaitInfo
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, Result, claim_of, claimed_text
from helmr.person.review.personal import back_at
from helmr.person.review.queue import ClaimKey, ClaimState
from helmr.person.review.sending import SendPhase
from helmr.wire import durations
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionContext, NotPermitted, Permit
from helmr_console.console import Console
from helmr_console.screens.correct import AmendScreen
from helmr_console.screens.granting import GrantScreen
from helmr_console.screens.overlays import MenuItem, PickScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.panes import fact, head

SNOOZES = ("10m", "30m", "1h", "4h", "1d", "7d")
"""Times to pick from; `helmr next` takes any."""
NAMES_SHOWN = 12
NAME_MAX = 200


class WaitPage(Protocol):
    """A screen with one wait in front."""

    @property
    def console(self) -> Console: ...
    @property
    def app(self) -> App[Any]: ...
    def context(self) -> ActionContext: ...
    def permit(self, action_id: str) -> Permit: ...
    def store_changed(self) -> None: ...
    def wait_in_front(self) -> WaitInfo | None:
        """The wait in front; None without one."""
        ...

    def claim_changed(self, claim: ClaimInfo | None) -> None:
        """Act after the operator claimed or released the wait in front."""
        ...

    def seen_to(self) -> None:
        """Act after the operator delegated, snoozed or woke the wait in front."""
        ...


class WaitActions:
    """Actions that claim, delegate, snooze and grant for the wait in front of a screen."""

    def __init__(self, page: WaitPage) -> None:
        self._page = page
        self._told: tuple[str, str] | None = None
        """Wait and claimant of the last warning; the next press of the key takes the claim over."""

    # --- claims

    def do_claim(self) -> None:
        """Claim the wait in front or release the operator's claim; amend a wait that they answered."""
        page, wait = self._page, self._page.wait_in_front()
        if wait is not None and page.context().own_answer:
            page.app.push_screen(AmendScreen(wait.id))
        elif wait is not None:
            work = self._claim(page.permit("claim"), wait)
            page.console.background.start(work, group="claim", holds_keys=True)

    async def _claim(self, permit: Permit, wait: WaitInfo) -> None:
        console = self._page.console
        now, waits = console.store.now(), permit.client.waits
        warned_of = self._told[1] if self._told is not None and self._told[0] == wait.id else None
        press = ClaimState(console.identity, warned_of=warned_of).press(wait.claim, now)
        try:
            if press is ClaimKey.WARN and wait.claim is not None:
                self._warn(wait.claim, wait.id, now, otherwise="")
                return
            if press is ClaimKey.RELEASE:
                receipt = await waits.release(wait.id)
            else:
                receipt = await waits.claim(wait.id, override_claim=press is ClaimKey.TAKE_OVER)
        except WaitClaimed as error:
            found = await console.client.waits.get(wait.id)
            console.store.put_claims([found])
            self._warn(found.claim, wait.id, now, otherwise=one_line(error.message, 200))
            return
        self._told = None
        console.store.put_claims([wait.model_copy(update={"claim": receipt.claim})])
        self._page.claim_changed(receipt.claim)
        said = words.presence(receipt.claim, now)
        console.say(f"Claimed: {said}; c releases it" if said else "Released", "information")
        self._page.store_changed()

    def _warn(
        self, claim: ClaimInfo | None, wait_id: str, now: datetime, *, otherwise: str
    ) -> None:
        said = words.presence(claim, now)
        self._told = (wait_id, claim.label if claim is not None else "")
        text = f"Claimed by {said}" if said else otherwise
        self._page.console.say(f"{text}. c once more takes it over", "warning")
        self._page.store_changed()

    # --- to someone

    def do_delegate(self) -> None:
        """Open the page that asks for the person."""
        wait = self._page.wait_in_front()
        if wait is not None:
            self._page.app.push_screen(DelegateScreen(wait, self._page.seen_to))

    # --- an agent's calls

    def do_grant(self) -> None:
        """Open the page that defines the grant."""
        wait = self._page.wait_in_front()
        if wait is not None:
            self._page.app.push_screen(GrantScreen(wait, self._page.seen_to))

    # --- snoozed

    def do_snooze(self) -> None:
        """Open the menu of times to snooze."""
        wait, console = self._page.wait_in_front(), self._page.console
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
            before = ", 10m before it ends"
            is_cut = until - now < timedelta(seconds=durations.seconds(text))
            detail = f"back at {words.moment(until, now)}{before if is_cut else ''}"
            pick = partial(self._start_snoozing, wait, text)
            choices.append(MenuItem(text, detail, pick))
            if is_cut:
                break
        title = one_line(f"Snooze: {words.subject_of(wait)}", 80)
        self._page.app.push_screen(PickScreen(title, choices, typed=False))

    def _start(self, work: Any) -> None:
        self._page.console.background.start(work, group="snooze", holds_keys=True)

    def _start_snoozing(self, wait: WaitInfo, text: str) -> None:
        self._start(self._snooze(wait, text))

    async def _snooze(self, wait: WaitInfo, text: str) -> None:
        console = self._page.console
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
            self._page.seen_to()

    async def _wake(self, wait_id: str) -> None:
        await self._page.console.snoozed.wake(wait_id)
        self._page.console.lists_changed()
        self._page.seen_to()


class FormClaim:
    """The claim of the wait whose form is open; a courtesy, on which nothing depends.

    Args:
        page: The form.
        wait_id: The wait.
    """

    def __init__(self, page: SubmitScreen, wait_id: str) -> None:
        self._page = page
        self._wait_id = wait_id
        self._is_begun = False
        self.state = ClaimState(None)

    def opened(self, wait: WaitInfo) -> None:
        """Take the wait's claim as the form opens."""
        self.state.me = self._page.console.identity
        self.state.opened(wait.claim)

    def begun_with(self, claim: ClaimInfo) -> None:
        """Take a claim that was made before the form opened."""
        self._is_begun = True
        self.state.claimed(claim)

    def begin(self) -> None:
        """Claim the wait once, because its form is being read."""
        if not self._is_begun:
            self._is_begun = True
            self._claim_soon()

    def renew_if_due(self) -> None:
        """Renew the claim when due, while the wait can be answered."""
        if self.state.is_due(self._page.console.store.now()) and not self._page.over():
            self._claim_soon()

    def _claim_soon(self) -> None:
        self.state.tries(self._page.console.store.now())
        try:
            permit = self._page.permit(self._page.ACTION)
        except NotPermitted:
            return
        self._page.console.background.start(self._claim_it(permit), group="claim")

    async def _claim_it(self, permit: Permit) -> None:
        claims = self._page.console.form_claims
        lasts_s = self.state.lasts_s
        if lasts_s is not None:
            claims[self._wait_id] = permit  # a console that ends before the reply releases it, too
        try:
            receipt = await permit.client.waits.claim(self._wait_id, expires_in=lasts_s)
        except WaitClaimed as error:
            claims.pop(self._wait_id, None)
            self.lost(error)
            by = claimed_text(error, self._page.console.store.now())
            self._page.tell((f"{by[0].upper()}{by[1:]}", "what you type is kept"), "warning")
        except HelmrError:
            return  # the header shows that the gateway is away; an answer needs no claim
        else:
            self.state.claimed(receipt.claim)

    def lost(self, error: WaitClaimed) -> None:
        """Record the claim of someone else, to show the operator."""
        self.state.lost_to(claim_of(error))

    async def let_go(self) -> None:
        """Release the claim, unless it is meant to outlast the form."""
        self._page.console.form_claims.pop(self._wait_id, None)
        if self.state.is_released_on_leaving:
            with suppress(HelmrError, NotPermitted):
                permit = self._page.permit(self._page.ACTION)
                await permit.client.waits.release(self._wait_id)


class DelegateScreen(SubmitScreen):
    """Assigns a wait to a name, on enter or ctrl+s; an unknown name needs a second confirmation.

    Args:
        wait: The wait.
        given: Called once the wait is assigned.
    """

    ACTION = "delegate"
    AREA = "inbox"
    TITLE_TEXT = "Delegate"
    IS_REVIEW = True
    HELP_TEXT = (
        "Assigns the wait to the person with this name from now on; without a name, to no one. "
        "A name that no one here has is asked about: ^s assigns it all the same."
    )

    def __init__(self, wait: WaitInfo, given: Callable[[], None]) -> None:
        super().__init__()
        self.wait = wait
        self._given = given
        self.names: list[str] = []
        self._asked_about = ""
        """An unknown name that the operator was warned about."""
        self._is_enter = False
        self.field = SafeInput(id="typed", select_on_focus=False, max_length=NAME_MAX)

    async def load(self) -> None:
        """Read the known names, and show the field."""
        found = {self.console.identity, *self.console.store.people()}
        with suppress(HelmrError):  # then only the names in the list are known
            async for person in self.console.client.people.list():
                if person.disabled_at is None:
                    found.add(person.id)
        self.names = sorted(found, key=str.casefold)
        self.field.suggester = SuggestFromList(self.names, case_sensitive=False)
        await self.slot.mount(*self._widgets())
        self.submission.phase = SendPhase.FORM
        self.begin_with(self.field)
        self.redraw()
        self.reads_from_now()

    def _widgets(self) -> Iterable[Widget]:
        yield Static(Content.styled("To whom; empty: no one in particular", "bold"))
        yield self.field
        hint = "\nenter gives it.  right completes a name.  esc leaves everything as it is."
        yield Static(Content.styled(hint, "bold $c-accent"))

    def facts(self) -> Sequence[Content]:
        """The wait, its assignee and the known names."""
        now = self.wait.assignee
        parts = [
            safe.line(words.subject_of(self.wait), "bold"),
            fact("assignee", safe.line(now or "no one", limit=NAME_MAX)),
        ]
        if self.names:
            known = ", ".join(self.names[:NAMES_SHOWN])
            parts += [head("Known here"), safe.line(f"  {known}", limit=300)]
        return parts

    def context(self) -> ActionContext:
        """The context of a wait, which can be assigned while it is open."""
        wait = self.console.store.wait(self.wait.id) or self.wait
        over = words.wait_over(wait, self.console.store.now())
        return replace(super().context(), wait=True, wait_over=over)

    def lacks(self) -> str:
        """Ask for a second ^s on an unknown name; no name at all assigns the wait to no one.

        Enter does not count as the second press, because a key held down repeats it.
        """
        name = self.field.value.strip()
        self.submission.data = name or None
        doubt = words.unknown_name(name, self.names)
        if not doubt or (name == self._asked_about and not self._is_enter):
            return ""
        self._asked_about = name
        self.reads_from_now()
        return f"{doubt} ^s assigns it all the same"

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Assign on enter."""
        event.stop()
        self._is_enter = True
        self.do_review()
        self._is_enter = False

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help for the name's field."""
        return self.TITLE_TEXT, ("the name that filters use: assignee:NAME, is:mine",)

    def path(self) -> str:
        """Inbox > subject > Delegate."""
        return f"Inbox > {words.subject_of(self.wait)[:60]} > Delegate"

    async def deliver(self, permit: Permit, data: Any) -> AnswerOutcome:
        """Assign the wait."""
        receipt = await permit.client.waits.assign(
            self.wait.id, assignee=data, operation_id=self.submission.operation_id
        )
        self.console.store.assigned(self.wait.id, receipt.assignee)
        return AnswerOutcome(Result.ACCEPTED, (f"assigned to {one_line(data or 'no one', 60)}",))

    def accepted(self, outcome: AnswerOutcome) -> None:
        """Close, and let the screen below go on."""
        super().accepted(outcome)
        self.console.lists_changed()
        self.app.call_after_refresh(self._given)
