"""A session's state as the JSON text of one checkpoint row, and back.

Written when a session parks. Large entries stand in it as feed offsets (`{"ref": offset}`); the top-level list
`refs` names them all, so that the ledger can bring them without reading further into the text.

A run that parks often would write its whole journal each time. So a journal over `PIECE_BYTES_MIN` is written once:
later checkpoints name the earlier one (`pieces`) and hold what came since. After `PIECES_MAX` of them the next
checkpoint holds everything again.

```
{v: 2, seq, hash, at, refs: [offset…], pieces: [[offset, seq, first, count, last_seq]…], session: {…},
 run: {…, journal: [entry|{ref}…]} | null, unconsumed: [record|{ref, …}…], taken: [record|{ref, …}…]}
```

Invariant: `restore(save(state), referenced)` decides and replays as `state` does (S-53).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from helmr.errors import DataError
from helmr.models import RunStatus, SessionStatus
from helmr.old_names import body_of_today, state_of_today
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import (
    Entry,
    EntryKind,
    Principal,
    body_text,
    from_iso,
    iso,
    principal_text,
)
from helmr_runtime.core.escalation import Escalation
from helmr_runtime.core.run import HeldAnswer, Piece, Run, Wait
from helmr_runtime.core.state import InputRecord, SessionState

VERSION = 2
VERSIONS_READ = (1, 2)
"""Version 1 knew no pieces."""
INLINE_BYTES_MAX = 4096
"""Larger entries are kept by reference: a checkpoint stays small enough to write at every park."""

PIECE_BYTES_MIN = 256 * 1024
"""A journal of which a checkpoint holds more is not written again."""
PIECES_MAX = 16
ENTRY_BYTES = 160
"""What an entry takes beside its body."""


def save(state: SessionState, offsets: Mapping[int, int]) -> str:
    """The checkpoint text of a state whose entries are all stored.

    Args:
        state: The state to save.
        offsets: Seq → feed offset of entries stored since the state was loaded; those loaded know theirs.
    """
    refs = _Refs(offsets)
    pieces = _pieces(state)
    run = state.run
    stored = pieces[-1].count if pieces else 0
    journal = [_entry_text(one, refs) for one in run.journal[stored:]] if run is not None else []
    content = {
        "v": VERSION,
        "seq": state.seq,
        "hash": state.last_hash.hex(),
        "at": iso(state.last_at) if state.last_at is not None else None,
        "session": {
            "task": state.task,
            "external_id": state.external_id,
            "tags": state.tags,
            "metadata": state.metadata,
            "status": state.status.value,
            "input_ended": state.input_ended,
            "closed_by": state.closed_by,
            "runs_count": state.runs_count,
            "input_seqs": state.input_seqs,
            "output_seqs": state.output_seqs,
            "public_tokens": state.public_tokens,
        },
        "unconsumed": [
            _save_record(record, refs)
            for stream in sorted(state.unconsumed)
            for record in state.unconsumed[stream]
        ],
        "taken": [_save_record(record, refs) for record in state.taken.values()],
        "pieces": [[p.offset, p.seq, p.first, p.count, p.last_seq] for p in pieces],
    }
    content["refs"] = sorted(refs.named)
    content["run"] = _save_run(run) if run is not None else None
    text = jsontext.encode(content, depth_max=None)
    if not journal:
        return text
    # The run is the last of the content, and the journal the run's last: its entries have their text already.
    assert text.endswith(_END)
    return "".join((text[: -len(_END)], ",".join(journal), _END))


_END = "]}}"


def refs(text: str) -> list[int]:
    """The feed offsets of the entries that `restore` needs beside the text, but for those that its pieces need."""
    return list(jsontext.decode(text)["refs"])


def pieces(text: str) -> list[int]:
    """The feed offsets of the earlier checkpoints that `restore` needs beside the text."""
    return [piece.offset for piece in _read_pieces(jsontext.decode(text))]


def is_whole(text: str) -> bool:
    """`restore` needs nothing beside the text."""
    parts = jsontext.decode(text)
    return not parts["refs"] and not _read_pieces(parts)


def restore(
    session_id: str,
    text: str,
    referenced: Mapping[int, Entry],
    earlier: Mapping[int, str] | None = None,
    *,
    offset: int | None = None,
) -> SessionState:
    """The state that `save` wrote.

    Args:
        session_id: Whose.
        text: The checkpoint.
        referenced: The entries that it and its pieces name, by feed offset.
        earlier: The checkpoints that it names, by feed offset.
        offset: Its own feed offset, so that later checkpoints can name it.

    Raises:
        DataError: Another version, or something that it names is missing.
    """
    content = _content(session_id, text)
    state = SessionState(session_id)
    state.seq = content["seq"]
    state.last_hash = bytes.fromhex(content["hash"])
    state.last_at = from_iso(content["at"]) if content["at"] is not None else None
    session = content["session"]
    state.task = session["task"]
    state.external_id = session["external_id"]
    state.tags = session["tags"]
    state.metadata = session["metadata"]
    state.status = SessionStatus(session["status"])
    state.input_ended = session["input_ended"]
    state.closed_by = session.get("closed_by")
    state.runs_count = session["runs_count"]
    state.input_seqs = session["input_seqs"]
    state.output_seqs = session["output_seqs"]
    state.public_tokens = session["public_tokens"]
    if content["run"] is not None:
        pieces = _read_pieces(content)
        journal = [
            entry
            for piece in pieces
            for entry in _piece_journal(
                session_id, content["run"]["id"], piece, earlier or {}, referenced
            )
        ]
        state.run = _restore_run(session_id, content["run"], journal, referenced)
        _set_pieces(state.run, pieces, state.seq, offset)
    for item in content["unconsumed"]:
        record = _restore_record(session_id, item, referenced)
        state.unconsumed.setdefault(record.stream, []).append(record)
        state.unconsumed_count += 1
        state.unconsumed_bytes += record.size_bytes
    for item in content["taken"]:
        record = _restore_record(session_id, item, referenced)
        state.taken[record.stream, record.seq] = record
    return state


def saved_at(state: SessionState, offset: int) -> None:
    """The state was saved as the checkpoint at that feed offset, and goes on as if it were restored of it."""
    if state.run is not None:
        _set_pieces(state.run, _pieces(state), state.seq, offset)


def _set_pieces(run: Run, pieces: Sequence[Piece], seq: int, offset: int | None) -> None:
    """Where the run's journal is stored: in the earlier pieces that the checkpoint at that offset names, and in it."""
    run.pieces = tuple(pieces)
    first = pieces[-1].count if pieces else 0
    if offset is not None and _bytes(run.journal[first:]) > PIECE_BYTES_MIN:
        run.pieces += (Piece(offset, seq, first, len(run.journal), run.journal[-1].seq),)


def _content(session_id: str, text: str) -> dict[str, Any]:
    content: dict[str, Any] = jsontext.decode(text)
    if content["v"] not in VERSIONS_READ:
        raise DataError(
            f"{session_id}: checkpoint has version {content['v']}, this runtime reads {VERSION}"
        )
    return content


def _bytes(entries: Sequence[Entry]) -> int:
    """About what these entries take in a checkpoint."""
    return sum(min(len(entry.body_json), INLINE_BYTES_MAX) + ENTRY_BYTES for entry in entries)


def _pieces(state: SessionState) -> list[Piece]:
    """The run's pieces that still hold the journal's beginning and need not be merged.

    A retry may have set entries aside. Seqs rise, so a part with the same count and the same last seq is the same.
    A checkpoint at the same seq takes the place of the earlier one and can't name it.
    """
    if state.run is None or len(state.run.pieces) >= PIECES_MAX:
        return []
    journal = state.run.journal
    kept: list[Piece] = []
    for piece in state.run.pieces:
        is_same = len(journal) >= piece.count and journal[piece.count - 1].seq == piece.last_seq
        if not is_same or piece.seq == state.seq:
            break
        kept.append(piece)
    return kept


def _read_pieces(content: Mapping[str, Any]) -> list[Piece]:
    return [Piece(*numbers) for numbers in content.get("pieces", ())]


def _piece_journal(
    session_id: str,
    run_id: str,
    piece: Piece,
    earlier: Mapping[int, str],
    referenced: Mapping[int, Entry],
) -> list[Entry]:
    """The part of the journal that an earlier checkpoint holds itself."""
    text = earlier.get(piece.offset)
    if text is None:
        raise DataError(
            f"{session_id}: the checkpoint refers to the one at {piece.offset}, which is not there"
        )
    run = _content(session_id, text)["run"]
    saved = run["journal"] if run is not None else []
    if len(saved) != piece.count - piece.first or run["id"] != run_id:
        raise DataError(
            f"{session_id}: the checkpoint at {piece.offset} holds another part of the journal"
        )
    return [_restore_entry(session_id, run_id, one, referenced) for one in saved]


class _Refs:
    """Which entries a checkpoint names by feed offset instead of holding them."""

    def __init__(self, offsets: Mapping[int, int]) -> None:
        self._offsets = offsets
        self.named: set[int] = set()

    def offset(self, seq: int, known: int | None, size_bytes: int) -> int | None:
        """The feed offset to name the entry by, None if it is small or its offset is unknown."""
        found = known if known is not None else self._offsets.get(seq)
        if found is None or size_bytes <= INLINE_BYTES_MAX:
            return None
        self.named.add(found)
        return found


def _save_run(run: Run) -> dict[str, Any]:
    """All but the journal's entries."""
    return {
        "id": run.id,
        "task": run.task,
        "payload": run.payload,
        "created_seq": run.created_seq,
        "created_at": iso(run.created_at) if run.created_at is not None else None,
        "draws_from": run.draws_from,
        "attempt": run.attempt,
        "first_attempt": run.first_attempt,
        "status": run.status.value,
        "is_started": run.is_started,
        "retry_at": iso(run.retry_at) if run.retry_at is not None else None,
        "wait": _save_wait(run.wait) if run.wait is not None else None,
        "open_steps": sorted(run.open_steps),
        "op_max": run.op_max,
        "crashes": run.crashes,
        "is_cautious": run.is_cautious,
        "closed_waits": [[*key, *value] for key, value in run.closed_waits.items()],
        "failed_op": run.failed_op,
        "held": [one.to_json() for one in run.held],
        "keys": [[op, *value] for op, value in run.keys.items()],
        "journal": [],
    }


def _restore_run(
    session_id: str,
    saved: dict[str, Any],
    journal: list[Entry],
    referenced: Mapping[int, Entry],
) -> Run:
    saved = state_of_today(saved)
    wait = state_of_today(saved["wait"]) if saved["wait"] is not None else None
    run = Run(
        id=saved["id"],
        task=saved["task"],
        payload=saved["payload"],
        created_seq=saved["created_seq"],
        created_at=from_iso(saved["created_at"]) if saved.get("created_at") else None,
        draws_from=saved.get("draws_from"),
        first_attempt=saved.get("first_attempt", 1),
        attempt=saved["attempt"],
        status=RunStatus(saved["status"]),
        is_started=saved["is_started"],
        retry_at=from_iso(saved["retry_at"]) if saved["retry_at"] is not None else None,
        wait=_restore_wait(wait) if wait is not None else None,
        open_steps=set(saved["open_steps"]),
        op_max=saved["op_max"],
        crashes=saved["crashes"],
        is_cautious=saved["is_cautious"],
        closed_waits={(s, c): (seq, late) for s, c, seq, late in saved["closed_waits"]},
        failed_op=saved["failed_op"],
        held=[HeldAnswer(**one) for one in saved.get("held", ())],
        keys={op: (rewinds, name) for op, rewinds, name in saved.get("keys", ())},
        journal=[
            *journal,
            *(_restore_entry(session_id, saved["id"], e, referenced) for e in saved["journal"]),
        ],
    )
    run.index()
    if wait is not None and wait.get("escalation") is not None:
        _escalate(run, wait["escalation"])
    return run


def _save_wait(wait: Wait) -> dict[str, Any]:
    return {
        "id": wait.id,
        "run_id": wait.run_id,
        "op": wait.op,
        "kind": wait.kind,
        "stream": wait.stream,
        "correlation_id": wait.correlation_id,
        "token_id": wait.token_id,
        "deadline_at": iso(wait.deadline_at) if wait.deadline_at is not None else None,
        "is_backoff": wait.is_backoff,
        "has_schema": wait.has_schema,
        "session_ids": list(wait.session_ids),
        "assignee": wait.assignee,
        "escalation": _save_escalation(wait.escalation) if wait.escalation is not None else None,
    }


def _save_escalation(escalation: Escalation) -> dict[str, Any]:
    """How far it was run; its escalation steps stand in the journal."""
    at = escalation.assigned_at
    return {"fired": list(escalation.fired), "assigned_at": iso(at) if at is not None else None}


def _restore_wait(saved: dict[str, Any]) -> Wait:
    deadline = saved["deadline_at"]
    return Wait(
        **{
            **saved,
            "deadline_at": from_iso(deadline) if deadline is not None else None,
            "session_ids": tuple(saved.get("session_ids", ())),
            "escalation": None,
        }
    )


def _escalate(run: Run, saved: Mapping[str, Any]) -> None:
    """Give the pending wait its escalation, run as far as it was."""
    wait, at = run.wait, saved["assigned_at"]
    escalation = Escalation.of(run.opening_of(wait)) if wait is not None else None
    if wait is not None and escalation is not None:
        assigned_at = from_iso(at) if at is not None else None
        wait.escalation = replace(escalation, fired=tuple(saved["fired"]), assigned_at=assigned_at)


def _entry_text(entry: Entry, refs: _Refs) -> str:
    offset = refs.offset(entry.seq, entry.feed_offset, len(entry.body_json))
    if offset is not None:
        return f'{{"ref":{offset}}}'
    op = entry.op if entry.op is not None else "null"
    return (
        f'{{"seq":{entry.seq},"at":"{iso(entry.recorded_at)}","kind":"{entry.kind.value}","op":{op},'
        f'"principal":{principal_text(entry.principal)},"body":{entry.clear_json}}}'
    )


def _restore_entry(
    session_id: str, run_id: str, saved: dict[str, Any], referenced: Mapping[int, Entry]
) -> Entry:
    if "ref" in saved:
        return _referenced(session_id, saved["ref"], referenced)
    return Entry(
        session_id=session_id,
        seq=saved["seq"],
        recorded_at=from_iso(saved["at"]),
        kind=EntryKind(saved["kind"]),
        run_id=run_id,
        op=saved["op"],
        principal=Principal.from_json(saved["principal"]),
        body=body_of_today(saved["kind"], saved["body"]),
        body_json=body_text(saved["body"]),
        hash=b"",
    )


def _save_record(record: InputRecord, refs: _Refs) -> dict[str, Any]:
    offset = refs.offset(record.entry_seq, record.feed_offset, record.size_bytes)
    saved: dict[str, Any] = {
        "id": record.id,
        "stream": record.stream,
        "seq": record.seq,
        "correlation_id": record.correlation_id,
        "size_bytes": record.size_bytes,
        "entry_seq": record.entry_seq,
        "feed_offset": offset,
        "has_started_run": record.has_started_run,
        "mode": record.mode,
    }
    if offset is None:
        saved["data"] = record.data
    return saved


def _restore_record(
    session_id: str, saved: dict[str, Any], referenced: Mapping[int, Entry]
) -> InputRecord:
    if "data" not in saved:
        saved["data"] = _referenced(session_id, saved["feed_offset"], referenced).body["data"]
    return InputRecord(**saved)


def _referenced(session_id: str, offset: int, referenced: Mapping[int, Entry]) -> Entry:
    found = referenced.get(offset)
    if found is None:
        raise DataError(
            f"{session_id}: the checkpoint refers to entry {offset}, which is not there"
        )
    return found
