"""What the ledger tells the directory of its list: sessions and ended tokens that somebody must see to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Something the directory must see to; it stays on the ledger's list until a commit clears it.

    kind: what is to be done.
        `run`: an unheld session whose run is queued without a future retry_at, or running, or waiting with lost steps.
        `delivery`: a token or a child session of a pending wait ended; `wait_id`, `token_id` are set.
        `end`: a child session that its parent has ended is to be cancelled; `token_id` is the child's id.
    end: As `token_end` gives it, unless it is large or no longer in memory: then it is to be asked for.
    trace: What set it off, as a W3C traceparent, as far as the ledger's memory has it.
    family: The session that it descends from and that no task started, as far as the ledger's memory has it.
    """

    kind: str
    session_id: str
    queued_at: datetime
    run_id: str | None = None
    wait_id: str | None = None
    token_id: str | None = None
    end: Mapping[str, Any] | None = None
    trace: str | None = None
    family: str | None = None

    @property
    def key(self) -> str:
        """What names it while it is on the list."""
        return f"end {self.session_id}" if self.kind == "end" else self.wait_id or self.session_id


WorkPosition = tuple[int, int]
"""Up to which change of the ledger's list somebody has been told what was added to it, and what has left it."""

ANEW: WorkPosition = (-1, -1)
"""Told nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkChanges:
    """What has become of the ledger's list since a position.

    Attributes:
        position: As far as this tells it; pass it to the next `work`.
        added: What is on the list and was not told before, oldest first.
        gone: Keys of what is there no more.
        is_whole: `added` begins with the first of the list: what was known before is void.
        has_more: There is more behind; the next call returns at once.
    """

    position: WorkPosition
    added: tuple[WorkItem, ...] = ()
    gone: tuple[str, ...] = ()
    is_whole: bool = False
    has_more: bool = False
