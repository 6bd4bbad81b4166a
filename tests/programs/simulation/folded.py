"""Sessions, runs and waits as their entries tell them, as far as the checks look at them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from helmr_runtime.core.entries import GENESIS, Entry


@dataclass(slots=True)
class Wait:
    """A wait, as its entries tell."""

    session_id: str
    run_id: str
    op: int | None
    kind: str
    deadline_at: datetime | None
    question: str | None
    stream: str | None = None
    token_id: str | None = None
    status: str = "pending"
    ended_at: int | None = None
    """Feed offset of its end."""
    is_kept_for: bool = False
    """When it opened, an answer was held for what it asks."""
    escalation: list[dict[str, Any]] = field(default_factory=list)
    since: dict[str, datetime | None] = field(default_factory=dict)
    """What its escalation steps count from: `opened`, and `assigned`."""
    fired: set[int] = field(default_factory=set)

    def comes_at(self, number: int) -> datetime | None:
        """When that escalation step fires, as things are."""
        escalation_step = self.escalation[number]
        since = self.since[escalation_step["from"]]
        return since + timedelta(seconds=escalation_step["after_s"]) if since is not None else None

    @property
    def default_at(self) -> datetime | None:
        """When the default answers."""
        numbers = [
            n
            for n, escalation_step in enumerate(self.escalation)
            if escalation_step["do"] == "default"
        ]
        return self.comes_at(numbers[0]) if numbers else None


@dataclass(slots=True)
class Run:
    """What of a run is looked at."""

    status: str = "queued"
    opened: dict[int, int] = field(default_factory=dict)
    """By op, the seq at which it was opened last."""
    outcomes: dict[int, int] = field(default_factory=dict)
    """By op, the seq of its step's outcome; without those set aside."""
    ended: dict[int, int] = field(default_factory=dict)
    """The same of every op."""
    wait: str | None = None
    keys: dict[int, str] = field(default_factory=dict)
    """By op, the key of its step."""
    held: list[dict[str, Any]] = field(default_factory=list)
    """Answers that a rewind keeps, in order: each with its wait and what that asked."""


@dataclass(slots=True)
class Session:
    """What of a session is looked at."""

    seq: int = 0
    hash: bytes = GENESIS
    at: datetime | None = None
    epoch: int = 0
    runs: dict[str, Run] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=Counter)
    """By stream, how many."""
    taken: dict[tuple[str, int], str] = field(default_factory=dict)
    """By record, the wait that has it."""
    status: str = "open"
    entries: list[Entry] = field(default_factory=list)


def set_aside(run: Run, failed_op: int | None) -> None:
    """What a retry runs again (S-5): the op that failed, and what was opened after its outcome."""
    if failed_op is None:
        return
    outcome_seq = run.ended.get(failed_op)
    if outcome_seq is None:
        return
    again = {op for op, seq in run.opened.items() if seq > outcome_seq} | {failed_op}
    for op in again:
        run.outcomes.pop(op, None)
