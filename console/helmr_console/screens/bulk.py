"""Bulk actions on runs or sessions: a page to read, the number to type, held as one, then done (S-124)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from textual.content import Content

from helmr.errors import HelmrError
from helmr.models import BulkOutcome, BulkPlan, BulkVerb
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, of_error
from helmr_console import effects, safe
from helmr_console.actions import ActionContext, NotPermitted, Permit, permit
from helmr_console.console import Console
from helmr_console.screens.confirm import ConfirmScreen
from helmr_console.unsent import PendingSend
from helmr_console.widgets.panes import head

LISTED_MAX = 12
ACTIONS = {verb: f"sessions.{verb.value}" for verb in BulkVerb}


class BulkBatch:
    """One bulk action. Several runs need their number typed; the action starts after its time to undo.

    Args:
        plan: The runs, as shown.
        console: Holds the action, and reports the result if its page is closed by then.
        keep: Stores the plan before it is held, so that another program can continue it.
        begun: Called with the sessions that were acted on.
    """

    def __init__(
        self,
        plan: BulkPlan,
        console: Console,
        *,
        keep: Callable[[BulkPlan], Awaitable[None]],
        begun: Callable[[set[str]], object],
    ) -> None:
        count, verb = len(plan.runs), plan.verb.value.capitalize()
        self.title = verb if count == 1 else f"{verb} {count} sessions"
        self._plan = plan
        self._console = console
        self._keep = keep
        self._begun = begun

    def screen(self, given: ActionContext) -> ConfirmScreen:
        """The page that shows the action; `given` is the context it was opened from."""
        found = ConfirmScreen(
            ACTIONS[self._plan.verb],
            self.title,
            self._act,
            expect=_typed(self._plan),
            texts=effects.of_bulk(self._plan),
            given=given,
            listed=_listed(self._plan),
        )
        found.hold = self._hold
        return found

    async def _hold(self) -> None:
        await self._keep(self._plan)
        sending = PendingSend(self.title, frozenset(), self._send_held, lambda: None)
        self._console.hold(sending)

    async def _send_held(self) -> None:
        console, verb = self._console, self._plan.verb
        given = replace(console.base_context(), bulk=frozenset((verb,)))
        try:
            allowed = permit(ACTIONS[verb], given, console.client)
        except NotPermitted as refusal:
            console.say(f"{self.title}: not done: {refusal}", "error")
            return
        console.sending += 1
        try:
            outcome = await self._done(allowed)
        finally:
            console.sending -= 1
        said = f"{self.title}: {'; '.join(outcome.lines)}"
        if outcome.is_open:
            said += f"; {effects.command_of(self._plan)} does the rest"
        console.say(said, "receipt" if outcome.is_done else "warning")

    async def _act(self, permit: Permit, operation_id: str) -> AnswerOutcome:
        await self._keep(self._plan)
        return await self._done(permit)

    async def _done(self, permit: Permit) -> AnswerOutcome:
        """Do all runs, also those of an earlier try, none twice; show the progress on the second line."""
        outcomes: list[BulkOutcome] = []
        try:
            async for one in permit.client.bulk.do(self._plan):
                outcomes.append(one)
                if len(self._plan.runs) > 1:
                    self._console.show_under_way(effects.progress(self._plan, outcomes))
        except HelmrError as error:
            if not outcomes:
                return of_error(error)
        finally:
            self._console.show_under_way("")
        outcome = effects.summary(self._plan, outcomes)
        if outcome.is_done:
            self._begun({one.session_id for one in outcomes if one.progress == "accepted"})
        return outcome


def _typed(plan: BulkPlan) -> str:
    """The text to type: the number of several; for one, nothing to retry, else its id."""
    if len(plan.runs) > 1:
        return str(len(plan.runs))
    return "" if plan.verb is BulkVerb.RETRY else plan.runs[0].session_id


def _listed(plan: BulkPlan) -> Sequence[Content]:
    """A line for each run; above `LISTED_MAX`, the counts of like ones."""
    if len(plan.runs) <= LISTED_MAX:
        texts = [f"{words.short_id(one.session_id)}  {one.task}  {one.title}" for one in plan.runs]
    else:
        texts = [f"{count:5}  {text}" for count, text in plan.groups()]
    is_failure = plan.verb is BulkVerb.RETRY
    role = "$c-error" if is_failure else "$c-foreground"
    rows = [safe.line(f"  {text}", role, limit=200) for text in texts[:LISTED_MAX]]
    more = len(texts) - LISTED_MAX
    others = "other errors" if is_failure else "others"
    tail = [head(f"  … and {more} {others}")] if more > 0 else []
    title = "Failed or blocked" if is_failure else "Which"
    return (Content(""), head(title), *rows, *tail)
