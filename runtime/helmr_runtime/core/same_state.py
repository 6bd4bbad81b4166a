"""Whether a checkpoint says what the entries say: two states compared, whatever way each was made (S-53, S-67)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from helmr_runtime.core.run import Run
from helmr_runtime.core.state import InputRecord, SessionState


def difference(folded: SessionState, restored: SessionState) -> str | None:
    """The name of the first thing that the two states disagree about; None if deciding and replaying can't tell them.

    Where something is stored is no part of what it says: feed offsets, pieces and the spelling of a body's text are
    left out, and so are the receipts that only a live session remembers, and what checkpoints of release 0.1.0 did
    not say.

    Args:
        folded: From entries alone.
        restored: From a checkpoint.
    """
    unsaid = _unsaid(restored)
    said, kept = _picture(folded, unsaid), _picture(restored, unsaid)
    return next((name for name, value in said.items() if kept[name] != value), None)


def _unsaid(restored: SessionState) -> frozenset[str]:
    """The fields that came after release 0.1.0 and have no value in what was restored."""
    records = [*restored.taken.values(), *(r for rs in restored.unconsumed.values() for r in rs)]
    unsaid = {
        "closed_by": restored.closed_by is None,
        "created_at": restored.run is not None and restored.run.created_at is None,
        "mode": any(record.mode is None for record in records),
    }
    return frozenset(name for name, is_unsaid in unsaid.items() if is_unsaid)


def _picture(state: SessionState, unsaid: frozenset[str]) -> Mapping[str, Any]:
    picture: dict[str, Any] = {
        "seq": state.seq,
        "hash": state.last_hash,
        "time": state.last_at,
        "task": state.task,
        "external id": state.external_id,
        "tags": state.tags,
        "metadata": state.metadata,
        "status": (state.status, state.input_ended),
        "closing run": None if "closed_by" in unsaid else state.closed_by,
        "count of runs": state.runs_count,
        "stream seqs": (state.input_seqs, state.output_seqs),
        "public tokens": state.public_tokens,
        "unconsumed records": [
            _record(record, unsaid)
            for stream in sorted(state.unconsumed)
            for record in state.unconsumed[stream]
        ],
        "taken records": {key: _record(record, unsaid) for key, record in state.taken.items()},
    }
    return picture | {"run": None if state.run is None else _run(state.run, unsaid)}


_STORED = frozenset({"feed_offset"})
_RECORD = tuple(f.name for f in fields(InputRecord) if f.name not in _STORED)
_RUN = tuple(f.name for f in fields(Run) if f.init and f.name not in ("pieces", "journal"))


def _record(record: InputRecord, unsaid: frozenset[str]) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _RECORD if name not in unsaid)


def _run(run: Run, unsaid: frozenset[str]) -> tuple[Any, ...]:
    journal = [(e.seq, e.recorded_at, e.kind, e.op, e.principal, e.body) for e in run.journal]
    return (*(getattr(run, name) for name in _RUN if name not in unsaid), journal)
