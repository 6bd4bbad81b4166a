"""What a session actor would send, made by hand: stamped flushes with real hashes and seqs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from helmr.wire import ids
from helmr_runtime.clock import Clock
from helmr_runtime.core import jsontext
from helmr_runtime.core.checkpoint import VERSION
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.core.decide.inputs import key_hash
from helmr_runtime.core.entries import GENESIS, Draft, Entry, EntryKind, Principal, iso, stamp
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.database import Settings
from helmr_runtime.ports import CommitReply, Committed, Flush, Loaded, Started, StartSession

ALICE = Principal("api_key", id="key_alice", name="alice")
SMALL = Settings(memory_limit="256MB", threads=1)
START_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def start_of(
    *,
    task: str = "review",
    payload: Any = None,
    external_id: str | None = None,
    idempotency_key: str | None = None,
    operation: OperationKey | None = None,
    tags: tuple[str, ...] = (),
) -> StartSession:
    """A start with fresh ids."""
    return StartSession(
        session_id=ids.new_id(ids.SESSION),
        run_id=ids.new_id(ids.RUN),
        task=task,
        payload=payload,
        external_id=external_id,
        tags=tags,
        metadata={},
        idempotency_key=idempotency_key,
        principal=ALICE,
        operation=operation,
        request_hash=jsontext.same_data_hash([task, payload]),
    )


class Writes(Protocol):
    """The part of a ledger that a hand needs."""

    async def load(self, session_id: str, holder: str) -> Loaded: ...

    async def commit(self, flush: Flush) -> CommitReply: ...

    async def start(self, start: StartSession) -> Started: ...


@dataclass
class Hand:
    """Writes one session as its actor would: knows seq, hash and epoch, stamps drafts."""

    ledger: Writes
    clock: Clock
    session_id: str
    run_id: str
    epoch: int = 0
    seq: int = 0
    last_hash: bytes = GENESIS
    op: int = 0
    entries: list[Entry] = field(default_factory=list)

    async def adopt(self, holder: str = "slot-1") -> Loaded:
        """Load the session and go on from what it says."""
        loaded = await self.ledger.load(self.session_id, holder)
        self.follow(loaded)
        return loaded

    def follow(self, loaded: Loaded) -> None:
        """Go on behind what was loaded. A checkpoint here is `[seq, hash]`-like JSON."""
        self.epoch = loaded.epoch
        if loaded.checkpoint is not None:
            saved = jsontext.decode(loaded.checkpoint)
            self.seq, self.last_hash = saved["seq"], bytes.fromhex(saved["hash"])
        if loaded.entries:
            self.seq, self.last_hash = loaded.entries[-1].seq, loaded.entries[-1].hash

    def flush(
        self, *drafts: Draft, checkpoint: bool = False, release: bool = False, **more: Any
    ) -> Flush:
        """The flush of these drafts; this hand goes on behind it."""
        first_seq, previous = self.seq + 1, self.last_hash
        stamped = []
        for draft in drafts:
            entry = stamp(
                draft,
                session_id=self.session_id,
                seq=self.seq + 1,
                recorded_at=self.clock.now(),
                previous=self.last_hash,
                key=None,
            )
            self.seq, self.last_hash = entry.seq, entry.hash
            stamped.append(entry)
        self.entries += stamped
        return Flush(
            session_id=self.session_id,
            epoch=self.epoch,
            first_seq=first_seq,
            previous_hash=previous,
            entries=tuple(stamped),
            checkpoint=self.checkpoint() if checkpoint else None,
            release=release,
            **more,
        )

    def checkpoint(self, refs: Iterable[int] = (), pieces: Iterable[list[int]] = ()) -> str:
        """A checkpoint text at the last entry; only the ledger's part of its shape is real."""
        return jsontext.encode(
            {
                "v": VERSION,
                "seq": self.seq,
                "hash": self.last_hash.hex(),
                "refs": list(refs),
                "pieces": list(pieces),
            }
        )

    async def commit(self, *drafts: Draft, **more: Any) -> CommitReply:
        """Commit a flush of these drafts."""
        return await self.ledger.commit(self.flush(*drafts, **more))

    async def stored(self, *drafts: Draft, **more: Any) -> Committed:
        """Commit a flush that must be accepted."""
        reply = await self.commit(*drafts, **more)
        assert isinstance(reply, Committed), reply
        return reply

    # --- drafts ---------------------------------------------------------------------------------

    def draft(self, kind: EntryKind, /, *, op: int | None = None, **body: Any) -> Draft:
        """An entry of the run."""
        return Draft(kind, body, run_id=self.run_id, op=op)

    def started(self) -> Draft:
        """A slot runs the attempt."""
        return self.draft(EntryKind.RUN_STARTED, attempt=1, code_hash="abc")

    def step(self, name: str = "post") -> Draft:
        """A step begins."""
        self.op += 1
        return self.draft(EntryKind.STEP_STARTED, op=self.op, name=name, step_key="k", attempt=1)

    def step_done(self, op: int | None = None) -> Draft:
        """A step's outcome."""
        return self.draft(EntryKind.STEP_SUCCEEDED, op=op or self.op, value=None)

    def wait(
        self,
        *,
        kind: str = "input",
        deadline_at: datetime | None = None,
        stream: str | None = "approval",
        **more: Any,
    ) -> Draft:
        """The run opens a wait."""
        self.op += 1
        body: dict[str, Any] = {"wait_id": ids.new_id(ids.WAIT), "kind": kind, **more}
        if kind == "input":
            body["stream"] = stream
        if deadline_at is not None:
            body["deadline_at"] = iso(deadline_at)
        return self.draft(EntryKind.WAIT_OPENED, op=self.op, **body)

    def fulfilled(self, wait: Draft, *, following: str = "running", **more: Any) -> Draft:
        """The wait's outcome."""
        body = {"wait_id": wait.body["wait_id"], "next": following, **more}
        return Draft(
            EntryKind.WAIT_FULFILLED, body, run_id=self.run_id, op=wait.op, principal=ALICE
        )

    def accepted(
        self,
        data: Any,
        *,
        stream: str = "approval",
        stream_seq: int = 1,
        key: str | None = None,
        operation: OperationKey | None = None,
        **more: Any,
    ) -> Draft:
        """A record is accepted."""
        body: dict[str, Any] = {
            "record_id": ids.new_id(ids.RECORD),
            "stream": stream,
            "stream_seq": stream_seq,
            "data": data,
            "outcome": "buffered",
            **more,
        }
        if key is not None:
            body |= {"key_hash": key_hash(key), "data_hash": jsontext.same_data_hash(data)}
        if operation is not None:
            body["operation"] = {"id": operation.id, "request_hash": operation.request_hash}
        return Draft(EntryKind.INPUT_ACCEPTED, body, principal=ALICE)

    def output(self, data: Any, stream_seq: int, stream: str = "progress") -> Draft:
        """A record goes out."""
        self.op += 1
        return self.draft(
            EntryKind.OUTPUT_APPENDED,
            op=self.op,
            record_id=ids.new_id(ids.RECORD),
            stream=stream,
            stream_seq=stream_seq,
            data=data,
        )

    def succeeded(self, result: Any = None) -> Draft:
        """The run ends."""
        return self.draft(EntryKind.RUN_SUCCEEDED, result=result)

    def attempt_failed(self, retry_at: datetime) -> Draft:
        """The attempt fails; the next comes at `retry_at`."""
        return self.draft(
            EntryKind.RUN_ATTEMPT_FAILED,
            error={"code": "task_failed", "type": "ValueError", "message": "no", "traceback": None},
            next_attempt=2,
            retry_at=iso(retry_at),
        )

    def closed(self) -> Draft:
        """The session ends."""
        return Draft(EntryKind.SESSION_CLOSED, {"end_input": False}, principal=ALICE)


async def begin(ledger: Writes, clock: Clock, **more: Any) -> Hand:
    """Start a session; nobody holds it yet."""
    start = start_of(**more)
    await ledger.start(start)
    return Hand(ledger, clock, start.session_id, start.run_id)


async def running(ledger: Writes, clock: Clock, **more: Any) -> Hand:
    """Start a session and adopt it."""
    hand = await begin(ledger, clock, **more)
    await hand.adopt()
    await hand.stored(hand.started())
    return hand


async def parked(
    ledger: Writes, clock: Clock, *, timeout_s: float | None = None, **more: Any
) -> tuple[Hand, Draft]:
    """A session that waits and that nobody holds, and its wait."""
    hand = await running(ledger, clock, **more)
    deadline_at = clock.now() + timedelta(seconds=timeout_s) if timeout_s is not None else None
    wait = hand.wait(deadline_at=deadline_at, subject="Publish?", body="**Really?**")
    await hand.stored(wait)
    await hand.stored(checkpoint=True, release=True)
    return hand, wait


def facts_of(value: Any) -> Mapping[str, Any]:
    """A slotted dataclass as a dict, to compare."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


async def check_nothing_is_read(ledger: DuckLedger) -> None:
    """No connection has a transaction open that a read has begun.

    While one has, the engine refuses a checkpoint of rows that were updated, and does none by itself: its log, and what
    it keeps in memory for it, would grow for as long as the ledger is open.
    """
    if ledger._is_closed or ledger.is_broken:
        return
    database = ledger._database

    def checkpoint() -> None:
        database.set_number("checked", 1)
        database.writer.execute("CHECKPOINT")

    await ledger._group.run_in_writer(checkpoint)
