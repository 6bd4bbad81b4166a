"""What a decision is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr.errors import HelmrError
from helmr.models import RunStatus
from helmr_runtime.core.claims import Claims
from helmr_runtime.core.entries import Draft
from helmr_runtime.core.run import Run


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """What a task's declaration says to decisions (S-1, S-5, S-7, S-20)."""

    inputs: frozenset[str] = frozenset()
    on_idle_input: str = "keep"
    after_run: str = "keep"
    retries: int = 0
    backoff_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Context:
    """The circumstances of a decision.

    `now` is the latest of the actor's clock, the command's time and the last entry's time. `is_hot`: whoever
    decides also runs the code, so a resolved wait makes the run `running`, else `queued`.
    """

    now: datetime
    policy: TaskPolicy
    is_hot: bool
    fits: Callable[[Any, Any], bool] = lambda schema, data: True
    """Whether data (second) fits a wait's own JSON Schema (first), as who has a validator says (S-71)."""

    claims: Claims | None = None
    """Of the pending wait, as far as anybody claimed it (S-81)."""

    @property
    def entries_ahead(self) -> int:
        """How many entries of claims are written before those of this decision."""
        return len(self.claims.pending(self.now)) if self.claims is not None else 0

    def status_after_wait(self, run: Run) -> str:
        """The run's status once its wait is resolved."""
        if run.status is RunStatus.BLOCKED:
            return RunStatus.BLOCKED.value
        return (RunStatus.RUNNING if self.is_hot else RunStatus.QUEUED).value


@dataclass(frozen=True, slots=True)
class Decision:
    """The entries to write, in order, and what to tell the caller once they are on disk."""

    drafts: tuple[Draft, ...] = ()
    reply: Mapping[str, Any] = field(default_factory=dict)
    error: HelmrError | None = None
