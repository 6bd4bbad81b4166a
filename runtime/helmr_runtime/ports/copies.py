"""What crosses when a ledger is copied as a whole: to a backup, to a follower (S-66, S-68)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """A page of a backup: rows as JSON arrays (`helmr_runtime.core.backup_file`), and where in the feed it ends.

    Attributes:
        pruned_offset: Feed offset of the newest `sessions.pruned` when it was read, 0 before the first. What was copied
            up to an offset before it may lack entries in the middle of sessions.
    """

    through: int
    rows: tuple[bytes, ...]
    pruned_offset: int = 0


@dataclass(frozen=True, slots=True)
class CopyPosition:
    """How far a follower is: its last entry, and its last of the system stream, which is never pruned (S-68).

    Attributes:
        offset: Feed offset, 0 before the first entry; so is `system_offset`.
        hash: Of that entry, in hex; so is `system_hash`.
    """

    offset: int = 0
    hash: str | None = None
    system_offset: int = 0
    system_hash: str | None = None

    def is_of(self, last: str | None, system: str | None, head: int) -> bool:
        """Whether a ledger goes on where this follower is. Its last of the system stream stands for one that was
        pruned.

        Args:
            last: Hash of the ledger's entry at `offset`, in hex; None if it has none there.
            system: The same at `system_offset`.
            head: Feed offset of the ledger's newest entry.
        """
        if self.offset == 0:
            return True
        is_pruned = last is None and self.offset < head and system is not None
        return last == self.hash or (is_pruned and system == self.system_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedPage:
    """What a follower is behind by, as far as one page goes; else as `helmr.models.CopyPage` says."""

    copied: CopiedRows
    head: int
    openings: int
    encrypts: bool
    generation: int
