"""One form for several marked waits, each readable first; answers are sent one by one and can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from helmr.errors import NotFound
from helmr.models import WaitInfo
from helmr.person.forms import Built, form_of, pretty
from helmr.person.review import batches, words
from helmr.person.review.batches import AnswerBatch
from helmr.person.review.sending import SendPhase
from helmr.wire import ids
from helmr_console import safe
from helmr_console.actions import ActionContext, ActionScope, Permit
from helmr_console.batch_run import BatchRun, item_line
from helmr_console.console import UnderWay
from helmr_console.screens.base import ConsoleScreen, Pairs, bindings
from helmr_console.screens.submit import SubmitScreen
from helmr_console.unsent import PendingSend
from helmr_console.widgets.field_row import SafeInput
from helmr_console.widgets.panes import TextPane, asked, head, lines

READ_AT_ONCE = 8
READ_DRAWN_EVERY = 50


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
        "leaves out the one on screen. The answers are sent one by one, also when you have left the page; F8 stops "
        "before the next, and waits without a sent answer stay marked. A wait that has changed meanwhile is skipped, "
        "never overwritten."
    )

    def __init__(self, marked: Sequence[str], lead: str) -> None:
        super().__init__()
        self.fields = self.composes()
        kept = [lead, *(one for one in marked if one != lead)]
        self.marked = kept[: batches.BATCH_MAX]
        self.beyond = len(kept) - len(self.marked)
        """Number of marked waits that are not in this batch."""
        self.lead = lead
        self._plan = AnswerBatch(())
        self._read = 0
        self.run: BatchRun | None = None
        """The run that sends the batch, once confirmed."""
        self.batch_id = ids.new_id("batch")
        self.count = SafeInput(id="count", select_on_focus=False)
        self.to_type = Static(id="to-type")
        self._looked_at: int | None = None
        """Index of the item whose text is shown beside the form."""
        self._is_held = False

    @property
    def plan(self) -> AnswerBatch:
        """The waits to answer; once confirmed, with the progress of each."""
        return self.run.plan if self.run is not None else self._plan

    @property
    def _begun(self) -> bool:
        return self.run is not None

    async def load(self) -> None:
        """Read every marked wait in full, then show the form they share."""
        limit = asyncio.Semaphore(READ_AT_ONCE)
        found = await asyncio.gather(*(self._read_one(wait_id, limit) for wait_id in self.marked))
        waits = [wait for wait in found if wait is not None]
        self._plan = batches.plan(waits, self.lead, me=self.console.identity)
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

    async def _read_one(self, wait_id: str, limit: asyncio.Semaphore) -> WaitInfo | None:
        async with limit:
            with suppress(NotFound):
                wait = await self.console.client.waits.get(wait_id)
                self._read += 1
                if self._read % READ_DRAWN_EVERY == 0:
                    self.redraw()
                return wait
        return None

    def _say_count(self) -> None:
        self.to_type.update(Content(f"type {len(self.plan.items)} to confirm"))

    def facts(self) -> Sequence[Content]:
        """The waits in the batch and those left out."""
        count = len(self.plan.items)
        if not count:
            said = f"Reading the marked waits, {self._read} of {len(self.marked)}…"
            return (safe.line(said, "$c-muted"),)
        stream = self.plan.items[0].wait.stream or "token"
        parts = [
            Content.assemble(
                (f"{count} waits", "bold"),
                (" share stream ", "$c-muted"),
                safe.line(stream, "bold", limit=60),
            )
        ]
        if self.beyond:
            said = f"  {self.beyond} more are marked and stay so: a batch has {batches.BATCH_MAX:,} at most"
            parts.append(safe.line(said, "$c-warning", limit=100))
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
        """Effects of sending."""
        return (
            f"sends {len(self.plan.items)} answers one by one, as batch {self.batch_id}",
            "F8 stops before the next; what was sent stays sent, the rest stays marked",
        )

    def context_content(self) -> Content:
        """The items with their progress, and the JSON below; or the text of one item."""
        if self._looked_at is not None and not self._begun:
            return self._text_of(self._looked_at)
        width = self.fields.aside.size.width - 3
        if self.run is not None:
            return self.run.content(width)
        now = self.console.store.now()
        parts = [head("In this order")]
        for item in self.plan.items:
            parts.append(item_line(item, now, width))
            if item.unlike:
                why = f"           unlike the others: {item.unlike}"
                parts.append(safe.line(why, "$c-warning", limit=200))
        return lines([*parts, Content(""), *self.preview()])

    def _text_of(self, index: int) -> Content:
        """The question of one wait, and how it differs from the others."""
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
        """Help for the count, the one field that is not the schema's; else the field's own."""
        if not self.count.has_focus:
            return super().focus_help()
        return "The number of waits", (
            f"type {len(self.plan.items)}, the number of answers: one for each wait on the right",
        )

    def path(self) -> str:
        """Inbox > Answer n waits."""
        return f"Inbox > Answer {len(self.plan.items) or len(self.marked)} marked waits"

    def context(self) -> ActionContext:
        """The context with this batch's waits as the marks."""
        return replace(
            super().context(),
            marked=len(self.plan.items),
            batch_running=self._is_held or (self.run is not None and self.run.is_running),
            unsent=bool(self.plan.items) and not self._begun,
            looked_at=self._looked_at is not None and self.submission.phase is SendPhase.FORM,
        )

    def result(self) -> Built:
        """The JSON; a problem until the count is typed."""
        built = super().result()
        if built.problems:
            return built
        if self.count.value.strip() != str(len(self.plan.items)):
            self.count.focus()
            return Built(None, {"$": f"type {len(self.plan.items)} to confirm"})
        return built

    def do_look(self) -> None:
        """Show the next wait's text beside the form, or in its place where there is no room for both."""
        following = 0 if self._looked_at is None else self._looked_at + 1
        self._looked_at = following if following < len(self.plan.items) else None
        is_aside = self.has_class("aside")
        if self.has_class("-narrow") and is_aside != (self._looked_at is not None):
            self.fields.do_context()
        self.redraw()
        self.fields.aside.scroll_home(animate=False)

    def do_leave_out(self) -> None:
        """Leave out the wait whose text is shown; show the next one's."""
        if self._looked_at is None:
            return
        self._plan = self._plan.without(self._looked_at)
        if self._looked_at >= len(self.plan.items):
            self._looked_at = len(self.plan.items) - 1 if self.plan.items else None
        self._say_count()
        self.redraw()

    def do_stop(self) -> None:
        """Stop after the answer that is being sent; a held batch is taken back."""
        if self._is_held:
            self.console.take_back()
            return
        if self.run is not None:
            self.run.stop()

    # --- held as one

    def let_go(self, permit: Permit) -> None:
        """Send the batch, now or when its time to undo has passed."""
        if not self.console.outbox.holds:
            super().let_go(permit)
            return
        self._is_held = True
        self.console.background.start(
            self._hold(permit), group="hold", holds_keys=True, on_error=self._broke
        )

    async def _hold(self, permit: Permit) -> None:
        """Save a draft of each answer, then hold the batch: a console that ends meanwhile has sent and lost nothing."""
        drafts = [self.draft_of(item.wait.id, None) for item in self.plan.items]
        await asyncio.to_thread(self.console.files.drafts.save, *drafts)
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

    def store_changed(self) -> None:
        """Redraw only the bars while the batch is sent; the run redraws its own progress."""
        if self.run is None:
            super().store_changed()
        else:
            self.refresh_bars()

    def labels(self) -> dict[str, str]:
        """Name esc by what it does once the batch is being sent."""
        return {**super().labels(), **({"back": "Leave it to go on"} if self._begun else {})}

    def sending_text(self) -> str:
        """State of the send; a held batch has sent nothing."""
        return "pending: nothing has been sent" if self._is_held else super().sending_text()

    async def _send(self, permit: Any) -> None:
        """Send the batch beside the screens, so that this one can be left."""
        self.console.sending -= 1  # the run counts itself
        self.run = BatchRun(self.console, self._plan, self.submission.data, self.batch_id)
        self.run.watched = self.redraw
        self.submission.phase = SendPhase.FORM
        self.fields.state = "being sent"
        self.add_class("aside")
        self.redraw()
        await self.run.send()
        if not self.is_attached:
            return
        summary = self.plan.summary()
        self.fields.state = summary
        self.tell((summary, f"batch {self.batch_id}", "esc goes back to the inbox"), "success")
        self.redraw()

    def do_back(self) -> None:
        """Take a held batch back; leave one that is being sent to go on; else close."""
        if self._is_held:
            self.console.take_back()
        elif self.run is not None:
            self.run.watched = None
            self.dismiss()
        else:
            super().do_back()

    def do_review(self) -> None:
        """Review the answers; refuse once the batch has begun."""
        if self._begun:
            self.console.say("This batch is on its way; mark again for another", "warning")
            return
        super().do_review()


class BatchSeenScreen(ConsoleScreen):
    """Progress of the batch being sent, or sent last, a line for each answer."""

    SCOPES = (ActionScope.ANYWHERE, ActionScope.BATCH)
    BINDINGS = bindings(*SCOPES)
    AREA = "inbox"
    HELP_TEXT = "How far the batch is, and what became of each answer. F8 stops before the next."
    DEFAULT_CSS = "BatchSeenScreen TextPane { height: 1fr; border: round $c-accent; }"

    def __init__(self, run: UnderWay) -> None:
        super().__init__()
        self.run = run
        self.pane = TextPane("Batch", id="text")
        self.pane.can_focus = True

    def body(self) -> Iterable[Widget]:
        """The pane with the lines."""
        yield self.pane

    def on_mount(self) -> None:
        """Focus the pane, so that the arrow keys scroll."""
        self.pane.focus()
        self.tick()

    def tick(self) -> None:
        """Redraw the progress."""
        self.pane.say(self.run.content(max(40, self.app.size.width - 5)))
        super().tick()

    def do_stop(self) -> None:
        """Stop after the answer that is being sent."""
        self.run.stop()

    def status(self) -> tuple[Pairs, Pairs]:
        """The path, and the keys that work."""
        said = "F8 stops it, esc leaves it to go on" if self.run.is_running else "esc closes"
        return (("Inbox > Last batch", "foreground"),), ((said, "muted"),)
