"""The role of a ledger: it stands by, is the primary, or was superseded. One object that all parts of it ask.

Only a log that other machines reach has more than one role: over a file beside the database, a ledger is the primary
as soon as it is open. Superseded is for good; a runtime that is, ends.

Invariants: S-97, S-98.
"""

from __future__ import annotations

from enum import StrEnum

from helmr.errors import LedgerSuperseded


class LedgerState(StrEnum):
    """What a ledger may do."""

    STANDING_BY = "standing_by"
    """Follow the log: it appends nothing, and nothing that is due is done."""
    PRIMARY = "primary"
    SUPERSEDED = "superseded"
    """Show what it has; nothing more is acknowledged."""


class LedgerRole:
    """The role of one ledger, through all openings of its file.

    Attributes:
        is_waiting: It stands by since another runtime is at work, and not only until it has opened the log.
        has_led: It has opened the log before, and served: another's lease is no reason to wait, but the end.
        superseded: Why it acknowledges nothing.
        acts: It appends, and does what is due. A field, since each commit looks at it.
    """

    def __init__(self) -> None:
        self.is_waiting = False
        self.has_led = False
        self.superseded: LedgerSuperseded | None = None
        self.acts = False
        self._leads = False
        self._is_shared = False

    @property
    def now(self) -> LedgerState:
        """The role."""
        if self.superseded is not None:
            return LedgerState.SUPERSEDED
        return LedgerState.PRIMARY if self._leads else LedgerState.STANDING_BY

    @property
    def ended_by(self) -> LedgerSuperseded | None:
        """Why its runtime is to end.

        One that lost the log before it had served tries again, and a ledger over a file goes on to show what it has.
        """
        return self.superseded if self._is_shared and self.has_led else None

    def opens(self, *, is_shared: bool) -> None:
        """Its file is open; a log that others reach is not yet. A try that was too late counts no more."""
        self._is_shared = is_shared
        self._leads = not is_shared
        if not self.has_led:
            self.superseded = None
        self.acts = self.now is LedgerState.PRIMARY

    def waits(self, is_waiting: bool) -> None:
        """Another runtime was seen at work on the log, or none."""
        self.is_waiting = is_waiting

    def leads(self) -> None:
        """It has opened the log."""
        self._leads, self.is_waiting = True, False
        self.acts = self.now is LedgerState.PRIMARY

    def serves(self) -> None:
        """All that an opening does is done."""
        self.has_led, self.is_waiting = self._is_shared, False

    def ends(self, superseded: LedgerSuperseded) -> None:
        """Another has opened the log; the reason that came first stays."""
        self.superseded = self.superseded or superseded
        self.acts = self.is_waiting = False
