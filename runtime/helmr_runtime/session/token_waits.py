"""Waits on tokens and on child sessions: opened, and timed out, only if the ledger says that the token is as believed.

Its end is a fact outside the session (S-13), so these two decisions are made alone: nothing is applied before the
ledger has taken it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from helmr.errors import Moved
from helmr_runtime.core.commands import Command, Deadline, TokenEnded
from helmr_runtime.core.decide import Decision, decide, ops
from helmr_runtime.core.decide.passing import is_ended
from helmr_runtime.core.entries import RUNTIME, EntryKind, Principal, from_iso
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.run import Run
from helmr_runtime.ports import Declined, Ledger, Precondition, TokenNotCompleted, TokenOpen
from helmr_runtime.session.session_log import SessionLog
from helmr_runtime.session.task_tokens import question_of


class TokenWaits:
    """The waits of one session on tokens and on child sessions."""

    def __init__(self, log: SessionLog, ledger: Ledger) -> None:
        self._log = log
        self._ledger = ledger

    async def open(self, run_now: Callable[[], Run | None], op: int, ask: WaitRequest) -> None:
        """Commit the opening, then go on: the token may have ended meanwhile (S-13).

        Args:
            run_now: The run that asks, None once it may not.
        """
        log = self._log
        with log.under_way():
            async with log.turn, log.exclusive():
                run = run_now()
                if run is None:
                    return
                guard = TokenOpen(ask.awaits, ask.wait_id)
                token_id = ask.token_id
                question = (
                    await question_of(self._ledger, run, token_id) if token_id is not None else None
                )
                ended: TokenEnded | None = None
                while not log.is_over:
                    context = log.context()
                    drafts = ops.open_wait(
                        log.state, run, op, ask, context, token_ended=ended, question=question
                    )
                    reply = await log.commit_alone(drafts, (guard,) if ended is None else ())
                    if not isinstance(reply, Declined):
                        return
                    ended = _token_end(reply.facts, ask, context.now)

    def is_timed_out_by(self, command: Command) -> bool:
        """The command is the deadline of such a wait that is open."""
        wait = self._log.state.wait
        if wait is None or not wait.awaits or not isinstance(command, Deadline):
            return False
        return command.wait_id == wait.id

    async def time_out(self, command: Command) -> Decision:
        """A token's completion before the deadline or default wins, however late it is heard of (S-14, S-82)."""
        log = self._log
        wait = log.state.wait
        assert wait is not None
        decision = decide(log.state, command, log.context(command.sent_at))
        if not decision.drafts:
            return decision
        guards: tuple[Precondition, ...] = ()
        if is_ended(decision.drafts):
            is_over = decision.drafts[-1].kind is EntryKind.WAIT_TIMED_OUT
            ends_at = wait.deadline_at if is_over else wait.default_at
            assert ends_at is not None
            guards = (TokenNotCompleted(wait.awaits, ends_at),)
        async with log.exclusive():
            if log.is_over:
                raise Moved(f"{log.state.id} left this host")
            reply = await log.commit_alone(decision.drafts, guards)
        if isinstance(reply, Declined):
            return Decision(reply={"status": "resolved"})
        return decision


def _token_end(facts: Mapping[str, Any], ask: WaitRequest, now: datetime) -> TokenEnded:
    """How what is awaited ended; what there is not ends the wait as well."""
    return TokenEnded(
        principal=RUNTIME,
        wait_id=ask.wait_id,
        token_id=facts["token_id"],
        status=facts["status"],
        data=facts.get("data"),
        ended_at=from_iso(facts["ended_at"]) if "ended_at" in facts else now,
        ended_by=Principal.from_json(facts["ended_by"]) if "ended_by" in facts else RUNTIME,
        mode=facts.get("mode"),
        batch_id=facts.get("batch_id"),
    )
