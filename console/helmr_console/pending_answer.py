"""A confirmed answer that can be taken back, sent after its form has closed; its outcome shows at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from helmr.errors import HelmrError
from helmr.models import WaitInfo, WaitStatus
from helmr.person.forms import form_of
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, of_error, of_receipt, told
from helmr.person.review.personal import AnswerDraft
from helmr.signing import SshSigner, as_shown, beside
from helmr.wire.safe_text import one_line
from helmr_console.actions import NotPermitted, Permit, permit
from helmr_console.console import Console
from helmr_console.link import answer_of
from helmr_console.widgets import details


class PendingAnswer:
    """One answer to one wait.

    Args:
        console: Gives the permit and the client.
        wait: The wait, as the operator saw it.
        data: The answer.
        shown: Its JSON without secrets.
        draft: The entered text, kept until the answer is accepted.
        operation_id: Used for every try.
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
        self.title = one_line(words.subject_of(wait), 60)
        self._console = console
        self._wait = wait
        self._data = data
        self._shown = one_line(shown, 200)
        self._draft = draft
        self._operation_id = operation_id

    async def send(self) -> None:
        """Send the answer when its time has passed, and show the outcome."""
        try:
            given = self._permit()
        except NotPermitted as refusal:
            self._refused(f"Not sent: {refusal}{await self._lost()}", "error")
            return
        self._console.sending += 1
        try:
            await self._save(replace(self._draft, operation_id=self._operation_id))
            outcome = await self._try(given)
            if not outcome.after.keeps_draft:
                await asyncio.to_thread(self._console.files.drafts.discard, self._wait.id)
            elif not outcome.after.keeps_operation:
                await self._save(self._draft)
        finally:
            self._console.sending -= 1
        said = f"{outcome.result.value}: {'; '.join(outcome.lines)}"
        if outcome.is_done:
            self._console.say(
                f"{outcome.result.value}: {self.title}; {'; '.join(outcome.lines)}", "receipt"
            )
            self._console.took(self._wait.id, outcome)
            self._console.keep_as_last(self._wait, self._draft)
        else:
            said += await self._lost() if outcome.after.shows_theirs else ""
            self._refused(said, "warning" if outcome.is_open else "error")

    async def _lost(self) -> str:
        """Keep the answer that someone gave first, to show beside this one; return a hint, empty if there is none."""
        console, wait = self._console, await self._now_wait()
        if wait is None or wait.status is not WaitStatus.FULFILLED:
            return ""
        with suppress(HelmrError):
            theirs = wait.answer
            if theirs is None:
                theirs = await answer_of(console.client, wait)
            theirs_told = told(form_of(self._wait.json_schema), wait, theirs, self._data)
            console.lost.appendleft(details.lost(self.title, theirs_told, console.store.now()))
            return f"; {console.key_of('lost')} shows theirs beside yours"
        return ""

    def _permit(self) -> Permit:
        console = self._console
        now_wait = console.store.wait(self._wait.id) or self._wait
        over = words.wait_over(now_wait, console.store.now())
        given = replace(console.base_context(), wait=True, wait_over=over)
        return permit("answer", given, console.client)

    async def _try(self, given: Permit) -> AnswerOutcome:
        try:
            receipt = await given.client.waits.answer(
                self._wait.id,
                self._data,
                sign=as_shown(self._wait, beside(SshSigner())),
                operation_id=self._operation_id,
            )
        except HelmrError as error:
            found = await self._now_wait()
            return of_error(error, now_wait=found, now=self._console.store.now())
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
            await asyncio.to_thread(self._console.files.drafts.save, draft)
        except OSError as error:
            self._console.say(f"The draft can't be kept: {error.strerror}", "warning")

    def _refused(self, said: str, severity: str) -> None:
        self._console.unsent.came_back(self._wait.id)
        self._console.lists_changed()
        self._console.say(f"{self.title}: {said}. Kept as a draft: {self._shown}", severity)
