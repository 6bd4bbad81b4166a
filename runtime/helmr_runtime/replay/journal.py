"""A run's journal on the wire, and back: what a replay needs of a session, and no more.

Invariant: `make_replay_log` makes the same of `state_of(journal_of(state))` as of the state.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from helmr.errors import DataError
from helmr.models import JournalEntry, JournalRecord, RunJournal
from helmr_runtime.core.entries import RUNTIME, Entry, EntryKind
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import InputRecord, SessionState

Histories = Mapping[int, Sequence[Mapping[str, Any]]]
"""Op → the `input.accepted` bodies of each `history.read`."""

SECRET_KEYS = frozenset({"callback_hash", "public_token_hash", "secret_hash", "verify"})
"""Of the bodies of tokens; no replay reads them."""


def journal_of(
    state: SessionState, histories: Histories, keys: Mapping[str, bytes] | None = None
) -> RunJournal:
    """The journal of a state's newest run; `keys` of what its ops asked."""
    run = state.run
    if run is None:
        raise DataError(f"{state.id} has no run")
    return RunJournal(
        session_id=state.id,
        external_id=state.external_id,
        tags=list(state.tags),
        metadata=dict(state.metadata),
        run_id=run.id,
        task=run.task,
        status=run.status,
        attempt=run.attempt,
        payload=run.payload,
        created_at=run.created_at,
        entries=[_entry(entry) for entry in run.journal if entry.op is not None],
        records=[_record(record) for record in _named(state, run)],
        histories={op: [_accepted(body) for body in bodies] for op, bodies in histories.items()},
        asked_keys={tag: base64.b64encode(key).decode() for tag, key in (keys or {}).items()},
    )


def keys_of(journal: RunJournal) -> dict[str, bytes]:
    """The keys that came with it.

    Raises:
        DataError: One is none.
    """
    try:
        return {tag: base64.b64decode(key) for tag, key in journal.asked_keys.items()}
    except ValueError as error:
        raise DataError(f"{journal.run_id}: its journal's keys can't be read: {error}") from error


def state_of(journal: RunJournal) -> tuple[SessionState, Histories]:
    """A state whose newest run has that journal, and what its reads of histories gave."""
    state = SessionState(journal.session_id)
    state.task = journal.task
    state.external_id = journal.external_id
    state.tags = list(journal.tags)
    state.metadata = dict(journal.metadata)
    run = Run(
        id=journal.run_id,
        task=journal.task,
        payload=journal.payload,
        created_seq=0,
        created_at=journal.created_at,
        attempt=journal.attempt,
        status=journal.status,
    )
    for one in journal.entries:
        run.add(_restored(journal, one))
    state.run = run
    for record in journal.records:
        state.taken[record.stream, record.seq] = InputRecord(
            id=record.id,
            stream=record.stream,
            seq=record.seq,
            data=record.data,
            correlation_id=record.correlation_id,
            size_bytes=0,
            entry_seq=0,
            feed_offset=None,
        )
    histories = {
        op: [
            {
                "record_id": record.id,
                "stream": record.stream,
                "stream_seq": record.seq,
                "data": record.data,
                "correlation_id": record.correlation_id,
            }
            for record in records
        ]
        for op, records in journal.histories.items()
    }
    return state, histories


def _entry(entry: Entry) -> JournalEntry:
    assert entry.op is not None
    return JournalEntry(
        seq=entry.seq,
        recorded_at=entry.recorded_at,
        kind=entry.kind.value,
        op=entry.op,
        body={key: value for key, value in entry.body.items() if key not in SECRET_KEYS},
    )


def _restored(journal: RunJournal, one: JournalEntry) -> Entry:
    try:
        kind = EntryKind(one.kind)
    except ValueError as error:
        raise DataError(
            f"{journal.run_id}: entry {one.seq} is a {one.kind}, which this release does not know",
            hint="Check with the release that the runtime has.",
        ) from error
    return Entry(
        session_id=journal.session_id,
        seq=one.seq,
        recorded_at=one.recorded_at,
        kind=kind,
        run_id=journal.run_id,
        op=one.op,
        principal=RUNTIME,
        body=one.body,
        body_json="",
        hash=b"",
    )


def _named(state: SessionState, run: Run) -> Iterable[InputRecord]:
    """The records that outcomes in the journal name, each once."""
    named: dict[tuple[str, int], None] = {}
    for entry in run.journal:
        body = entry.body
        if entry.kind is EntryKind.WAIT_FULFILLED and "record_seq" in body:
            named[body["stream"], body["record_seq"]] = None
        elif entry.kind is EntryKind.PEEK_READ:
            named |= {(body["stream"], seq): None for seq in body["record_seqs"]}
    return [state.record(stream, seq) for stream, seq in named]


def _record(record: InputRecord) -> JournalRecord:
    return JournalRecord(
        id=record.id,
        stream=record.stream,
        seq=record.seq,
        data=record.data,
        correlation_id=record.correlation_id,
    )


def _accepted(body: Mapping[str, Any]) -> JournalRecord:
    return JournalRecord(
        id=body["record_id"],
        stream=body["stream"],
        seq=body["stream_seq"],
        data=body["data"],
        correlation_id=body.get("correlation_id"),
    )
