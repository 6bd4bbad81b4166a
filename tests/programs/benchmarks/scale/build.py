"""Ledgers with very many sessions, written by the code that writes them for a runtime.

A few sessions are run for real and their transcripts taken as patterns. Each session of the large ledger is one of
these again under ids of its own: started, adopted, stamped, checkpointed and committed through the ledger and the
session's own entry writer, many at once, so that a group commit takes a full batch. Only the running of the task's code
is left out.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from helmr.wire import ids
from helmr_runtime.clock import SystemClock
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Draft, EntryKind, Principal, iso, task_principal
from helmr_runtime.core.run import step_key
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ports import Committed, Flush, StartSession
from helmr_runtime.ports.ledger import restore
from helmr_runtime.process.spec import LEDGER_NAME
from helmr_runtime.security.keys import ensure_key_ring
from helmr_runtime.session.committer import EntryWriter

STARTER = Principal("api_key", name="local")
AT_ONCE = 500
"""Sessions that are written side by side: about as many as one transaction takes."""

RING = "master-keys.json"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One session that was run: what it was started with, and its entries behind those of the start."""

    task: str
    payload: Any
    lines: Sequence[Draft]

    @classmethod
    def of(cls, transcript: Sequence[Mapping[str, Any]]) -> Pattern:
        """From a whole transcript, as the HTTP API gives it."""
        created, run = transcript[:2]
        assert (created["kind"], run["kind"]) == ("session.created", "run.created")
        lines = [
            Draft(
                EntryKind(line["kind"]),
                line["body"],
                run_id=line["run_id"],
                op=line["op"],
                principal=Principal.from_json(line["principal"]),
            )
            for line in transcript[2:]
        ]
        return cls(created["body"]["task"], run["body"]["payload"], lines)

    @property
    def entries(self) -> int:
        """How many entries a session of it has."""
        return 2 + len(self.lines)

    @property
    def is_parked(self) -> bool:
        """It waits, and nobody holds it."""
        return bool(self.lines) and self.lines[-1].kind is EntryKind.WAIT_OPENED

    def drafts(self, session_id: str, run_id: str, deadline_at: datetime) -> list[Draft]:
        """The entries behind the start, for another session: with ids of its own, and its deadline."""
        task = task_principal(run_id)
        return [
            Draft(
                line.kind,
                _body(line, session_id, run_id, deadline_at),
                run_id=run_id if line.run_id is not None else None,
                op=line.op,
                principal=task if line.principal.type == task.type else line.principal,
            )
            for line in self.lines
        ]


def _body(line: Draft, session_id: str, run_id: str, deadline_at: datetime) -> Mapping[str, Any]:
    match line.kind:
        case EntryKind.STEP_STARTED:
            assert line.op is not None
            return {**line.body, "step_key": step_key(session_id, run_id, line.op)}
        case EntryKind.WAIT_OPENED:
            return {
                **line.body,
                "wait_id": ids.new_id(ids.WAIT),
                "deadline_at": iso(deadline_at),
            }
        case _:
            return line.body


Deadline = Callable[[int], datetime]
"""When the wait of the session of that number is due."""


def in_days(days: float) -> Deadline:
    """Deadlines a minute apart, so many days from now."""
    first_at = datetime.now(UTC) + timedelta(days=days)
    return lambda number: first_at + timedelta(minutes=number % 10_000)


@dataclass(frozen=True, slots=True)
class Built:
    """What a data directory was made to hold.

    Attributes:
        disk_bytes_each: What the file grew by for each parked session; None if none were added.
        entries_per_s: How fast they were committed.
    """

    sessions: int
    entries: int
    disk_bytes_each: float | None
    entries_per_s: float


async def grow(
    data_dir: Path, parked: Pattern, over: Pattern, *, sessions: int, entries: int
) -> Built:
    """Have so many parked sessions in a ledger of so many entries, half of the others before them, half behind.

    What is there already is kept: only what is missing is added.
    """
    began_s = time.perf_counter()
    ledger = await open_at(data_dir)
    before = ledger.index.head_offset
    missing = max(0, sessions - ledger.index.counts()["parked"])
    others = max(0, entries - before - missing * parked.entries) // over.entries
    await add(ledger, over, others // 2)
    await ledger.close()
    empty = file_bytes(data_dir)

    ledger = await open_at(data_dir)
    await add(ledger, parked, missing)
    await ledger.close()
    full = file_bytes(data_dir)

    ledger = await open_at(data_dir)
    await add(ledger, over, others - others // 2)
    found = ledger.index.head_offset, ledger.index.counts()["parked"]
    await ledger.close()
    return Built(
        sessions=found[1],
        entries=found[0],
        disk_bytes_each=(full - empty) / missing if missing else None,
        entries_per_s=(found[0] - before) / (time.perf_counter() - began_s),
    )


def file_bytes(data_dir: Path) -> int:
    """What a closed ledger takes on disk."""
    return sum(file.stat().st_size for file in data_dir.glob(f"{LEDGER_NAME}*"))


async def open_at(data_dir: Path) -> DuckLedger:
    """The ledger of a data directory that no runtime uses, as a runtime opens it."""
    clock = SystemClock()
    path = data_dir / RING
    ring = await asyncio.to_thread(ensure_key_ring, path, os.environ, now=clock.now())
    return await open_ledger(data_dir / LEDGER_NAME, clock=clock, ring=ring)


async def add(
    ledger: DuckLedger, pattern: Pattern, count: int, deadline: Deadline | None = None
) -> None:
    """Write so many sessions of the pattern."""
    deadline = deadline or in_days(30)
    numbers = iter(range(count))

    async def writer() -> None:
        for number in numbers:
            await _one(ledger, pattern, deadline(number))

    await asyncio.gather(*(writer() for _ in range(AT_ONCE)))


async def _one(ledger: DuckLedger, pattern: Pattern, deadline_at: datetime) -> None:
    session_id, run_id = ids.new_id(ids.SESSION), ids.new_id(ids.RUN)
    start = StartSession(
        session_id=session_id,
        run_id=run_id,
        task=pattern.task,
        payload=pattern.payload,
        external_id=None,
        tags=("scale",),
        metadata={},
        idempotency_key=None,
        principal=STARTER,
        operation=None,
        request_hash=jsontext.same_data_hash([pattern.task, pattern.payload]),
    )
    await ledger.start(start)
    loaded = await ledger.load(session_id, "builder")
    state, writer = restore(session_id, loaded), EntryWriter(loaded)
    first_seq, previous = state.seq + 1, state.last_hash
    drafts = pattern.drafts(session_id, run_id, deadline_at)
    entries = writer.entries(state, drafts, datetime.now(UTC))
    checkpoint = None
    if pattern.is_parked:
        for entry in entries:
            state.apply(entry)
        checkpoint = writer.checkpoint(state, {})
    reply = await ledger.commit(
        Flush(
            session_id=session_id,
            epoch=loaded.epoch,
            first_seq=first_seq,
            previous_hash=previous,
            entries=tuple(entries),
            checkpoint=checkpoint,
            release=True,
        )
    )
    assert isinstance(reply, Committed), reply
