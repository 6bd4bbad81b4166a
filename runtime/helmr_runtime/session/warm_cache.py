"""States of the sessions that a host gave up last.

If a host adopts a session again that it gave up, and nothing was written meanwhile, the session continues from this
state: the cost does not grow with the session's past. The ledger compares the hash of the last entry (S-52).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from helmr.models import SessionStatus
from helmr_runtime.core.checkpoint import ENTRY_BYTES, saved_at
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import Loaded
from helmr_runtime.ports.ledger import restore

KEPT_BYTES_MAX = 8 * 1024 * 1024
"""Most bytes of all states, by the size of their entries as text; the oldest leaves first."""
STATE_BYTES = 8 * 1024
"""Bytes of a state besides its entries, so that a thousand small sessions are kept."""


@dataclass(frozen=True, slots=True)
class WarmState:
    """The state that an adoption left.

    Attributes:
        state: Not shared: the adoption is over, and the next one removes it from here.
        offsets: As in `FlushQueue.offsets`.
        unsaved_count: Entries behind the newest checkpoint.
    """

    state: SessionState
    offsets: dict[int, int]
    unsaved_count: int

    @property
    def known(self) -> tuple[int, bytes]:
        """Seq and hash of its last entry."""
        return self.state.seq, self.state.last_hash

    @property
    def size_bytes(self) -> int:
        """About its size as text."""
        state, run = self.state, self.state.run
        records = state.unconsumed_bytes + sum(one.size_bytes for one in state.taken.values())
        journal = run.journal if run is not None else []
        return STATE_BYTES + records + sum(ENTRY_BYTES + len(one.body_json) for one in journal)


class WarmCache:
    """The states of one host.

    Args:
        bytes_max: Most bytes of all states; 0 keeps none.
    """

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._by_session: OrderedDict[str, tuple[WarmState, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, kept: WarmState) -> None:
        """Keep a state that was just given up, unless the session is over and hardly ever asked for again."""
        self.take(kept.state.id)
        is_over = kept.state.status is not SessionStatus.OPEN and kept.state.active_run is None
        size_bytes = kept.size_bytes
        if is_over or size_bytes > self._bytes_max:
            return
        # There may be ten thousand of each; the ledger knows them, as for a loaded session.
        kept.state.operations.clear()
        kept.state.send_keys.clear()
        self._by_session[kept.state.id] = kept, size_bytes
        self._bytes += size_bytes
        while self._bytes > self._bytes_max:
            self.take(next(iter(self._by_session)))

    def take(self, session_id: str) -> WarmState | None:
        """Remove and return the session's state."""
        found = self._by_session.pop(session_id, None)
        if found is None:
            return None
        kept, size_bytes = found
        self._bytes -= size_bytes
        return kept


def begun(
    loaded: Loaded, session_id: str, kept: WarmState | None
) -> tuple[SessionState, int, dict[int, int]]:
    """Return the adoption's first state, the number of entries behind the newest checkpoint, and known offsets."""
    if kept is None:
        return restore(session_id, loaded), len(loaded.entries), {}
    if loaded.checkpoint_offset is not None and not kept.unsaved_count:
        saved_at(kept.state, loaded.checkpoint_offset)
    return kept.state, kept.unsaved_count, kept.offsets
