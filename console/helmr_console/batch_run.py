"""Sends the answers of a batch one by one, whichever screen is in front, until the batch is done or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any

from rich.cells import cell_len
from textual.content import Content

from helmr.errors import HelmrError
from helmr.models import WaitInfo
from helmr.person.review import batches, words
from helmr.person.review.batches import AnswerBatch, Item, Progress
from helmr.person.review.outcome import AnswerOutcome, Result, of_error, of_receipt
from helmr.signing import SshSigner, beside
from helmr.wire import ids
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import NotPermitted, permit
from helmr_console.console import Console
from helmr_console.widgets.lines import fit
from helmr_console.widgets.panes import head, lines

DRAWN_EVERY_S = 0.2
"""Progress changes faster than an eye can follow."""
BAR_CELLS = 20
DETAIL_CELLS = 200
MARKS = {
    Progress.PLANNED: ("·", "muted"),
    Progress.SENDING: (">", "accent"),
    Progress.ACCEPTED: ("✓", "success"),
    Progress.SKIPPED: ("x", "warning"),
    Progress.FAILED: ("x", "error"),
    Progress.UNKNOWN: ("?", "warning"),
    Progress.STOPPED: ("·", "muted"),
}
"""Mark and role of an answer."""


SAID_BY_MARK = (Progress.PLANNED, Progress.SENDING, Progress.ACCEPTED)


def item_line(item: Item, now: datetime, width: int) -> Content:
    """`✓  41m  Publish #3?`: one wait of a batch on a line, with its outcome where the mark alone does not say it."""
    mark, role = MARKS[item.progress]
    said = "" if item.progress in SAID_BY_MARK else item.progress.value
    behind = one_line(": ".join(filter(None, (said, item.detail))), DETAIL_CELLS)
    due = words.of_wait(item.wait, now).text if item.wait.ends_at is not None else ""
    text = one_line(f"{due:>7}  {words.subject_of(item.wait)}", DETAIL_CELLS)
    room = max(12, width - 2)
    if behind:
        text = f"{fit(text, max(room // 3, room - cell_len(behind) - 2))}  {behind}"
    return Content.assemble((f"{mark} ", f"$c-{role}"), safe.line(fit(text, room).rstrip()))


def cells(batch: AnswerBatch) -> str:
    """Progress of the batch as a bar: `▓▓▓▓░░░░`."""
    full = BAR_CELLS * batch.done // max(1, len(batch.items))
    return "▓" * full + "░" * (BAR_CELLS - full)


class BatchRun:
    """Sends a planned batch, each answer as an operation of its own.

    Args:
        console: Sends the answers, and reports the result if no screen shows the batch by then.
        plan: The reviewed waits, in order.
        data: The answer.
        batch_id: Id that all the answers carry.
    """

    def __init__(self, console: Console, plan: AnswerBatch, data: Any, batch_id: str) -> None:
        self.plan = plan
        self.batch_id = batch_id
        self.is_done = False
        self.watched: Callable[[], object] | None = None
        """Callback of the screen that shows the batch; called on progress."""
        self._console = console
        self._data = data
        self._operations = {item.wait.id: ids.new_id(ids.OPERATION) for item in plan.items}
        self._is_stopping = False
        self._drawn_s = 0.0

    @property
    def is_running(self) -> bool:
        """True while answers are being sent."""
        return not self.is_done

    def stop(self) -> None:
        """Stop after the answer that is being sent."""
        if self.is_running:
            self._is_stopping = True
            self._console.say("Stopping before the next answer", "warning")

    async def send(self) -> None:
        """Send all answers, or until `stop`."""
        console = self._console
        console.batch = self
        console.sending += 1
        try:
            await self._send_all()
        finally:
            self.is_done = True
            console.sending -= 1
            console.show_under_way("")
            self._draw()
        if self.watched is None:
            said = f"{self.plan.summary()}; {console.key_of('batch.seen')} shows each"
            is_good = self.plan.done == len(self.plan.items) == self.plan.accepted
            console.say(f"Batch: {said}", "receipt" if is_good else "warning")

    async def _send_all(self) -> None:
        while (index := self.plan.stopped_at) is not None:
            if self._is_stopping:
                self.plan = self.plan.stop()
                break
            wait = self.plan.items[index].wait
            self.plan = self.plan.mark(index, Progress.SENDING)
            self._draw_soon()
            progress, detail = await self._one(wait)
            self.plan = self.plan.mark(index, progress, detail)
            if progress is Progress.FAILED and not self._console.base_context().live:
                self._is_stopping = True

    def _draw_soon(self) -> None:
        if monotonic() - self._drawn_s >= DRAWN_EVERY_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn_s = monotonic()
        if self.is_running:
            self._console.show_under_way(
                f"batch {cells(self.plan)} {self.plan.done} of {len(self.plan.items)}"
            )
        if self.watched is not None:
            self.watched()
        else:
            self._console.lists_changed()

    async def _one(self, wait: WaitInfo) -> tuple[Progress, str]:
        console = self._console
        context = replace(console.base_context(), marked=len(self.plan.items))
        try:
            given = permit("batch", context, console.client)
        except NotPermitted as refusal:
            return Progress.FAILED, str(refusal)
        if why := batches.changed(wait, console.store.wait(wait.id) or wait):
            return Progress.SKIPPED, why
        try:
            receipt = await given.client.waits.answer(
                wait.id,
                self._data,
                batch_id=self.batch_id,
                sign=beside(SshSigner()),
                operation_id=self._operations[wait.id],
            )
        except HelmrError as error:
            return self._refused(error)
        outcome = of_receipt(receipt)
        self._took(wait.id, outcome)
        await asyncio.to_thread(console.files.drafts.discard, wait.id)
        # The mark says "accepted"; that others must agree needs words.
        return Progress.ACCEPTED, outcome.lines[0] if outcome.result is Result.VOTED else ""

    def _took(self, wait_id: str, outcome: AnswerOutcome) -> None:
        """Update the store; `_draw` refreshes the lists, not each answer."""
        if outcome.result is Result.VOTED:
            self._console.voted(wait_id)
        else:
            self._console.store.answered(wait_id)

    def _refused(self, error: HelmrError) -> tuple[Progress, str]:
        outcome = of_error(error)
        detail = outcome.lines[0] if outcome.lines else outcome.result.value
        progress = batches.came_of(error)
        self._is_stopping |= batches.meets_all(error)
        if progress is Progress.SKIPPED:
            detail = f"{outcome.result.value.removeprefix('Not sent: ')}; {detail}"
        return progress, detail

    def content(self, width: int) -> Content:
        """The progress, then a line for each answer."""
        now = self._console.store.now()
        items = (item_line(item, now, width) for item in self.plan.items)
        return lines([head(f"{cells(self.plan)} {self.plan.summary()}"), *items])
