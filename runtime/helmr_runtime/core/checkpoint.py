"""A session's state as the JSON text of one checkpoint row, and back; and two states compared.

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

`difference` says whether a checkpoint says what the entries say (S-67).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import Enum
from types import MappingProxyType, UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from helmr.errors import DataError, LedgerDamaged
from helmr.models import SessionStatus
from helmr.wire.old_names import body_of_today, state_of_today
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
from helmr_runtime.core.run import AnswerToKeep, Escalation, Piece, Run, Wait
from helmr_runtime.core.state import InputRecord, SessionState

T = TypeVar("T")

VERSION = 2
VERSIONS_READ = (1, 2)
"""Version 1 knew no pieces."""
INLINE_BYTES_MAX = 4096
"""Larger entries are kept by reference: a checkpoint stays small enough to write at every park."""

PIECE_BYTES_MIN = 256 * 1024
"""A checkpoint that holds more of a journal than this is named by later ones, which do not repeat it."""
PIECES_MAX = 16
ENTRY_BYTES = 160
"""Size of an entry without its body, in bytes."""


_SESSION = (
    *(
        "task",
        "external_id",
        "tags",
        "metadata",
        "starters",
        "input_ended",
        "closed_by",
        "runs_count",
    ),
    *("input_seqs", "output_seqs", "outputs_set_aside", "public_tokens", "attachments"),
)
"""Fields of the state that a checkpoint holds besides run, records and status."""
_UNSAID_IF_EMPTY = frozenset({"attachments"})
"""Earlier versions refuse a field that they do not know, so it is there only if it says something."""
_PARTS = frozenset(
    {"v", "seq", "hash", "at", "session", "unconsumed", "taken", "pieces", "refs", "run"}
)


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
            **{
                name: value
                for name in _SESSION
                if (value := getattr(state, name)) or name not in _UNSAID_IF_EMPTY
            },
            "status": state.status.value,
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
    """The feed offsets of the entries that `restore` needs beside the text, without those that its pieces need."""
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
        session_id: The session's id.
        referenced: The entries that it and its pieces name, by feed offset.
        earlier: The checkpoints that it names, by feed offset.
        offset: Its own feed offset, so that later checkpoints can name it.

    Raises:
        DataError: Another version, or something that it names is missing.
        LedgerDamaged: It is not what a Helmr wrote.
    """
    try:
        return _restored(session_id, text, referenced, earlier or {}, offset)
    except (LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise LedgerDamaged(
            f"{session_id}: the checkpoint can't be read: {reason}",
            session_id=session_id,
            table="checkpoints",
        ) from error


def _restored(
    session_id: str,
    text: str,
    referenced: Mapping[int, Entry],
    earlier: Mapping[int, str],
    offset: int | None,
) -> SessionState:
    content = _content(session_id, text)
    _require_known("checkpoint", content, _PARTS)
    state = SessionState(session_id)
    state.seq = content["seq"]
    state.last_hash = bytes.fromhex(content["hash"])
    state.last_at = from_iso(content["at"]) if content["at"] is not None else None
    session = content["session"]
    _require_known("session", session, {*_SESSION, "status"})
    for name in _SESSION:
        if name in session:
            setattr(state, name, session[name])
    state.status = SessionStatus(session["status"])
    if content["run"] is not None:
        pieces = _read_pieces(content)
        journal = [
            entry
            for piece in pieces
            for entry in _piece_journal(
                session_id, content["run"]["id"], piece, earlier, referenced
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
    """Note that the state was saved as the checkpoint at that feed offset, as if it had been restored from it."""
    if state.run is not None:
        _set_pieces(state.run, _pieces(state), state.seq, offset)


def _set_pieces(run: Run, pieces: Sequence[Piece], seq: int, offset: int | None) -> None:
    """Set the places of the run's journal: the earlier pieces that the checkpoint names, and the checkpoint itself."""
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


def _require_known(what: str, saved: Mapping[str, Any], known: Set[str]) -> None:
    """Raise ValueError for an unknown name: a field that is ignored would silently have its default."""
    if unknown := saved.keys() - known:
        raise ValueError(f"its {what} has '{min(unknown)}', which no {what} has")


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
    """Entries that a checkpoint names by feed offset instead of holding them."""

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


@dataclass(frozen=True, slots=True)
class StoredForm:
    """Functions that turn a value that is not JSON into its form in a checkpoint, and back."""

    save: Callable[[Any], Any]
    restore: Callable[[Any], Any]


class FieldCodec(Generic[T]):
    """A dataclass as a JSON object and back, by the types of its fields; a field that a text lacks has its default.

    Args:
        kind: The dataclass.
        leaves_out: Fields that are restored from something else.
        forms: Forms of fields whose type does not imply one.
    """

    def __init__(
        self,
        kind: type[T],
        *,
        leaves_out: Container[str] = (),
        forms: Mapping[str, StoredForm] = MappingProxyType({}),
    ) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        names = [one.name for one in fields(kind) if one.name not in leaves_out]  # type: ignore[arg-type] # a dataclass
        self._forms = {name: forms.get(name) or _form_of(hints[name]) for name in names}

    def save(self, value: T) -> dict[str, Any]:
        """The JSON object."""
        return {
            name: one if form is None or one is None else form.save(one)
            for name, form in self._forms.items()
            for one in (getattr(value, name),)
        }

    def restore(self, saved: Mapping[str, Any], **others: Any) -> T:
        """Return the dataclass of that object; `others` are the fields left out, even if the object has them.

        Raises:
            ValueError: The object has a name that is no field's.
        """
        _require_known(self._kind.__name__, saved, self._forms.keys() | others.keys())
        found = {
            name: saved[name] if form is None or saved[name] is None else form.restore(saved[name])
            for name, form in self._forms.items()
            if name in saved
        }
        return self._kind(**found, **others)


def _form_of(hint: Any) -> StoredForm | None:
    """The form of a field's type; None if it is JSON."""
    kinds = [one for one in get_args(hint) if one is not type(None)]
    if isinstance(hint, UnionType):
        return _form_of(kinds[0]) if len(kinds) == 1 else None
    match get_origin(hint) or hint:
        case kind if kind is datetime:
            return StoredForm(iso, from_iso)
        case kind if isinstance(kind, type) and issubclass(kind, Enum):
            return StoredForm(lambda one: one.value, kind)
        case kind if kind is set:
            return StoredForm(sorted, set)
        case kind if kind is tuple:
            return StoredForm(list, tuple)
        case kind if kind is dict and get_origin(kinds[1]) is tuple:
            return _rows_form(kinds[0])
        case _:
            return None


def _rows_form(key: Any) -> StoredForm:
    """A mapping to tuples as a list of rows, the key's parts in front."""
    width = len(get_args(key))
    if not width:
        return StoredForm(
            lambda found: [[one, *value] for one, value in found.items()],
            lambda rows: {row[0]: tuple(row[1:]) for row in rows},
        )
    return StoredForm(
        lambda found: [[*one, *value] for one, value in found.items()],
        lambda rows: {tuple(row[:width]): tuple(row[width:]) for row in rows},
    )


def _save_escalation(escalation: Escalation) -> dict[str, Any]:
    """Return the escalation's progress; its steps stand in the journal."""
    at = escalation.assigned_at
    return {"fired": list(escalation.fired), "assigned_at": iso(at) if at is not None else None}


WAIT_CODEC = FieldCodec(
    Wait, forms={"escalation": StoredForm(_save_escalation, lambda saved: None)}
)
"""The wait's form; `_escalate` restores its escalation once the journal is there."""

RUN_CODEC = FieldCodec(
    Run,
    leaves_out=("journal", "pieces", "tries", "given_up"),
    forms={
        "wait": StoredForm(
            WAIT_CODEC.save, lambda saved: WAIT_CODEC.restore(state_of_today(saved))
        ),
        "held": StoredForm(
            lambda held: [one.to_json() for one in held],
            lambda saved: [AnswerToKeep(**one) for one in saved],
        ),
    },
)
RECORD_CODEC = FieldCodec(InputRecord, leaves_out=("data", "feed_offset"))


def _save_run(run: Run) -> dict[str, Any]:
    """All but the journal's entries."""
    return {**RUN_CODEC.save(run), "journal": []}


def _restore_run(
    session_id: str,
    saved: dict[str, Any],
    journal: list[Entry],
    referenced: Mapping[int, Entry],
) -> Run:
    saved = state_of_today(saved)
    own = (_restore_entry(session_id, saved["id"], e, referenced) for e in saved["journal"])
    run = RUN_CODEC.restore(saved, journal=[*journal, *own])
    run.index()
    wait = state_of_today(saved["wait"]) if saved["wait"] is not None else {}
    if wait.get("escalation") is not None:
        _escalate(run, wait["escalation"])
    return run


def _escalate(run: Run, saved: Mapping[str, Any]) -> None:
    """Restore the pending wait's escalation with its progress."""
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
    saved = {**RECORD_CODEC.save(record), "feed_offset": offset}
    if not record.sent_by:
        del saved["sent_by"]
    return saved if offset is not None else {**saved, "data": record.data}


def _restore_record(
    session_id: str, saved: dict[str, Any], referenced: Mapping[int, Entry]
) -> InputRecord:
    offset = saved["feed_offset"]
    data = (
        saved["data"]
        if "data" in saved or offset is None
        else _referenced(session_id, offset, referenced).body["data"]
    )
    return RECORD_CODEC.restore(saved, data=data, feed_offset=offset)


def _referenced(session_id: str, offset: int, referenced: Mapping[int, Entry]) -> Entry:
    found = referenced.get(offset)
    if found is None:
        raise DataError(
            f"{session_id}: the checkpoint refers to entry {offset}, which is not there"
        )
    return found


def difference(folded: SessionState, restored: SessionState) -> str | None:
    """Return the name of the first thing that differs between the states; None if they decide and replay alike.

    Storage details do not count: feed offsets, pieces and the spelling of a body's text are left out. So are receipts
    that only a live session remembers, and fields that checkpoints of release 0.1.0 did not have.

    Args:
        folded: From entries alone.
        restored: From a checkpoint.
    """
    unsaid = _unsaid(folded, restored)
    said, kept = _picture(folded, unsaid), _picture(restored, unsaid)
    return next((name for name, value in said.items() if kept[name] != value), None)


def _unsaid(folded: SessionState, restored: SessionState) -> frozenset[str]:
    """The fields that came after release 0.1.0 and have no value in what was restored.

    Checkpoints after 0.1.0 also lack records set aside before checkpoints listed them.
    """
    set_aside = restored.outputs_set_aside.items()
    records = [*restored.taken.values(), *(r for rs in restored.unconsumed.values() for r in rs)]
    unsaid = {
        "closed_by": restored.closed_by is None,
        # Those of earlier releases say who started any of the session's runs, and nothing of its run.
        "starters": restored.run is not None and not restored.run.starters,
        "session_starters": set(folded.starters) <= set(restored.starters) or not restored.starters,
        "sent_by": not all(record.sent_by for record in records),
        "created_at": restored.run is not None and restored.run.created_at is None,
        "mode": any(record.mode is None for record in records),
        "set_aside": all(
            set(seqs) <= set(folded.outputs_set_aside.get(stream, ())) for stream, seqs in set_aside
        ),
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
        "starters": [] if "session_starters" in unsaid else state.starters,
        "status": (state.status, state.input_ended),
        "closing run": None if "closed_by" in unsaid else state.closed_by,
        "count of runs": state.runs_count,
        "stream seqs": (state.input_seqs, state.output_seqs),
        "outputs set aside": {} if "set_aside" in unsaid else state.outputs_set_aside,
        "public tokens": state.public_tokens,
        "attachments": state.attachments,
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
