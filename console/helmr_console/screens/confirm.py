"""Actions that can't be taken back: what they do is read, and the id typed, before one of them is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from helmr import ids
from helmr.models import RunInfo
from helmr_console import effects, safe
from helmr_console.actions import Context
from helmr_console.outcome import Outcome, Result
from helmr_console.permits import Permit, Writer
from helmr_console.screens.submit import SubmitScreen
from helmr_console.submission import SendPhase
from helmr_console.views import short_id
from helmr_console.widgets.fields import SafeInput
from helmr_console.widgets.panes import head

ID_END = 7
"""So much of an id is shown in lists, and is typed to confirm."""
Act = Callable[..., Awaitable[Any]]
"""Called with the permit and, by its name, the operation id."""


class ConfirmScreen(SubmitScreen):
    """One action, reviewed here, sent by ctrl+s once the id is typed.

    Args:
        action_id: The action of the table; its permit is asked for when sending.
        act: Does it.
        expect: What must be typed; empty needs no typing.
        texts: What it will do.
        given: What was in front when it was opened: session and run, or schedule.
        area: Where it was opened.
    """

    HELP_TEXT = "What it will do stands above; ^s does it, esc leaves everything as it is."

    def __init__(
        self,
        action_id: str,
        title: str,
        act: Act,
        *,
        expect: str,
        texts: Sequence[str],
        given: Context,
        area: str = "sessions",
    ) -> None:
        super().__init__()
        self.AREA = area
        self.ACTION = action_id
        self.TITLE_TEXT = title
        self._act = act
        self._given = given
        self.expect = expect
        self.texts = texts
        self.typed = SafeInput(id="typed", select_on_focus=False)

    async def load(self) -> None:
        """The field to type the id into, if one is wanted."""
        await self.slot.mount(*self._widgets())
        self.submission.phase = SendPhase.FORM
        if self.expect:
            self.typed.focus()
        self.redraw()
        self.reads_from_now()

    def _widgets(self) -> Iterable[Widget]:
        if self.expect:
            is_end = self.asked != self.expect
            how = "Type the last seven characters to confirm:  " if is_end else "Type to confirm:  "
            named = short_id(self.expect) if is_end else self.expect
            yield Static(Content.assemble((how, "$c-muted"), safe.line(named, "bold")))
            yield self.typed
        yield Static(
            Content.styled("\n^s does it.  esc leaves everything as it is.", "bold $c-accent")
        )

    def labels(self) -> dict[str, str]:
        """The key does it."""
        return {"review": "Do it"}

    @property
    def asked(self) -> str:
        """What is to be typed: of an id its end, which tells it from the others on the screen."""
        is_id = any(self.expect.startswith(f"{prefix}_") for prefix in (ids.SESSION, ids.RUN))
        return self.expect[-ID_END:] if is_id else self.expect

    def facts(self) -> Sequence[Content]:
        """What it does."""
        return (head("This will"), *(safe.line(f"  {text}", limit=300) for text in self.texts))

    def effects(self) -> Sequence[str]:
        """What it does."""
        return self.texts

    @property
    def sends_next(self) -> bool:
        """This page is the review."""
        return self.submission.phase in (SendPhase.FORM, SendPhase.REVIEW)

    def do_review(self) -> None:
        """This page is the review."""
        form = self.submission.phase is SendPhase.FORM
        if form and self.typed.value.strip() not in (self.expect, self.asked):
            self.tell((f"type {self.asked} to confirm",), "error")
        elif self.sends_next:
            self.send_now()

    def context(self) -> Context:
        """What was in front as it was; freshness and mode as they are."""
        given = self._given
        return replace(
            super().context(),
            row=given.row,
            marked=given.marked,
            retryable=given.retryable,
            schedule=given.schedule,
            schedule_of_code=given.schedule_of_code,
            session_status=given.session_status,
            run_status=given.run_status,
            run_is_newest=given.run_is_newest,
        )

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """What must be typed."""
        return self.TITLE_TEXT, (
            f"type {self.asked} and press ^s"
            if self.expect
            else "^s does it, esc leaves it undone",
            "it stands in the facts above: what can't be taken back is not done by one key",
        )

    def path(self) -> str:
        """The title."""
        return f"{self.AREA.capitalize()} > {self.TITLE_TEXT}"

    async def deliver(self, permit: Permit, data: Any) -> Outcome:
        """Do it."""
        await self._act(permit, operation_id=self.submission.operation_id)
        return Outcome(Result.ACCEPTED, (self.TITLE_TEXT,))


def cancelling(writer: Writer, session_id: str, given: Context) -> ConfirmScreen:
    """Cancel a session (S-6)."""
    act = partial(writer.cancel, session_id=session_id)
    texts = (
        "end the session for good: its run, its waits and its pending tokens are cancelled",
        "steps that ran stay done; nothing is undone",
    )
    return ConfirmScreen(
        "session.cancel", "Cancel session", act, expect=session_id, texts=texts, given=given
    )


def closing(writer: Writer, session_id: str, given: Context, *, end_input: bool) -> ConfirmScreen:
    """Close a session (S-6). `end_input`: its run waits, and goes on without an answer."""
    act = partial(writer.close, session_id=session_id, end_input=end_input)
    texts = ["take no more input; the transcript stays readable"]
    if end_input:
        texts.append("end the input it waits for: the run goes on without an answer")
    return ConfirmScreen(
        "session.close", "Close session", act, expect=session_id, texts=texts, given=given
    )


def retrying(writer: Writer, run: RunInfo, given: Context) -> ConfirmScreen:
    """Start the next attempt of a run (S-5)."""
    act = partial(writer.retry, run_id=run.id)
    return ConfirmScreen(
        "run.retry", "Retry run", act, expect="", texts=effects.of_retry(run), given=given
    )
