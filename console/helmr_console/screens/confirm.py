"""Actions that can't be taken back: what they do, and the id typed to confirm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from helmr.forms import Built
from helmr_console import safe
from helmr_console.actions import Context
from helmr_console.outcome import Outcome, Result
from helmr_console.permits import Permit
from helmr_console.screens.compose import ComposeScreen, Phase
from helmr_console.widgets.fields import SafeInput
from helmr_console.widgets.panes import head, lines

Act = Callable[[Permit, str], Awaitable[Any]]


class ConfirmScreen(ComposeScreen):
    """One action, reviewed here, sent by ctrl+s once the id is typed.

    Args:
        action_id: The action of the table; its permit is asked for when sending.
        act: Called with the permit and the operation id.
        expect: What must be typed; empty needs no typing.
        texts: What it will do.
        given: What was in front when it was opened: session and run.
    """

    AREA = "sessions"

    def __init__(
        self,
        action_id: str,
        title: str,
        act: Act,
        *,
        expect: str,
        texts: Sequence[str],
        given: Context,
    ) -> None:
        super().__init__()
        self.ACTION = action_id
        self.TITLE_TEXT = title
        self._act = act
        self._given = given
        self.expect = expect
        self.texts = texts
        self.typed = SafeInput(id="typed", select_on_focus=False)
        self.add_class("plain")

    async def load(self) -> None:
        """The field to type the id into, if one is wanted."""
        await self.slot.mount(*self._widgets())
        self.phase = Phase.FORM
        if self.expect:
            self.typed.focus()
        self.redraw()
        self.reads_from_now()

    def _widgets(self) -> Iterable[Widget]:
        if self.expect:
            yield Static(
                Content.assemble(("Type to confirm:  ", "$c-muted"), safe.line(self.expect, "bold"))
            )
            yield self.typed
        yield Static(
            Content.styled("\n^s does it.  esc leaves everything as it is.", "bold $c-accent")
        )

    def facts(self) -> Sequence[Content]:
        """What it does."""
        return (head("This will"), *(safe.line(f"  {text}", limit=300) for text in self.texts))

    def effects(self) -> Sequence[str]:
        """What it does."""
        return self.texts

    def context_content(self) -> Content:
        """Nothing stands beside it."""
        return lines([])

    def on_input_changed(self) -> None:
        """Typing is judged at ctrl+s."""

    def result(self) -> Built:
        """Whether the id is right."""
        wrong = self.typed.value.strip() != self.expect
        return Built(None, {"typed": "does not match"} if wrong else {})

    @property
    def sends_next(self) -> bool:
        """This page is the review."""
        return self.phase in (Phase.FORM, Phase.REVIEW)

    def do_review(self) -> None:
        """This page is the review."""
        if self.phase is not Phase.FORM:
            if self.phase is Phase.REVIEW:
                self._send_now()
            return
        if self.result().problems:
            self.tell((f"type {self.expect} to confirm",), "error")
            return
        self._send_now()

    def context(self) -> Context:
        """Session and run as they were; freshness and mode as they are."""
        given = self._given
        return replace(
            super().context(),
            session_status=given.session_status,
            run_status=given.run_status,
            run_is_newest=given.run_is_newest,
        )

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """What must be typed."""
        return self.TITLE_TEXT, (
            f"type {self.expect} and press ^s"
            if self.expect
            else "^s does it, esc leaves it undone",
            "it stands in the facts above: what can't be taken back is not done by one key",
        )

    def path(self) -> str:
        """The title."""
        return f"Sessions > {self.TITLE_TEXT}"

    async def deliver(self, permit: Permit, data: Any) -> Outcome:
        """Do it."""
        await self._act(permit, self.operation_id)
        return Outcome(Result.ACCEPTED, (self.TITLE_TEXT,))
