"""One form for several waits: what was marked and seen, each of which can be read first; sent one by one, stoppable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from helmr import ids
from helmr.errors import HelmrError, NotFound
from helmr.forms import Built, form_of, pretty
from helmr.models import WaitInfo
from helmr.review import batches, words
from helmr.review.batches import AnswerBatch, Progress
from helmr.review.outcome import of_error, of_receipt
from helmr.review.sending import SendPhase
from helmr.signing import SshSigner, beside
from helmr_console import safe
from helmr_console.actions import ActionContext, ActionScope, NotPermitted, Permit
from helmr_console.screens.base import bindings
from helmr_console.screens.submit import SubmitScreen
from helmr_console.unsent import PendingSend
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.panes import asked, head, lines

_SIGN = {
    Progress.ACCEPTED: ("+", "$c-success"),
    Progress.SKIPPED: ("-", "$c-warning"),
    Progress.FAILED: ("!", "$c-error"),
    Progress.UNKNOWN: ("?", "$c-warning"),
    Progress.SENDING: (">", "$c-accent"),
    Progress.PLANNED: (" ", "$c-muted"),
    Progress.STOPPED: (" ", "$c-muted"),
}


class BatchScreen(SubmitScreen):
    """Answers the marked waits of one schema."""

    SCOPES = (ActionScope.ANYWHERE, ActionScope.FORM, ActionScope.BATCH)
    BINDINGS = bindings(*SCOPES)
    ACTION = "batch"
    AREA = "inbox"
    TITLE_TEXT = "Answer marked waits"
    HOLDS_KEYS = False  # F8 stops it
    HELP_TEXT = (
        "One answer for the marked waits that share stream and schema. ^t shows their texts, unusual ones first; ^l "
        "leaves out the one on screen. The answers are sent one by one; F8 stops before the next, and waits without a "
        "sent answer stay marked. A wait that has changed meanwhile is skipped, never overwritten."
    )

    def __init__(self, marked: Sequence[str], lead: str) -> None:
        super().__init__()
        self.fields = self.composes()
        self.marked = list(marked)[: batches.BATCH_MAX]
        self.lead = lead
        self.plan = AnswerBatch(())
        self.ids: dict[str, str] = {}
        self.batch_id = ids.new_id("batch")
        self.count = SafeInput(id="count", select_on_focus=False)
        self.to_type = Static(id="to-type")
        self._looked_at: int | None = None
        """The item whose text is shown beside the form."""
        self._stopping = False
        self._begun = False
        self._is_held = False

    async def load(self) -> None:
        """Every marked wait in full; then the form they share."""
        waits: list[WaitInfo] = []
        for wait_id in self.marked:
            try:
                waits.append(await self.console.client.waits.get(wait_id))
            except NotFound:
                continue
        self.plan = batches.plan(waits, self.lead, me=self.console.identity)
        self.ids = {item.wait.id: ids.new_id(ids.OPERATION) for item in self.plan.items}
        if not self.plan.items:
            self.tell(
                (
                    "none of the marked waits can be answered",
                    *(out.why for out in self.plan.left_out[:1]),
                ),
                "warning",
            )
            return
        await self.fields.show(form_of(self.plan.items[0].wait.json_schema))
        await self.slot.mount(
            Vertical(
                self.to_type,
                self.count,
                id="confirm",
            )
        )
        self._say_count()

    def focus_form(self, form: SchemaForm) -> None:
        """Who is in and who is left out is read first."""
        form.focus_first(scrolls=False)

    def _say_count(self) -> None:
        self.to_type.update(Content(f"type {len(self.plan.items)} to confirm"))

    def facts(self) -> Sequence[Content]:
        """Who is in and who is left out."""
        count = len(self.plan.items)
        if not count:
            return (safe.line("Reading the marked waits…", "$c-muted"),)
        stream = self.plan.items[0].wait.stream or "token"
        parts = [
            Content.assemble(
                (f"{count} waits", "bold"),
                (" share stream ", "$c-muted"),
                safe.line(stream, "bold", limit=60),
            )
        ]
        unlike = sum(bool(item.unlike) for item in self.plan.items)
        if unlike:
            said = f"  {unlike} unlike the others, first in the list: ^t shows them"
            parts.append(safe.line(said, "$c-warning", limit=100))
        parts += [
            safe.line(
                f"  left out: {words.subject_of(out.wait)[:60]}: {out.why}", "$c-warning", limit=200
            )
            for out in self.plan.left_out[:5]
        ]
        if len(self.plan.left_out) > 5:
            parts.append(head(f"  … and {len(self.plan.left_out) - 5} more left out"))
        return parts

    def effects(self) -> Sequence[str]:
        """What sending does."""
        return (
            f"sends {len(self.plan.items)} answers one by one, as batch {self.batch_id}",
            "F8 stops before the next; what was sent stays sent, the rest stays marked",
        )

    def context_content(self) -> Content:
        """The items and how far each is, the JSON below; or the text of one."""
        if self._looked_at is not None and not self._begun:
            return self._text_of(self._looked_at)
        now = self.console.store.now()
        parts = [head(self.plan.summary() if self._begun else "In this order")]
        for item in self.plan.items:
            sign, role = _SIGN[item.progress]
            due = words.of_wait(item.wait, now).text
            said = f"{item.progress.value}{': ' + item.detail if item.detail else ''}"
            about = f"{sign} {due:>7}  {words.subject_of(item.wait)[:40]}"
            parts.append(safe.line(about, role, limit=100))
            parts.append(safe.line(f"           {said}", "$c-muted", limit=200))
            if item.unlike and not self._begun:
                parts.append(
                    safe.line(
                        f"           unlike the others: {item.unlike}", "$c-warning", limit=200
                    )
                )
        return lines([*parts, Content(""), *([] if self._begun else self.preview())])

    def _text_of(self, index: int) -> Content:
        """What one of the waits asks, and in what it is unlike the others."""
        item = self.plan.items[index]
        parts = [
            head(f"{index + 1} of {len(self.plan.items)}; ^t shows the next, ^l leaves it out")
        ]
        if item.unlike:
            parts.append(safe.line(f"unlike the others: {item.unlike}", "$c-warning", limit=200))
        parts += asked(item.wait)
        if item.wait.initial is not None:
            parts += [Content(""), head("begins with")]
            parts += [safe.line(text, limit=200) for text in pretty(item.wait.initial).split("\n")]
        return lines(parts)

    def focus_help(self) -> tuple[str, Sequence[str]] | None:
        """The count is the one field that is not the schema's."""
        if not self.count.has_focus:
            return super().focus_help()
        return "The number of waits", (
            f"type {len(self.plan.items)}, the number of answers: one for each wait on the right",
        )

    def path(self) -> str:
        """Inbox > Answer n waits."""
        return f"Inbox > Answer {len(self.plan.items)} marked waits"

    def context(self) -> ActionContext:
        """Marks are those of this batch."""
        return replace(
            super().context(),
            marked=len(self.plan.items),
            batch_running=self.submission.phase is SendPhase.SENDING,
            unsent=bool(self.plan.items) and not self._begun,
            looked_at=self._looked_at is not None and self.submission.phase is SendPhase.FORM,
        )

    def result(self) -> Built:
        """The JSON; the count must have been typed."""
        built = super().result()
        if built.problems:
            return built
        if self.count.value.strip() != str(len(self.plan.items)):
            self.count.focus()
            return Built(None, {"$": f"type {len(self.plan.items)} to confirm"})
        return built

    def do_look(self) -> None:
        """The next wait's text beside the form; where there is no room for both, in its place."""
        following = 0 if self._looked_at is None else self._looked_at + 1
        self._looked_at = following if following < len(self.plan.items) else None
        is_aside = self.has_class("aside")
        if self.has_class("-narrow") and is_aside != (self._looked_at is not None):
            self.fields.do_context()
        self.redraw()
        self.fields.aside.scroll_home(animate=False)

    def do_leave_out(self) -> None:
        """Without the wait whose text is shown; the next one's is."""
        if self._looked_at is None:
            return
        self.plan = self.plan.without(self._looked_at)
        if self._looked_at >= len(self.plan.items):
            self._looked_at = len(self.plan.items) - 1 if self.plan.items else None
        self._say_count()
        self.redraw()

    def do_stop(self) -> None:
        """No more after the one that is under way."""
        if self._is_held:
            self.console.take_back()
            return
        self._stopping = True
        self.console.say("Stopping before the next answer", "warning")

    # --- held as one

    def let_go(self, permit: Permit) -> None:
        """All of them when their time has passed, or now."""
        if not self.console.outbox.holds:
            super().let_go(permit)
            return
        self._is_held = True
        self.console.background.start(
            self._hold(permit), group="hold", holds_keys=True, on_error=self._broke
        )

    async def _hold(self, permit: Permit) -> None:
        """A draft of each first: a console that ends meanwhile has sent none of them."""
        for item in self.plan.items:
            draft = self.draft_of(item.wait.id, None)
            await asyncio.to_thread(self.console.files.drafts.save, draft)
        self.console.hold(
            PendingSend(
                f"{len(self.plan.items)} answers",
                frozenset(item.wait.id for item in self.plan.items),
                partial(self._send_held, permit),
                self._taken_back,
            )
        )

    async def _send_held(self, permit: Permit) -> None:
        self._is_held = False
        self.console.sending += 1
        await self._send(permit)

    def _taken_back(self) -> None:
        self._is_held = False
        self.submission.phase = SendPhase.REVIEW
        self.redraw()

    def sending_text(self) -> str:
        """Held, nothing of it has left."""
        return "pending: nothing has been sent" if self._is_held else super().sending_text()

    async def _send(self, permit: Any) -> None:
        self._begun = True
        self.add_class("aside")
        try:
            await self._send_all()
        finally:
            self.console.sending -= 1
        self.submission.phase = SendPhase.FORM
        self.fields.state = self.plan.summary()
        told = (self.plan.summary(), f"batch {self.batch_id}", "esc goes back to the inbox")
        self.tell(told, "success")
        self.redraw()

    async def _send_all(self) -> None:
        while (index := self.plan.stopped_at) is not None:
            if self._stopping:
                self.plan = self.plan.stop()
                break
            wait = self.plan.items[index].wait
            self.plan = self.plan.mark(index, Progress.SENDING)
            self.redraw()
            progress, detail = await self._one(wait)
            self.plan = self.plan.mark(index, progress, detail)
            if progress is Progress.FAILED and not self.console.base_context().live:
                self._stopping = True
            self.redraw()

    async def _one(self, wait: WaitInfo) -> tuple[Progress, str]:
        try:
            permit = self.permit(self.ACTION)
        except NotPermitted as refusal:
            return Progress.FAILED, str(refusal)
        if why := batches.changed(wait, self.console.store.wait(wait.id) or wait):
            return Progress.SKIPPED, why
        try:
            receipt = await permit.client.waits.answer(
                wait.id,
                self.submission.data,
                batch_id=self.batch_id,
                sign=beside(SshSigner()),
                operation_id=self.ids[wait.id],
            )
        except HelmrError as error:
            outcome = of_error(error)
            detail = outcome.lines[0] if outcome.lines else outcome.result.value
            progress = batches.came_of(error)
            self._stopping |= batches.meets_all(error)
            if progress is Progress.SKIPPED:
                detail = f"{outcome.result.value.removeprefix('Not sent: ')}; {detail}"
            return progress, detail
        outcome = of_receipt(receipt)
        self.console.took(wait.id, outcome)
        await asyncio.to_thread(self.console.files.drafts.discard, wait.id)
        return Progress.ACCEPTED, outcome.lines[0]

    def do_back(self) -> None:
        """After the batch was sent there is nothing to go back to but the list."""
        if self._is_held:
            self.console.take_back()
        elif self._begun and self.submission.phase is SendPhase.FORM:
            self.dismiss()
        else:
            super().do_back()

    def do_review(self) -> None:
        """After the batch was sent there is nothing more to send."""
        if self._begun:
            self.console.say("This batch was sent; mark again for another", "warning")
            return
        super().do_review()
