"""What the ledger keeps of a held session's state: entries and checkpoints.

Invariants: S-50 and S-52 (entries follow one another in seq and hash), S-53 (the state is the fold of what is stored).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from helmr_runtime.core import checkpoint as checkpoints
from helmr_runtime.core.entries import Draft, Entry, stamp
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import Loaded
from helmr_runtime.security.payloads import CHECKPOINT, PayloadCipher


class EntryWriter:
    """Makes what is stored, with the keys that came with the session."""

    def __init__(self, loaded: Loaded) -> None:
        self._chain_key = loaded.chain_key
        self._cipher = PayloadCipher(loaded.keys) if loaded.keys is not None else None

    def entries(self, state: SessionState, drafts: Sequence[Draft], now: datetime) -> list[Entry]:
        """The entries that follow the state's last one."""
        entries: list[Entry] = []
        seq, previous = state.seq, state.last_hash
        for draft in drafts:
            seq += 1
            entry = stamp(
                draft,
                session_id=state.id,
                seq=seq,
                recorded_at=now,
                previous=previous,
                key=self._chain_key,
                cipher=self._cipher,
            )
            previous = entry.hash
            entries.append(entry)
        return entries

    def checkpoint(self, state: SessionState, offsets: Mapping[int, int]) -> str:
        """The state as one text; `offsets` as `Committer.offsets`."""
        text = checkpoints.save(state, offsets)
        if self._cipher is None:
            return text
        return self._cipher.seal(text, seq=state.seq, kind=CHECKPOINT)
