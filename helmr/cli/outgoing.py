"""Answers that were given on a terminal: kept as drafts, held, sent, and what came of each is said.

Nothing of an answer leaves before its time has passed, and every answer is in a draft before it is held: a crash
leaves drafts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from helmr import rivals
from helmr.cli import printing, questioning
from helmr.cli.asking import Answer
from helmr.drafts import AnswerDraft, DraftStore
from helmr.errors import (
    HelmrError,
    NotAllowed,
    NotFound,
    OperationConflict,
    OutcomeUnknown,
    SessionTerminal,
    TokenCancelled,
    TokenCompleted,
    TokenExpired,
    Unavailable,
    WaitClaimed,
    WaitResolved,
    WaitTimedOut,
)
from helmr.forms import form_of
from helmr.held import Held
from helmr.last_answers import LastAnswers
from helmr.models import SendReceipt, TokenAnswerReceipt, WaitInfo
from helmr.safe_text import one_line

if TYPE_CHECKING:
    from helmr.client import Client

OVER = (WaitResolved, WaitTimedOut, TokenCompleted, TokenExpired, TokenCancelled, SessionTerminal)
"""The wait has ended: no answer to it can be accepted any more."""
NEVER = (*OVER, NotAllowed, NotFound, OperationConflict)
"""What asking again can't help."""
OPEN = (OutcomeUnknown, Unavailable)
"""It may have been accepted: the next try is the same operation."""


class Outgoing:
    """What one person has answered and may still take back.

    Args:
        client: Sends.
        drafts: Where what was entered is kept until it is accepted.
        last: Where accepted answers are kept for the next time.
        hold_s: How long an answer can be taken back.
        ask_again: Told the id of a wait whose answer was not accepted and may be yet.
    """

    def __init__(
        self,
        client: Client,
        drafts: DraftStore,
        last: LastAnswers,
        *,
        hold_s: float,
        ask_again: Callable[[str], None],
    ) -> None:
        self._client = client
        self._drafts = drafts
        self._last = last
        self._ask_again = ask_again
        self._silent: list[str] | None = None
        self.held: Held[Answer] = Held(hold_s)
        self.accepted = 0

    def hold(self, answer: Answer) -> None:
        """Let it leave in its time."""
        self.save(answer.draft)
        self.held.hold(answer, time.monotonic())
        self.send_due()

    def take_back(self) -> str | None:
        """The wait whose answer was given last and does not leave; None if nothing is held."""
        answer = self.held.take_back()
        if answer is None:
            return None
        printing.write(f"taken back, nothing was sent: {about(answer.wait)}")
        return answer.wait.id

    def send_due(self) -> bool:
        """Send what is due; whether anything was said."""
        is_first = True
        while (answer := self.held.take_due(time.monotonic())) is not None:
            if is_first and self.held.hold_s:
                self._say("")  # behind the prompt
            is_first = False
            self._send(answer)
        return not is_first

    def give_up(self) -> None:
        """Whatever ends this: what has not left stays."""
        while (answer := self.held.take_back()) is not None:
            printing.write(f"not sent, kept as a draft: {about(answer.wait)} · {answer.shown}")

    def save(self, draft: AnswerDraft) -> None:
        """Keep what was entered."""
        try:
            self._drafts.save(draft)
        except OSError as error:
            printing.note(f"the draft can't be kept: {error.strerror or error}")

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Another program has the terminal meanwhile; what is to be said is said after it."""
        self._silent = []
        try:
            yield
        finally:
            said, self._silent = self._silent, None
            for line in said:
                self._say(line)

    def _send(self, answer: Answer) -> None:
        self.save(replace(answer.draft, operation_id=answer.operation_id))
        try:
            receipt = self._client.waits.answer(
                answer.wait.id,
                answer.data,
                override_claim=answer.override_claim,
                operation_id=answer.operation_id,
            )
        except HelmrError as error:
            self._refused(answer, error)
            return
        self._drafts.discard(answer.wait.id)
        self._keep_as_last(answer)
        self.accepted += 1
        self._say(f"accepted: {about(answer.wait)} · {receipt_text(receipt)}")

    def _keep_as_last(self, answer: Answer) -> None:
        """The console fills forms of waits alike with it."""
        try:
            self._last.keep(answer.wait, answer.draft)
        except OSError as error:
            printing.note(f"the answer can't be kept for the next time: {error.strerror or error}")

    def _refused(self, answer: Answer, error: HelmrError) -> None:
        """Nothing was stored, or nobody knows: say so, and keep what was entered."""
        word = "outcome unknown" if isinstance(error, OutcomeUnknown) else "not accepted"
        self._say(f"{word}: {about(answer.wait)} · {printing.error_text(error)}")
        if isinstance(error, WaitResolved | TokenCompleted):
            self._tell_theirs(answer)
        if isinstance(error, WaitClaimed):
            self._say("hint: c at the question takes the wait over")
        elif error.hint:
            self._say(f"hint: {one_line(error.hint, None)}")
        self._say(f"your answer is kept as a draft: {answer.shown}")
        if not isinstance(error, OPEN):
            self.save(answer.draft)
        if not isinstance(error, NEVER):
            self._ask_again(answer.wait.id)

    def _tell_theirs(self, answer: Answer) -> None:
        """What another answered first, in full, and how it differs from this."""
        with suppress(HelmrError):
            wait = self._client.waits.get(answer.wait.id)
            theirs = wait.answer
            if theirs is None and wait.token_id is not None:
                theirs = self._client.tokens.get(wait.token_id).data
            for line in rivals.told(form_of(answer.wait.json_schema), wait, theirs, answer.data):
                self._say(f"  {line}")

    def _say(self, text: str) -> None:
        printing.write(text) if self._silent is None else self._silent.append(text)


def about(wait: WaitInfo) -> str:
    """What a wait is called in a line."""
    return one_line(questioning.subject(wait), 200)


def receipt_text(receipt: SendReceipt | TokenAnswerReceipt) -> str:
    """What an accepted answer did, in a line, safe."""
    if isinstance(receipt, TokenAnswerReceipt):
        return f"token {receipt.token_id} {receipt.outcome.replace('_', ' ')}"
    again = ", already accepted before" if receipt.duplicate else ""
    where = one_line(receipt.stream, 60)
    return f"record {receipt.seq} on {where}, {receipt.outcome.value}{again}"
