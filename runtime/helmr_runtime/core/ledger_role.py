"""The role of a ledger: standby, primary or superseded. One object that all its parts ask.

Only a log that other machines reach has several roles: over a file beside the database, a ledger is the primary as soon
as it is open. A superseded ledger stays superseded, and its runtime ends.

Invariants: S-97, S-98.
"""

from __future__ import annotations

from enum import StrEnum

from helmr.errors import LedgerSuperseded


class LedgerState(StrEnum):
    """The role of a ledger."""

    STANDING_BY = "standing_by"
    """Follows the log: appends nothing and does nothing that is due."""
    PRIMARY = "primary"
    SUPERSEDED = "superseded"
    """Shows its entries; acknowledges nothing more."""


class LedgerRole:
    """The role of one ledger, through all openings of its file.

    Attributes:
        is_waiting: It stands by because another runtime leads, not only until it has opened the log.
        has_led: It has opened the log before, and served: another runtime's lease now ends it instead of making it
            wait.
        superseded: The reason why it acknowledges nothing.
        acts: It appends, and does what is due. A field, because each commit reads it.
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
        """The reason to end its runtime; None if there is none.

        A runtime that lost the log before it had served tries again; a ledger over a file goes on showing its entries.
        """
        return self.superseded if self._is_shared and self.has_led else None

    def opens(self, *, is_shared: bool) -> None:
        """Its file is open; a shared log is not yet. An earlier try that came too late is forgotten."""
        self._is_shared = is_shared
        self._leads = not is_shared
        if not self.has_led:
            self.superseded = None
        self.acts = self.now is LedgerState.PRIMARY

    def waits(self, is_waiting: bool) -> None:
        """Note whether another runtime was seen leading."""
        self.is_waiting = is_waiting

    def leads(self) -> None:
        """It has opened the log."""
        self._leads, self.is_waiting = True, False
        self.acts = self.now is LedgerState.PRIMARY

    def serves(self) -> None:
        """The opening is complete."""
        self.has_led, self.is_waiting = self._is_shared, False

    def ends(self, superseded: LedgerSuperseded) -> None:
        """Another runtime has opened the log; the first reason stays."""
        self.superseded = self.superseded or superseded
        self.acts = self.is_waiting = False
