"""Confirmation of actions that can't be undone: a page with their effects, and the id to type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from helmr.models import RunInfo
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.person.review.sending import SendPhase
from helmr.wire import ids
from helmr_console import effects, safe
from helmr_console.actions import BY_ID, ActionContext, ActionScope, Permit
from helmr_console.screens.submit import SubmitScreen
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.panes import head

ID_END = 7
"""Characters at an id's end that lists show, and that confirm it."""
Act = Callable[[Permit, str], Awaitable[Any]]
"""Called with the permit and the operation id; an outcome that it returns becomes the message."""


class ConfirmScreen(SubmitScreen):
    """A page that reviews one action and does it on ctrl+s once the id is typed.

    Args:
        action_id: The action of the table; its permit is asked for when sending.
        act: Does it.
        expect: What must be typed; empty needs no typing.
        texts: What it will do.
        given: What was in front when it was opened: session and run, or a feature's thing.
        listed: What it is done to, where that is more than one thing.
    """

    HELP_TEXT = "The lines above say what it will do; ^s does it, esc leaves everything as it is."
    IS_REVIEW = True
    hold: Callable[[], Awaitable[None]] | None = None
    """Holds the confirmed action so that it can be undone for a while; then the page closes."""

    def __init__(
        self,
        action_id: str,
        title: str,
        act: Act,
        *,
        expect: str,
        texts: Sequence[str],
        given: ActionContext,
        listed: Sequence[Content] = (),
    ) -> None:
        super().__init__()
        scope = BY_ID[action_id].scope
        is_of_system = scope is ActionScope.NOTICES or not isinstance(scope, ActionScope)
        self.AREA = "system" if is_of_system else "sessions"
        self.ACTION = action_id
        self.TITLE_TEXT = title
        self._act = act
        self._given = given
        self.expect = expect
        self.texts = texts
        self._listed = listed
        self.typed = SafeInput(id="typed", select_on_focus=False)

    async def load(self) -> None:
        """Show the field for the id, if one must be typed."""
        await self.slot.mount(*self._widgets())
        self.submission.phase = SendPhase.FORM
        if self.expect:
            self.begin_with(self.typed)
        self.redraw()
        self.reads_from_now()

    def _widgets(self) -> Iterable[Widget]:
        if self.expect:
            is_end = self.asked != self.expect
            how = "Type the last seven characters to confirm:  " if is_end else "Type to confirm:  "
            named = words.short_id(self.expect) if is_end else self.expect
            yield Static(Content.assemble((how, "$c-muted"), safe.line(named, "bold")))
            yield self.typed
        yield Static(
            Content.styled("\n^s does it.  esc leaves everything as it is.", "bold $c-accent")
        )

    def labels(self) -> dict[str, str]:
        """Name the review key by what it does."""
        return {"review": "Do it"}

    @property
    def asked(self) -> str:
        """The text to type: an id's end, which sets it apart from others on screen, else `expect`."""
        is_id = any(self.expect.startswith(f"{prefix}_") for prefix in (ids.SESSION, ids.RUN))
        return self.expect[-ID_END:] if is_id else self.expect

    def facts(self) -> Sequence[Content]:
        """Effects of the action, and its targets."""
        will = (safe.line(f"  {text}", limit=300) for text in self.texts)
        return (head("This will"), *will, *self._listed)

    def effects(self) -> Sequence[str]:
        """Effects of the action."""
        return self.texts

    def lacks(self) -> str:
        """Ask for the text to type; empty once it is there."""
        form = self.submission.phase is SendPhase.FORM
        if form and self.typed.value.strip() not in (self.expect, self.asked):
            return f"type {self.asked} to confirm"
        return ""

    def context(self) -> ActionContext:
        """The context at opening, with current freshness and mode."""
        given = self._given
        return replace(
            super().context(),
            row=given.row,
            marked=given.marked,
            bulk=given.bulk,
            thing=given.thing,
            session_status=given.session_status,
            run_status=given.run_status,
            run_is_newest=given.run_is_newest,
        )

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """Help: the text to type, and the keys."""
        return self.TITLE_TEXT, (
            f"type {self.asked} and press ^s"
            if self.expect
            else "^s does it, esc leaves it undone",
            "the facts above show it: one key is not enough for what can't be undone",
        )

    def path(self) -> str:
        """Area > title."""
        return f"{self.AREA.capitalize()} > {self.TITLE_TEXT}"

    def let_go(self, permit: Permit) -> None:
        """Do the action, now or when its time to undo has passed."""
        if self.hold is None or not self.console.outbox.holds:
            super().let_go(permit)
            return
        self.console.background.start(
            self._held(self.hold), group="hold", holds_keys=True, on_error=self._not_held
        )

    async def _held(self, hold: Callable[[], Awaitable[None]]) -> None:
        await hold()
        self.dismiss()

    def _not_held(self, text: str) -> None:
        self.submission.phase = SendPhase.FORM
        self.redraw()
        self.tell((text,), "error")

    async def deliver(self, permit: Permit, data: Any) -> AnswerOutcome:
        """Do the action."""
        done = await self._act(permit, self.submission.operation_id)
        return (
            done
            if isinstance(done, AnswerOutcome)
            else AnswerOutcome(Result.ACCEPTED, (self.TITLE_TEXT,))
        )


def cancelling(session_id: str, given: ActionContext) -> ConfirmScreen:
    """Cancel a session (S-6)."""

    async def act(permit: Permit, operation_id: str) -> None:
        await permit.client.sessions.open(session_id).cancel(operation_id=operation_id)

    texts = (
        "end the session for good: its run, its waits and its pending tokens are cancelled",
        "steps that ran stay done; nothing is undone",
    )
    return ConfirmScreen(
        "session.cancel", "Cancel session", act, expect=session_id, texts=texts, given=given
    )


def closing(session_id: str, given: ActionContext, *, end_input: bool) -> ConfirmScreen:
    """Close a session (S-6). `end_input`: its run waits now, and will continue without an answer."""

    async def act(permit: Permit, operation_id: str) -> None:
        session = permit.client.sessions.open(session_id)
        await session.close(end_input=end_input, operation_id=operation_id)

    texts = ["take no more input; the transcript stays readable"]
    if end_input:
        texts.append("end the input it waits for: the run goes on without an answer")
    return ConfirmScreen(
        "session.close", "Close session", act, expect=session_id, texts=texts, given=given
    )


def retrying(run: RunInfo, given: ActionContext) -> ConfirmScreen:
    """Start the next attempt of a run (S-5)."""

    async def act(permit: Permit, operation_id: str) -> None:
        await permit.client.runs.retry(run.id, operation_id=operation_id)

    return ConfirmScreen(
        "run.retry", "Retry run", act, expect="", texts=effects.of_retry(run), given=given
    )
