"""What steers a run through its code: exceptions that task code can't swallow (S-34).

They derive from `BaseException` and are part of `helmr.errors`, where everything that may be raised is found.
"""

from __future__ import annotations

from typing import Any


class HelmrSignal(BaseException):
    """Control flow of a run. Task code may see it in `finally`; catching it changes nothing (S-34)."""


class RunParked(HelmrSignal):
    """The run leaves memory; it goes on here, replayed, when its wait is resolved."""


class RunCancelled(HelmrSignal):
    """The run was cancelled; durable calls are refused from now on."""


class RunContinued(HelmrSignal):
    """`ctx.continue_as` ended this run; the next one has begun."""


ORDER_HINT = "move what varies into a @step, sort what comes out of a set, and await tasks in an order of your own"
"""For other ops than before."""

ASKED_HINT = "move what varies into a @step, take times and ids from ctx, leave the call out with compare=False"
"""For the same op that asks something else."""


class NondeterminismError(HelmrSignal):
    """The code asked for another op than the journal holds, or in the same op for something else (S-31, S-126).

    The run is blocked.
    """

    def __init__(self, *, op: int, recorded: str, met: str, hint: str = ORDER_HINT) -> None:
        super().__init__(
            f"op {op}: the journal has {recorded}, the code asked for {met}. "
            f"Code between durable calls must do the same at each resume; {hint}, "
            "or put the old code back and retry the run."
        )
        self.hint = hint
        self.op = op
        self.recorded = recorded
        self.met = met

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_mismatch, (self.op, self.recorded, self.met, self.hint)


def _rebuild_mismatch(op: int, recorded: str, met: str, hint: str) -> NondeterminismError:
    return NondeterminismError(op=op, recorded=recorded, met=met, hint=hint)
