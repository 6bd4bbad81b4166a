"""An answer in the outbox: sent when its form is long closed, and what became of it said where the operator is now."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from helmr import rivals
from helmr.drafts import AnswerDraft
from helmr.errors import HelmrError, OperationConflict
from helmr.forms import form_of
from helmr.models import WaitInfo, WaitStatus
from helmr.safe_text import one_line
from helmr_console import rival, views
from helmr_console.console import Console
from helmr_console.outcome import Outcome, Result, of_error, of_receipt
from helmr_console.permits import Permit, Refused, permit
from helmr_console.reads import answer_of


class HeldSend:
    """One answer to one wait.

    Args:
        console: Sends it.
        wait: The wait, as it was answered.
        data: What is sent.
        shown: Its JSON without secrets.
        draft: What was entered: kept until it is accepted.
        operation_id: Of every try.
    """

    def __init__(
        self,
        console: Console,
        wait: WaitInfo,
        data: Any,
        *,
        shown: str,
        draft: AnswerDraft,
        operation_id: str,
    ) -> None:
        self.title = one_line(views.subject_of(wait), 60)
        self._console = console
        self._wait = wait
        self._data = data
        self._shown = one_line(shown, 200)
        self._draft = draft
        self._operation_id = operation_id

    async def send(self) -> None:
        """Its time has passed: it leaves, and what came back is said."""
        try:
            given = self._permit()
        except Refused as refusal:
            self._refused(f"Not sent: {refusal}{await self._lost()}", "error")
            return
        self._console.sending += 1
        try:
            await self._save(replace(self._draft, operation_id=self._operation_id))
            outcome = await self._try(given)
            if outcome.is_done:
                await asyncio.to_thread(self._console.drafts.discard, self._wait.id)
            elif not outcome.is_open:
                await self._save(self._draft)
        finally:
            self._console.sending -= 1
        said = f"{outcome.result.value}: {'; '.join(outcome.lines)}"
        if outcome.is_done:
            self._console.say(
                f"{outcome.result.value}: {self.title}; {'; '.join(outcome.lines)}", "receipt"
            )
            self._console.answered(self._wait.id)
            self._console.keep_as_last(self._wait, self._draft)
        else:
            said += await self._lost() if outcome.result is Result.RESOLVED else ""
            self._refused(said, "warning" if outcome.is_open else "error")

    async def _lost(self) -> str:
        """Keep what another answered first, to be read beside this one, and say how; empty if nobody did."""
        console, wait = self._console, await self._now_wait()
        if wait is None or wait.status is not WaitStatus.FULFILLED:
            return ""
        with suppress(HelmrError):
            theirs = wait.answer
            if theirs is None:
                theirs = await answer_of(console.client, wait)
            told = rivals.told(form_of(self._wait.json_schema), wait, theirs, self._data)
            console.lost.appendleft(rival.lost(self.title, told, console.store.now()))
            return f"; {console.key_of('lost')} shows theirs beside yours"
        return ""

    def _permit(self) -> Permit:
        console = self._console
        now_wait = console.store.wait(self._wait.id) or self._wait
        over = views.wait_over(now_wait, console.store.now())
        return permit("answer", replace(console.base_context(), wait=True, wait_over=over))

    async def _try(self, given: Permit) -> Outcome:
        console = self._console
        try:
            receipt = await console.writer.answer(
                given, self._wait.id, self._data, operation_id=self._operation_id
            )
        except OperationConflict:
            return Outcome(Result.RESOLVED, ("an earlier try was accepted",))
        except HelmrError as error:
            return of_error(error, now_wait=await self._now_wait())
        return of_receipt(receipt)

    async def _now_wait(self) -> WaitInfo | None:
        try:
            found = await self._console.client.waits.get(self._wait.id)
        except HelmrError:
            return None
        self._console.store.put_wait(found)
        return found

    async def _save(self, draft: AnswerDraft) -> None:
        try:
            await asyncio.to_thread(self._console.drafts.save, draft)
        except OSError as error:
            self._console.say(f"The draft can't be kept: {error.strerror}", "warning")

    def _refused(self, said: str, severity: str) -> None:
        self._console.unsent.came_back(self._wait.id)
        self._console.lists_changed()
        self._console.say(f"{self.title}: {said}. Kept as a draft: {self._shown}", severity)
