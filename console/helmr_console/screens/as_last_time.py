"""A form that can be filled as it was the last time: nothing is sent by it, and it can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from helmr.difflines import diff, summary
from helmr.forms import Cells, redacted
from helmr.models import WaitInfo
from helmr_console.screens.compose import ComposeScreen
from helmr_console.submission import SendPhase
from helmr_console.widgets.form import SchemaForm

DIFF_LINES = 12


class AsLastTime(ComposeScreen):
    """The form of a wait, with the last answer of this operator to one alike."""

    wait: WaitInfo | None
    _before: tuple[Cells, Cells] | None = None
    """What was entered before it was filled, and what it was filled with."""

    def do_as_last(self) -> None:
        """Fill it as the last time, or put back what was there."""
        form, wait = self.form, self.wait
        if form is None or wait is None or self.submission.phase is not SendPhase.FORM:
            return
        if form.is_raw:
            self.console.say("As last time fills fields; F2 shows them", "warning")
            return
        self.console.background.start(self._fill(form, wait), group="last", holds_keys=True)

    async def _fill(self, form: SchemaForm, wait: WaitInfo) -> None:
        if self._before is not None and form.cells() == self._before[1]:
            form.begin(self._before[0])
            self._before = None
            self.tell(("put back as it was",), "muted")
            return
        cells = await asyncio.to_thread(self.console.last_answers.cells, wait, form.form)
        if cells is None:
            self.console.say("You answered nothing like this before on this machine", "information")
            return
        was, before = form.result().data, form.cells()
        form.begin({**cells, **_secrets(form)})
        self._before = (before, form.cells())
        self.tell(_said(redacted(form.form, was), redacted(form.form, form.result().data)), "muted")


def _secrets(form: SchemaForm) -> Cells:
    """What was typed into fields that no file holds."""
    kept = form.drafted()
    return {key: cell for key, cell in form.cells().items() if key not in kept}


def _said(was: object, now: object) -> Sequence[str]:
    found = [line for line in diff(was, now) if line.sign != " "]
    shown = [f"{line.sign} {line.path}  {line.text}" for line in found[:DIFF_LINES]]
    more = [f"… {len(found) - DIFF_LINES} more"] if len(found) > DIFF_LINES else []
    return (f"as last time: {summary(found)}; ^l puts it back, nothing was sent", *shown, *more)
