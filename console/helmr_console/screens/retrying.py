"""Retry what failed: one session's run, or those of all that are marked, each by an operation of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from textual.content import Content

from helmr import ids
from helmr.errors import HelmrError
from helmr.models import SessionInfo
from helmr_console import effects, safe, views
from helmr_console.actions import Context
from helmr_console.outcome import Outcome, of_error
from helmr_console.permits import Permit, Writer
from helmr_console.retrying import Retry, summary
from helmr_console.screens.confirm import ConfirmScreen
from helmr_console.widgets.panes import head

LISTED_MAX = 12


class RetryScreen(ConfirmScreen):
    """Which runs begin their next attempt; of several their number is typed."""

    def __init__(
        self,
        writer: Writer,
        sessions: Sequence[SessionInfo],
        given: Context,
        begun: Callable[[set[str]], None],
    ) -> None:
        self._sessions = tuple(sessions)
        self._retries = [Retry(one, ids.new_id(ids.OPERATION)) for one in sessions]
        count = len(self._retries)
        super().__init__(
            "sessions.retry",
            "Retry" if count == 1 else f"Retry {count} sessions",
            writer.retry,
            expect="" if count == 1 else str(count),
            texts=effects.of_retries(sessions),
            given=given,
        )
        self._writer = writer
        self._begun = begun
        """Called with the sessions whose runs begin their next attempt."""

    def facts(self) -> Sequence[Content]:
        """What it does, and to which."""
        rows = [
            safe.line(
                f"  {views.short_id(one.id)}  {one.task}  {views.error_line(one)}",
                "$c-error",
                limit=200,
            )
            for one in self._sessions[:LISTED_MAX]
        ]
        more = len(self._sessions) - LISTED_MAX
        tail = [head(f"  … and {more} more")] if more > 0 else []
        return (*super().facts(), Content(""), head("Failed or blocked"), *rows, *tail)

    def accepted(self, outcome: Outcome) -> None:
        """They are marked no more."""
        done = [one for one in self._retries if one.outcome is not None and one.outcome.is_done]
        self._begun({one.session.id for one in done})
        super().accepted(outcome)

    async def deliver(self, permit: Permit, data: Any) -> Outcome:
        """One after the other; one that is refused holds none of the others back."""
        for retry in self._retries:
            if retry.outcome is not None and not retry.outcome.is_open:
                continue
            try:
                run_id = retry.session.run_id or ""
                await self._writer.retry(permit, run_id=run_id, operation_id=retry.operation_id)
                retry.succeeded()
            except HelmrError as error:
                retry.outcome = of_error(error)
                if retry.outcome.is_open:
                    break  # the gateway is away: the same operations are tried again
        return summary(self._retries)
