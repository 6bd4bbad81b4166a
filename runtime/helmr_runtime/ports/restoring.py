"""The state of a session that was loaded."""

from __future__ import annotations

from helmr_runtime.core import checkpoint as checkpoints
from helmr_runtime.core.state import SessionState
from helmr_runtime.ports import Loaded


def restore(session_id: str, loaded: Loaded) -> SessionState:
    """The state that was loaded: the checkpoint's, and the entries after it."""
    if loaded.checkpoint is not None:
        state = checkpoints.restore(
            session_id,
            loaded.checkpoint,
            loaded.referenced,
            loaded.pieces,
            offset=loaded.checkpoint_offset,
        )
    else:
        state = SessionState(session_id)
    for entry in loaded.entries:
        state.apply(entry)
    return state
