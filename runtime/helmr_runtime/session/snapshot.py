"""Reads a session as a replay beside its run needs it (S-87, S-89): the state on disk, adopted by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import Loaded
from helmr_runtime.ports.restoring import restore


class Snapshots(Protocol):
    """What of a ledger is asked."""

    async def snapshot(self, session_id: str) -> Loaded:
        """A session as it is on disk now."""
        ...

    async def records(
        self, session_id: str, stream: str, through_seq: int
    ) -> Sequence[Mapping[str, Any]]:
        """The `input.accepted` bodies of a stream up to a stream seq."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session's state, its own copy. `histories`: op → what each `history.read` of the journal gave."""

    loaded: Loaded
    state: SessionState
    histories: Mapping[int, Sequence[Mapping[str, Any]]]


async def read_snapshot(ledger: Snapshots, session_id: str) -> Snapshot:
    """The session as it is on disk now.

    Raises:
        SessionNotFound: There is none.
    """
    loaded = await ledger.snapshot(session_id)
    state = restore(session_id, loaded)
    histories: dict[int, Sequence[Mapping[str, Any]]] = {}
    for entry in state.run.journal if state.run is not None else ():
        if entry.kind is EntryKind.HISTORY_READ and entry.op is not None:
            stream, through_seq = entry.body["stream"], entry.body["through_seq"]
            histories[entry.op] = await ledger.records(session_id, stream, through_seq)
    return Snapshot(loaded, state, histories)
