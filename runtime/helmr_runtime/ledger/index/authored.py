"""Entries that the ledger writes itself: session starts, timeouts of unheld sessions, facts of the system stream.

Pure: each function takes the index and returns the entries an actor would have written (S-2, S-14). `Bodies` converts
bodies to their stored form, sealed or not, and back; threads may share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from helmr.errors import (
    Conflict,
    ExternalIdConflict,
    ForkRefused,
    IdempotencyConflict,
    MasterKeyMissing,
)
from helmr_runtime.core.commands import FirstReceipt, TokenEnded, receipt_of
from helmr_runtime.core.decide import DecisionContext, TaskPolicy
from helmr_runtime.core.decide.inputs import key_hash, passed
from helmr_runtime.core.drafts import done_drafts, due_draft, start_drafts, token_end_draft
from helmr_runtime.core.entries import (
    GENESIS,
    BodyCipher,
    Draft,
    Entry,
    EntryKind,
    Principal,
    stamp,
)
from helmr_runtime.core.fork import ForkSession, begin
from helmr_runtime.core.fork import fork as copied
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import LedgerIndex, digest
from helmr_runtime.ports import Started, StartSession
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.payloads import CHECKPOINT, PLAIN_PIECE, PayloadCipher, is_sealed

CIPHERS_CACHED = 4_096
"""Sessions whose keys are kept ready; deriving them again takes some ten microseconds."""


class Bodies:
    """Seals and opens with the keys of whatever session it is asked about.

    Args:
        ring: The master keys; without them bodies are plain and a sealed one can't be opened.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self._ciphers = lru_cache(CIPHERS_CACHED)(self._cipher_of)

    def cipher(self, session_id: str) -> PayloadCipher | None:
        """The session's cipher; it seals only if the ring says so."""
        return self._ciphers(session_id)

    def open(self, stored: str, *, session_id: str, seq: int, kind: str) -> str:
        """The JSON text of a stored body.

        Raises:
            PayloadDamaged: It was changed, or belongs to another entry.
            MasterKeyMissing: Its key is not in the ring.
        """
        if not is_sealed(stored):
            return stored
        cipher = self.cipher(session_id)
        if cipher is None:
            raise MasterKeyMissing(
                f"{session_id} seq {seq} ({kind}): the body is encrypted and there is no key ring",
                session_id=session_id,
                seq=seq,
            )
        return cipher.open(stored, seq=seq, kind=kind)

    def seal_piece(self, data: bytes, *, session_id: str, key: str) -> bytes:
        """The stored form of a piece of a session's file; see `PayloadCipher.seal_piece`."""
        cipher = self.cipher(session_id)
        return cipher.seal_piece(data, key=key) if cipher is not None else PLAIN_PIECE + data

    def open_piece(self, stored: bytes, *, session_id: str, key: str) -> bytes:
        """The piece.

        Raises:
            PayloadDamaged, MasterKeyMissing: As `open`.
        """
        cipher = self.cipher(session_id)
        if cipher is not None:
            return cipher.open_piece(stored, key=key)
        if stored[:1] != PLAIN_PIECE:
            raise MasterKeyMissing(
                f"{key} is encrypted and there is no key ring", session_id=session_id
            )
        return stored[1:]

    def open_checkpoint(self, stored: str, *, session_id: str, seq: int) -> str:
        """The text of a stored checkpoint; raises as `open` does."""
        return self.open(stored, session_id=session_id, seq=seq, kind=CHECKPOINT)

    def _cipher_of(self, session_id: str) -> PayloadCipher | None:
        return PayloadCipher(self._ring.session_keys(session_id)) if self._ring else None


FORK_ENTRIES_MAX = 20_000
"""A fork is one write."""


class Chain:
    """The keys of hash chains: a chain keeps the master key that it began with (S-52).

    Args:
        ring: The master keys; without them new chains are plain.

    Attributes:
        bodies: Seals bodies to write, opens bodies that were read.
    """

    def __init__(self, ring: KeyRing | None = None) -> None:
        self.ring = ring
        self.bodies = Bodies(ring)

    @property
    def encrypts(self) -> bool:
        """Bodies of new entries are sealed."""
        return self.ring is not None and self.ring.encrypts_payloads

    def new(self, session_id: str) -> tuple[bytes | None, str | None]:
        """Key and master key's id of a chain that begins now."""
        if self.ring is None:
            return None, None
        key_id = self.ring.newest.id
        return self.ring.chain_key(session_id, key_id), key_id

    def of(self, head: Head) -> bytes | None:
        """The key of a session's chain.

        Raises:
            MasterKeyMissing: The ring no longer holds the key that it began with.
        """
        if head.key_id is None:
            return None
        if self.ring is None:
            raise MasterKeyMissing(
                f"{head.session_id}: its chain began with master key {head.key_id!r}",
                key_id=head.key_id,
            )
        return self.ring.chain_key(head.session_id, head.key_id)


@dataclass(frozen=True, slots=True)
class StartMatch:
    """The earlier start that this one repeats, matched `by` operation, key or external_id, in that order (S-2, S-61).

    `feed_offset` is that of the operation's entry, or of the session's `session.created`.
    """

    by: str
    feed_offset: int
    newest_run_id: str | None = None


def find_start(index: LedgerIndex, start: StartSession) -> StartMatch | None:
    """Find the start that this one repeats, by operation, then key, then open session."""
    if start.operation is not None:
        known = index.operations.offset_of(start.operation.id)
        if known is not None:
            return StartMatch("operation", known)
    if start.idempotency_key is not None:
        session_id = index.start_keys.get(digest(key_hash(start.idempotency_key)))
        if session_id is not None:
            return StartMatch("key", index.heads[session_id].created_offset)
    if start.external_id is not None:
        session_id = index.names.get(digest(start.external_id))
        if session_id is not None:
            head = index.heads[session_id]
            return StartMatch("external_id", head.created_offset, head.run_id)
    return None


def check_parent(index: LedgerIndex, start: StartSession) -> None:
    """Return if the run that starts a child has not ended: what ended it would not have found the child (S-91).

    Its head is in the index.

    Raises:
        Conflict: It is over, or was taken back.
    """
    asked = start.parent
    if asked is None:
        return
    parent = index.heads.get(asked.session_id)
    is_asking = (
        parent is not None
        and (parent.run_id, parent.attempt) == (asked.run_id, asked.attempt)
        and parent.has_active_run
    )
    if not is_asking:
        raise Conflict(f"{asked.run_id} is over and can't start a session", run_id=asked.run_id)


def repeated_start(start: StartSession, match: StartMatch, entry: Entry) -> Started:
    """The answer to a start that repeats another.

    Raises:
        OperationConflict: The operation id was used with another request.
        IdempotencyConflict: The key was used with another task or payload.
        ExternalIdConflict: The open session has another task or payload.
    """
    body = entry.body
    if match.by == "operation":
        first = FirstReceipt.of(entry)
        assert first is not None
        assert start.operation is not None
        receipt = first.again(start.operation, start.principal)
        return Started(
            session_id=receipt["session_id"],
            run_id=receipt["run_id"],
            created=bool(receipt.get("created", False)),
        )
    same = body["request_hash"] == start.request_hash
    if match.by == "key":
        if not same:
            raise IdempotencyConflict(
                f"{entry.session_id} was started with this idempotency key and another task or payload",
                hint="Use a new idempotency key for a new session.",
                session_id=entry.session_id,
            )
        return Started(session_id=entry.session_id, run_id=body["run_id"], created=False)
    if not same:
        raise ExternalIdConflict(
            f"{entry.session_id} is open under external id {start.external_id!r} "
            "with another task or payload",
            hint="Use that session, close it first, or start under another external id.",
            session_id=entry.session_id,
            external_id=start.external_id,
        )
    run_id = match.newest_run_id or body["run_id"]
    return Started(session_id=entry.session_id, run_id=run_id, created=False)


def _keyed(drafts: Sequence[Draft], key_id: str | None) -> tuple[Draft, ...]:
    """The first entries of a session say which master key its chain begins with (S-52)."""
    first, *rest = drafts
    if key_id is None:
        return (first, *rest)
    return (replace(first, body={**first.body, "chain_key_id": key_id}), *rest)


def fact_entries(
    system: Head, drafts: Sequence[Draft], now: datetime, chain: Chain
) -> tuple[Entry, ...]:
    """The entries of facts of no session, behind the last one of the system stream."""
    if system.next_seq == 1:
        key, key_id = chain.new(system.session_id)
        drafts = _keyed(drafts, key_id)
    else:
        key = chain.of(system)
    return continue_head(system, drafts, now, key, chain.bodies.cipher(system.session_id))


def start_entries(
    start: StartSession,
    now: datetime,
    key: bytes | None,
    key_id: str | None = None,
    cipher: BodyCipher | None = None,
) -> tuple[Entry, ...]:
    """The entries of a new session; with its run's end, if that has nothing to do."""
    drafts: tuple[Draft, ...] = start_drafts(
        task=start.task,
        run_id=start.run_id,
        payload=start.payload,
        external_id=start.external_id,
        tags=start.tags,
        metadata=start.metadata,
        idempotency_key_hash=(
            key_hash(start.idempotency_key) if start.idempotency_key is not None else None
        ),
        request_hash=start.request_hash,
        operation=start.operation,
        principal=start.principal,
        parent=start.parent,
        starters=start.starters,
        cause=start.cause,
    )
    if start.done_by is not None:
        drafts += done_drafts(start.run_id, start.done_by)
    return stamp_all(
        _keyed(drafts, key_id),
        session_id=start.session_id,
        first_seq=1,
        previous=GENESIS,
        at=now,
        key=key,
        cipher=cipher,
    )


def fork_entries(
    fork: ForkSession,
    origin: Sequence[Entry],
    now: datetime,
    key: bytes | None = None,
    key_id: str | None = None,
    cipher: BodyCipher | None = None,
) -> tuple[Entry, ...]:
    """The entries of a fork: copies, then who forked and why (S-86).

    Args:
        fork: What is asked.
        origin: All entries of the origin.
        now: The ledger's time.
        key: Of the fork's hash chain.
        key_id: The master key that it begins with.
        cipher: Seals its bodies.

    Raises:
        OpNotFound, ForkRefused: As `helmr_runtime.core.fork.fork`.
        NotAnAnswerer, NotAmendable: As `helmr_runtime.core.fork.begin`.
    """
    copies = copied(
        origin,
        fork.to_op,
        session_id=fork.session_id,
        key=key,
        key_id=key_id,
        cipher=cipher,
    )
    drafts = begin(origin, copies, fork, now)
    own = stamp_all(
        drafts,
        session_id=fork.session_id,
        first_seq=len(copies) + 1,
        previous=copies[-1].hash,
        at=max(now, copies[-1].recorded_at),
        key=key,
        cipher=cipher,
        clock_at=now,
    )
    return (*copies, *own)


def forked(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the receipt of the fork's `session.forked`; the entries before it are copies."""
    return receipt_of(next(e for e in reversed(entries) if e.kind is EntryKind.SESSION_FORKED))


def repeated_fork(fork: ForkSession, entry: Entry) -> dict[str, Any]:
    """The answer to a fork that repeats another.

    Raises:
        OperationConflict: The operation id was used with another request.
    """
    first = FirstReceipt.of(entry)
    assert first is not None
    return first.again(fork.operation, fork.principal)


def check_fork_size(head: Head) -> None:
    """Raise if the session is too long to be copied at once.

    Raises:
        ForkRefused: It has more than `FORK_ENTRIES_MAX` entries.
    """
    if head.next_seq - 1 > FORK_ENTRIES_MAX:
        raise ForkRefused(
            f"{head.session_id} has {head.next_seq - 1} entries; at most {FORK_ENTRIES_MAX} are copied"
        )


def due_entries(
    head: Head, now: datetime, key: bytes | None, cipher: BodyCipher | None = None
) -> tuple[Entry, ...]:
    """The entry that times out (or fires) the pending wait of an unheld session."""
    wait = head.wait
    assert wait is not None
    assert head.run_id is not None
    draft = due_draft(
        wait_id=wait.id, kind=wait.kind, run_id=head.run_id, op=wait.op, next_status="queued"
    )
    return continue_head(head, (*_claims_of(head, now), draft), now, key, cipher)


def escalated_entries(
    head: Head,
    state: SessionState,
    now: datetime,
    key: bytes | None,
    cipher: BodyCipher | None = None,
) -> tuple[Entry, ...]:
    """The steps of the pending wait's escalation that have come, and its end, if time has ended it by now.

    Args:
        head: Of a session that no one holds.
        state: The session's, as far as the head.
        now: The ledger's time.
        key: Of the session's hash chain.
        cipher: Seals its bodies.
    """
    assert state.seq == head.next_seq - 1
    context = DecisionContext(now=now, policy=TaskPolicy(), is_hot=False)
    return continue_head(head, (*_claims_of(head, now), *passed(state, context)), now, key, cipher)


def token_end_entries(
    head: Head,
    ended: TokenEnded,
    now: datetime,
    key: bytes | None,
    cipher: BodyCipher | None = None,
) -> tuple[Entry, ...]:
    """The entry by which the end of a token resolves the pending wait of an unheld session."""
    wait = head.wait
    assert wait is not None
    assert wait.id == ended.wait_id
    assert head.run_id is not None
    draft = token_end_draft(
        wait_id=wait.id,
        run_id=head.run_id,
        op=wait.op,
        deadline_at=wait.deadline_at,
        ended=ended,
        next_status="queued",
    )
    return continue_head(head, (*_claims_of(head, now), draft), now, key, cipher)


def _claims_of(head: Head, now: datetime) -> tuple[Draft, ...]:
    """Return the claim entries to write ahead of the session's next entry (S-81)."""
    return head.claims.pending(now) if head.claims is not None else ()


def catalog_drafts(
    catalog: Mapping[str, Any], principal: Principal, index: LedgerIndex, now: datetime
) -> tuple[Draft, ...]:
    """Build the entries of a new catalog and its effects on features; facts of the system stream."""
    written = Draft(EntryKind.CATALOG_WRITTEN, catalog, principal=principal)
    return (written, *index.features.following(written, now))


def continue_head(
    head: Head,
    drafts: Sequence[Draft],
    now: datetime,
    key: bytes | None,
    cipher: BodyCipher | None = None,
) -> tuple[Entry, ...]:
    """Stamp drafts behind a session's last entry; never earlier than that (S-50)."""
    at = now if head.last_at is None else max(now, head.last_at)
    return stamp_all(
        drafts,
        session_id=head.session_id,
        first_seq=head.next_seq,
        previous=head.last_hash,
        at=at,
        key=key,
        cipher=cipher,
        clock_at=now,
    )


def stamp_all(
    drafts: Sequence[Draft],
    *,
    session_id: str,
    first_seq: int,
    previous: bytes,
    at: datetime,
    key: bytes | None,
    cipher: BodyCipher | None = None,
    clock_at: datetime | None = None,
) -> tuple[Entry, ...]:
    """Stamp drafts one behind the other."""
    stamped: list[Entry] = []
    for seq, draft in enumerate(drafts, start=first_seq):
        entry = stamp(
            draft,
            session_id=session_id,
            seq=seq,
            recorded_at=at,
            previous=previous,
            key=key,
            cipher=cipher,
            clock_at=clock_at,
        )
        previous = entry.hash
        stamped.append(entry)
    return tuple(stamped)
