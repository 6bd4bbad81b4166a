"""What operators do to a whole ledger, on the wire."""

from __future__ import annotations

from typing import Any

from helmr.models.people import Wire


class PruneReceipt(Wire):
    """Old sessions that were removed, or would be; one page of them (S-69).

    Attributes:
        entries: How many entries they had.
        is_last: Nothing that may go is left.
        archive: Name of the Parquet file that has them now, in the data directory's folder `pruned`.
    """

    sessions: int
    entries: int
    is_last: bool
    archive: str | None = None


class CopyPage(Wire):
    """What a follower is behind by, as far as one page goes (S-68).

    Attributes:
        through: Feed offset at which the page ends; the next begins after it.
        head: Feed offset of the newest entry of all.
        pruned_offset: Feed offset of the newest `sessions.pruned`; a copy that ends before it may hold parts of
            sessions.
        openings: How often the ledger was opened.
        encrypts: Whether bodies of new entries are sealed.
        generation: One more than promotions there were.
        rows: Entries and checkpoints as in a backup, without their checks.
    """

    through: int
    head: int
    pruned_offset: int
    openings: int
    encrypts: bool
    generation: int
    rows: list[list[Any]]
