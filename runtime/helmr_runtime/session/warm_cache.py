"""States of the sessions that a host gave up last.

A session that is adopted again by the host that gave it up, with nothing written to it meanwhile, goes on from the
state that is here: what that costs does not grow with what the session has done before. The hash of its last entry
says that it is the same (S-52), and the ledger compares it.
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
"""Of all states here, by what their entries take as text; the one that was given up first leaves first."""
STATE_BYTES = 8 * 1024
"""What a state takes beside its entries: of small sessions a thousand are kept."""


@dataclass(frozen=True, slots=True)
class WarmState:
    """What an adoption has left.

    Attributes:
        state: No one else has it: the adoption is over, and the next takes it away from here.
        offsets: As `FlushQueue.offsets`.
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
        """About what it takes, as text."""
        state, run = self.state, self.state.run
        records = state.unconsumed_bytes + sum(one.size_bytes for one in state.taken.values())
        journal = run.journal if run is not None else []
        return STATE_BYTES + records + sum(ENTRY_BYTES + len(one.body_json) for one in journal)


class WarmCache:
    """Of one host.

    Args:
        bytes_max: What all of them may take; 0 keeps none.
    """

    def __init__(self, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._by_session: OrderedDict[str, tuple[WarmState, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, kept: WarmState) -> None:
        """Keep what was just given up, unless it is over: it is hardly ever asked for again."""
        self.take(kept.state.id)
        is_over = kept.state.status is not SessionStatus.OPEN and kept.state.active_run is None
        size_bytes = kept.size_bytes
        if is_over or size_bytes > self._bytes_max:
            return
        # Ten thousand of each may be there; the ledger knows them, as of a session that was loaded.
        kept.state.operations.clear()
        kept.state.send_keys.clear()
        self._by_session[kept.state.id] = kept, size_bytes
        self._bytes += size_bytes
        while self._bytes > self._bytes_max:
            self.take(next(iter(self._by_session)))

    def take(self, session_id: str) -> WarmState | None:
        """The session's state, which is here no more."""
        found = self._by_session.pop(session_id, None)
        if found is None:
            return None
        kept, size_bytes = found
        self._bytes -= size_bytes
        return kept


def begun(
    loaded: Loaded, session_id: str, kept: WarmState | None
) -> tuple[SessionState, int, dict[int, int]]:
    """The state that the adoption begins from; entries that the newest checkpoint does not cover; known offsets."""
    if kept is None:
        return restore(session_id, loaded), len(loaded.entries), {}
    if loaded.checkpoint_offset is not None and not kept.unsaved_count:
        saved_at(kept.state, loaded.checkpoint_offset)
    return kept.state, kept.unsaved_count, kept.offsets
