"""What one transaction of the group commit is made of: jobs, what they want written, and the bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from helmr.errors import HelmrError
from helmr_runtime.core.entries import Draft, Entry
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.tables.removing import Removal
from helmr_runtime.ports import Flush

JOBS_MAX = 512
ENTRIES_MAX = 5_000
TEXT_MAX = 32 * 1024 * 1024
"""Bounds of one transaction: jobs, entries, characters of bodies and checkpoints."""

DUE_MAX = 2_000
"""Timeouts in one transaction: about 0.1 s, so that commits in between are not held up longer."""


@dataclass(slots=True)
class Write:
    """What a job wants stored: entries of one session, what its flush says beside them, and what is to be removed."""

    session_id: str
    entries: tuple[Entry, ...]
    flush: Flush | None = None
    removal: Removal | None = None
    stored: Callable[[Write], None] | None = None
    failed: Callable[[HelmrError], None] | None = None

    @property
    def text_size(self) -> int:
        """Characters to be written."""
        checkpoint = self.flush.checkpoint if self.flush is not None else None
        return sum(len(e.body_json) for e in self.entries) + len(checkpoint or "")


@dataclass(slots=True)
class Facts:
    """What a job wants written into the system stream: stamped behind those that the batch has already.

    Attributes:
        at: The time of its entries.
    """

    drafts: Sequence[Draft]
    at: datetime
    removal: Removal | None = None
    stored: Callable[[Write], None] | None = None
    failed: Callable[[HelmrError], None] | None = None


class Job(Protocol):
    """Something queued for the writer."""

    keys: frozenset[Hashable]
    """What no two jobs of one batch may share."""

    def prepare(self) -> Awaitable[Write | Facts | None]:
        """Check against the index; None if the job was answered without a write."""
        ...

    def fail(self, error: HelmrError) -> None:
        """Answer with an error; nothing was kept."""
        ...


@dataclass(slots=True)
class Batch:
    """The transaction that is being made.

    Attributes:
        system: The system stream behind the batch's own facts; None before the first.
    """

    jobs: list[Job] = field(default_factory=list)
    claimed: set[Hashable] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    due: list[Head] = field(default_factory=list)
    system: Head | None = None
    entries: int = 0
    text: int = 0

    @property
    def is_full(self) -> bool:
        """Another job would make the transaction too large."""
        return len(self.writes) >= JOBS_MAX or self.entries >= ENTRIES_MAX or self.text >= TEXT_MAX

    @property
    def room_for_due(self) -> int:
        """How many timeouts fit."""
        return max(0, DUE_MAX - self.entries)

    def add(self, write: Write) -> None:
        """Take a write into the transaction."""
        self.writes.append(write)
        self.entries += len(write.entries)
        self.text += write.text_size
