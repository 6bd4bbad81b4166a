"""Maps each op that code asks for to its effect: one reading for live runs, dry runs and checks.

Pure: an effect is a value, and the run's owner carries it out. A live run allows everything. A dry run (S-87) allows
ops that change only the session's own state, and steps declared safe; a check (S-89) allows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from helmr_runtime.core.decide import DecisionContext, lifecycle, ops
from helmr_runtime.core.entries import Draft
from helmr_runtime.core.requests import (
    ClockRequest,
    ContinueRequest,
    HistoryRequest,
    OpRequest,
    OutputRequest,
    PatchRequest,
    PeekRequest,
    PublicTokenOp,
    StepRequest,
    TokenOp,
    WaitRequest,
)
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState


class Policy(Enum):
    """Decides which of the code's requests are carried out."""

    LIVE = "live"
    DRY_RUN = "dry_run"
    CHECK = "check"

    def lets(self, ask: OpRequest) -> bool:
        """True if this op is carried out."""
        match self:
            case Policy.LIVE:
                return True
            case Policy.DRY_RUN:
                is_safe_step = isinstance(ask, StepRequest) and ask.dry_run_safe
                return is_safe_step or isinstance(ask, HARMLESS)
            case Policy.CHECK:
                return False


HARMLESS = (OutputRequest, PeekRequest, HistoryRequest, ClockRequest, PatchRequest)
"""Requests that leave nothing behind but entries of the session."""


@dataclass(slots=True)
class Writes:
    """Entries to write. With `is_last_for_now` the code asks for nothing more that could be stored along with them."""

    drafts: Sequence[Draft]
    is_last_for_now: bool = False


@dataclass(slots=True)
class TriesStep:
    """A step to open, and to try once that is stored."""

    opening: Draft


@dataclass(slots=True)
class AsksOutside:
    """A wait on a token or on child sessions, whose end is not a fact of this session."""

    ask: WaitRequest


@dataclass(slots=True)
class Withheld:
    """The policy does not allow it."""


Effect = Writes | TriesStep | AsksOutside | Withheld


def effect_of(
    policy: Policy, state: SessionState, run: Run, op: int, ask: OpRequest, context: DecisionContext
) -> Effect:
    """Return the effect of the request.

    Args:
        policy: Decides what may happen.
        state: The session; it is not changed.
        run: Its active run, whose code asks.
        op: The op's number.
        ask: The request.
        context: The circumstances.
    """
    if not policy.lets(ask):
        return Withheld()
    match ask:
        case StepRequest():
            return TriesStep(ops.open_step(state, run, op, ask))
        case WaitRequest() if ask.awaits:
            return AsksOutside(ask)
        case WaitRequest():
            return Writes(ops.open_wait(state, run, op, ask, context), is_last_for_now=True)
        case ContinueRequest():
            drafts = lifecycle.run_continued(run, ask.payload, ask.next_run_id)
            return Writes(drafts, is_last_for_now=True)
        case OutputRequest():
            return Writes([ops.append_output(state, run, op, ask)])
        case PeekRequest():
            return Writes([ops.read_peek(state, run, op, ask)])
        case HistoryRequest():
            return Writes([ops.read_history(state, run, op, ask)])
        case TokenOp():
            return Writes([ops.create_token(run, op, ask, context)])
        case PublicTokenOp():
            return Writes([ops.create_public_token(run, op, ask, context)])
        case PatchRequest():
            return Writes([ops.mark_patch(run, op, ask)])
        case ClockRequest():
            return Writes([ops.read_clock(run, op, ask.now)])
        case _:
            raise AssertionError(f"unknown request {ask}")
