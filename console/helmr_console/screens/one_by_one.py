"""One wait after the other on the whole screen: the question, one key, the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.containers import Vertical

from helmr.drafts import Beginning
from helmr.models import ClaimInfo, EntryInfo, WaitInfo
from helmr_console import views
from helmr_console.actions import Scope
from helmr_console.console import Console
from helmr_console.keys import REPEATS_WITHIN_S
from helmr_console.outcome import Outcome
from helmr_console.permits import Permit
from helmr_console.reads import tail
from helmr_console.review_round import Round
from helmr_console.screens.answer import CONTEXT_ENTRIES, AnswerScreen, form_for
from helmr_console.screens.base import Pairs, bindings
from helmr_console.screens.compose import begun_with
from helmr_console.screens.desk import DeskScreen
from helmr_console.screens.submit import TOO_SOON
from helmr_console.submission import SendPhase
from helmr_console.widgets.form import SchemaForm

LOOKED_AHEAD_MAX = 8
"""So many waits are asked whether another is at them."""
FRESH_S = 15.0
"""What was read ahead is read again after this, as the inbox asks again who is at its waits."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the form of the next wait needs, read while the one before is on screen."""

    wait: WaitInfo
    entries: list[EntryInfo]
    begun: Beginning
    read_s: float


class OneByOneScreen(AnswerScreen, DeskScreen):
    """The form of one wait; answered or skipped, the next one takes its place."""

    SCOPES = (*AnswerScreen.SCOPES, Scope.ONE_BY_ONE, Scope.DESK)
    BINDINGS = bindings(*SCOPES)
    TITLE_TEXT = "One by one"
    HELP_TEXT = (
        "Digits and first letters choose, ^s answers and goes on to the next wait. An answer is held for some "
        "seconds before it leaves: u takes it back, F5 does so while you type. s or F8 skips, c claims or "
        "releases, d gives it to somebody, z puts it off. A text has the focus at once; Esc goes from it to "
        "the keys that are letters, and from there away. What was entered is kept as a draft."
    )

    def __init__(self, round_: Round, wait_id: str, read: Ahead | None = None) -> None:
        super().__init__(wait_id)
        self.round = round_
        self._read = read
        self._ahead: Ahead | None = None
        if read is not None:
            self.wait, self.entries = read.wait, read.entries
            self.form = SchemaForm(form_for(read.wait), read.begun.cells, read.begun.raw)
            self.slot = Vertical(self.form, id="slot")

    @classmethod
    def begin(
        cls,
        app: App[Any],
        console: Console,
        wait_ids: Sequence[str],
        listed: Callable[[], Sequence[str]],
    ) -> None:
        """Ask these, the first one first, and then what has come into the list meanwhile."""
        round_ = Round(wait_ids, listed, console.is_claimed_by_another, console.unsent.open_ids)
        wait_id = round_.next(console.open_ids())
        if wait_id is not None:
            app.push_screen(cls(round_, wait_id))

    def opens(self) -> None:
        """What was read ahead stands there already."""
        if self._read is None:
            super().opens()
            return
        known = self.console.store.wait(self.wait_id) or self._read.wait
        changed = {"claim": known.claim, "assignee": known.assignee}
        self.take(self._read.wait.model_copy(update=changed))
        self.form_stands(self._read.begun)
        self.reads_from_now()

    def is_drawn(self) -> None:
        """The next one is read while this one is."""
        super().is_drawn()
        if self._ahead is None:
            self._look_ahead()

    def tick(self) -> None:
        """What was read ahead gets old."""
        super().tick()
        is_old = self._ahead is None or not self._is_fresh(self._ahead)
        if is_old and self.submission.drawn_s is not None and self.console.base_context().live:
            self._look_ahead()

    def _look_ahead(self) -> None:
        work = self._read_ahead()
        self.console.background.start(work, group="ahead", exclusive=True, on_error=_nothing_said)

    async def _read_ahead(self) -> None:
        """The next wait, so that it is there when this one is answered."""
        console = self.console
        wait = None
        for _ in range(LOOKED_AHEAD_MAX):
            wait_id = self.round.coming(console.open_ids())
            if wait_id is None:
                return
            wait = await console.client.waits.get(wait_id)
            console.store.put_wait(wait)
            if not console.is_claimed_by_another(wait_id):
                break  # else another is at it by now, and it is asked later
        if wait is None:
            return
        entries = await tail(console.client, wait.session_id, CONTEXT_ENTRIES)
        begun = await begun_with(console, wait.id, form_for(wait))
        self._ahead = Ahead(wait, entries, begun, console.store.mono())

    def _is_fresh(self, ahead: Ahead) -> bool:
        return self.console.store.mono() - ahead.read_s < FRESH_S

    def needs_no_review(self, form: SchemaForm) -> bool:
        """Nothing is reviewed where everything can be taken back."""
        return True

    def permit_of_reader(self) -> Permit | None:
        """None, too, if the key may still be down from the wait before: no other was pressed since, and hardly a time.

        Repeats come apart on a slow line, where each could be taken for a press of its own.
        """
        if self.console.keys.again_s < REPEATS_WITHIN_S:
            self.console.say(TOO_SOON, "warning")
            return None
        return super().permit_of_reader()

    def path(self) -> str:
        """Inbox > 3 of 12 > subject."""
        what = views.subject_of(self.wait) if self.wait is not None else self.wait_id
        return f"Inbox > {self.round.asked} of {self.round.count} > {what[:60]}"

    def status(self) -> tuple[Pairs, Pairs]:
        """How far; that nothing has been sent goes without saying: it would take the room of what is held."""
        left, right = super().status()
        is_quiet = self.submission.phase is SendPhase.FORM and not self.draft_state
        return left, () if is_quiet else right

    def leave_held(self) -> None:
        """On to the next."""
        self._go_on()

    def accepted(self, outcome: Outcome) -> None:
        """Reviewed and sent: on to the next."""
        self.say_accepted(outcome)
        self.console.answered(self.wait_id)
        self._go_on()

    def taken_back(self, app: App[Any]) -> None:
        """It takes the place of the one that is asked now, which comes next again."""
        shown = app.screen
        if not isinstance(shown, OneByOneScreen):
            super().taken_back(app)
            return
        if shown.submission.phase is SendPhase.SENDING:
            return
        self.console.background.start(shown.give_way(self.wait_id), group="draft", holds_keys=True)

    async def give_way(self, wait_id: str) -> None:
        """Ask that one now, this one after it."""
        await self.keep()
        await self.let_go_of_wait()
        self.round.again(wait_id, self.wait_id)
        self.round.asked -= 2
        self._go_on()

    def wait_in_front(self) -> WaitInfo | None:
        """The one that is asked, and who is at it."""
        known = self.console.store.wait(self.wait_id)
        claim = self.own_claim or (known.claim if known is not None else None)
        return self.wait.model_copy(update={"claim": claim}) if self.wait is not None else None

    def claim_changed(self, claim: ClaimInfo | None) -> None:
        """What was claimed by a key stays so; what was released is not claimed anew."""
        self.keep_claim(claim)

    def seen_to(self) -> None:
        """On to the next, as if it was skipped."""
        self.do_skip()

    def labels(self) -> dict[str, str]:
        """Esc gives the letters back before it leaves."""
        return {**super().labels(), "back": "Keys"} if self.is_typing else super().labels()

    def do_back(self) -> None:
        """Out of a text, where letters are no keys; from there away."""
        if self.is_typing and self.submission.phase is SendPhase.FORM:
            self.set_focus(None)
            return
        super().do_back()

    def do_skip(self) -> None:
        """Keep what was entered, and go on."""
        if self.submission.phase is SendPhase.SENDING:
            self.console.say("It is being sent; wait for what comes back", "warning")
            return
        self.console.background.start(self._skip(), group="draft", holds_keys=True)

    async def _skip(self) -> None:
        await self.keep()
        await self.let_go_of_wait()
        self._go_on()

    def _go_on(self) -> None:
        self.console.line.unsay(TOO_SOON)
        wait_id = self.round.next(self.console.open_ids())
        if wait_id is not None:
            ahead = self._ahead
            if ahead is not None and (ahead.wait.id != wait_id or not self._is_fresh(ahead)):
                ahead = None
            following = OneByOneScreen(self.round, wait_id, ahead)
            following.aside_width = self.aside.size.width
            self.app.switch_screen(following)
            return
        self.console.say("That was the last one", "information")
        self.dismiss()


def _nothing_said(text: str) -> None:
    """What could not be read ahead is read, and said, when it is asked."""
