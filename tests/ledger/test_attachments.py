"""Pieces of sessions' files over a real ledger: kept, sealed, swept, pruned, copied to forks (S-143)."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from helmr.errors import AttachmentNotFound, MasterKeyMissing, PayloadDamaged, StoreUnavailable
from helmr.models.attachments import STORE_STEP
from helmr.wire import ids
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.attachments import piece_key
from helmr_runtime.core.commands import Prune
from helmr_runtime.core.entries import RUNTIME, EntryKind
from helmr_runtime.ledger import attachments
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.attachments import SWEPT_AFTER, AttachmentStore, sweep
from helmr_runtime.ledger.index.authored import Bodies
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.folder import Folder
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.security.keys import KeyRing, MasterKey
from tests.ledger.conftest import Opener
from tests.ledger.sessions import Hand, begin, running

SESSION, OTHER = (f"ses_{ids.new_id('ses')[4:]}" for _ in range(2))
DATA = b"a picture of a cat" * 10_000

KEYS = (MasterKey("k1", b"1" * 32), MasterKey("k2", b"2" * 32))
SEALING = KeyRing(KEYS, encrypts_payloads=True)


def file_id() -> str:
    return ids.new_id(ids.ATTACHMENT)


async def store(ledger: DuckLedger | MemoryLedger | LedgerActor, hand: Hand, data: bytes) -> str:
    """Store a file as a step of the session does: its bytes, then the entry that names it."""
    found = file_id()
    await ledger.put_attachment_piece(hand.session_id, found, 0, data)
    await hand.stored(hand.step(STORE_STEP))
    done = hand.draft(EntryKind.STEP_SUCCEEDED, op=hand.op, value={"id": found})
    await hand.stored(done)
    return found


async def test_a_piece_is_there_for_its_session_alone(
    ledger: MemoryLedger | LedgerActor, clock: FakeClock
) -> None:
    hand = await running(ledger, clock)
    found = await store(ledger, hand, DATA)
    assert await ledger.attachment_piece(hand.session_id, found, 0) == DATA
    for session_id, attachment_id, number in (
        (OTHER, found, 0),
        (hand.session_id, file_id(), 0),
        (hand.session_id, found, 1),
    ):
        with pytest.raises(AttachmentNotFound):
            await ledger.attachment_piece(session_id, attachment_id, number)


async def test_a_piece_outlasts_a_restart_and_a_try_replaces_it(opener: Opener) -> None:
    found = file_id()
    duck = await opener()
    await duck.put_attachment_piece(SESSION, found, 0, b"one")
    await duck.put_attachment_piece(SESSION, found, 0, b"two")
    duck = await opener()
    assert await duck.attachment_piece(SESSION, found, 0) == b"two"


async def test_what_no_entry_names_is_swept_after_a_day(
    opener: Opener, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    duck = await opener()
    hand = await running(duck, clock)
    kept = await store(duck, hand, b"kept")
    failed, gone = file_id(), file_id()
    await duck.put_attachment_piece(hand.session_id, failed, 0, b"of a try that failed")
    await duck.put_attachment_piece(SESSION, gone, 0, b"of a session that is gone")
    now = ids.made_at(gone)
    assert now is not None
    assert await sweep(duck, now) == 0
    assert await sweep(duck, now + SWEPT_AFTER - timedelta(seconds=30)) == 0
    assert await sweep(duck, now + SWEPT_AFTER + timedelta(seconds=30)) == 2
    assert await duck.attachment_piece(hand.session_id, kept, 0) == b"kept"
    for session_id, one in ((hand.session_id, failed), (SESSION, gone)):
        with pytest.raises(AttachmentNotFound):
            await duck.attachment_piece(session_id, one, 0)


async def test_an_open_ledger_sweeps_by_itself(
    actor: LedgerActor, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_AFTER", "SWEEP_EVERY"):
        monkeypatch.setattr(attachments, name, timedelta(milliseconds=20))
    monkeypatch.setattr(attachments, "SWEPT_AFTER", timedelta(days=-36_500))
    await actor.put_attachment_piece(SESSION, file_id(), 0, b"x")
    folder = actor._place.path.parent / "attachments" / SESSION
    async with asyncio.timeout(20):
        while [one for one in folder.rglob("*") if one.is_file()]:
            await asyncio.sleep(0.02)


async def test_files_are_pruned_with_their_session(opener: Opener, clock: FakeClock) -> None:
    duck = await opener()
    gone, stays = await running(duck, clock), await begin(duck, clock)
    found = await store(duck, gone, DATA)
    await duck.put_attachment_piece(stays.session_id, found, 0, b"stays")
    await gone.stored(gone.succeeded(), gone.closed())
    await duck.abandon(gone.session_id, gone.epoch)
    clock.move_to(clock.now() + timedelta(days=3))
    prune = Prune(principal=RUNTIME, age_s=86_400, is_archived=False)
    assert gone.session_id in (await duck.prune(prune)).gone
    with pytest.raises(AttachmentNotFound):
        await duck.attachment_piece(gone.session_id, found, 0)
    assert await duck.attachment_piece(stays.session_id, found, 0) == b"stays"


# --- at rest ----------------------------------------------------------------------------------------


def test_pieces_are_sealed_where_bodies_are_and_bound_to_their_name(tmp_path: Path) -> None:
    sealing = AttachmentStore(Folder(tmp_path), Bodies(SEALING))
    plain = AttachmentStore(Folder(tmp_path), Bodies(KeyRing(KEYS)))
    one, two = file_id(), file_id()
    sealing.put(SESSION, one, 0, DATA)
    plain.put(SESSION, two, 0, DATA)
    on_disk = (tmp_path / piece_key(SESSION, one, 0)).read_bytes()
    assert b"cat" not in on_disk
    assert DATA in (tmp_path / piece_key(SESSION, two, 0)).read_bytes()
    for store_ in (sealing, plain):  # whichever way it was written
        assert store_.get(SESSION, one, 0) == store_.get(SESSION, two, 0) == DATA
    with pytest.raises(MasterKeyMissing):
        AttachmentStore(Folder(tmp_path), Bodies(None)).get(SESSION, one, 0)
    with pytest.raises(MasterKeyMissing):
        AttachmentStore(Folder(tmp_path), Bodies(KeyRing(KEYS[:1]))).get(SESSION, one, 0)
    for session_id, file, number in ((SESSION, one, 1), (SESSION, file_id(), 0), (OTHER, one, 0)):
        moved = tmp_path / piece_key(session_id, file, number)
        moved.parent.mkdir(parents=True, exist_ok=True)
        moved.write_bytes(on_disk)
        with pytest.raises(PayloadDamaged):
            sealing.get(session_id, file, number)


@pytest.mark.parametrize("at", [0, 1, 3, 4, 20, -1])
def test_a_changed_byte_of_a_sealed_piece_is_found(tmp_path: Path, at: int) -> None:
    store_ = AttachmentStore(Folder(tmp_path), Bodies(SEALING))
    one = file_id()
    store_.put(SESSION, one, 0, DATA)
    path = tmp_path / piece_key(SESSION, one, 0)
    stored = bytearray(path.read_bytes())
    stored[at] ^= 0x10
    path.write_bytes(stored)
    with pytest.raises((PayloadDamaged, MasterKeyMissing)):
        store_.get(SESSION, one, 0)


def test_a_fork_has_pieces_sealed_for_itself(tmp_path: Path) -> None:
    store_ = AttachmentStore(Folder(tmp_path), Bodies(SEALING))
    kept, left = file_id(), file_id()
    for number in range(3):
        store_.put(SESSION, kept, number, bytes([number]))
    store_.put(SESSION, left, 0, b"left")
    store_.copy(SESSION, OTHER, [kept])
    store_.remove([SESSION])
    assert [store_.get(OTHER, kept, number) for number in range(3)] == [b"\0", b"\1", b"\2"]
    for session_id, one in ((SESSION, kept), (OTHER, left)):
        with pytest.raises(AttachmentNotFound):
            store_.get(session_id, one, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
def test_no_one_else_reads_a_piece(tmp_path: Path) -> None:
    one = file_id()
    AttachmentStore(Folder(tmp_path), Bodies(None)).put(SESSION, one, 0, DATA)
    path = tmp_path / piece_key(SESSION, one, 0)
    assert [one.stat().st_mode & 0o077 for one in (path, path.parent)] == [0, 0]


def test_a_store_that_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "attachments").write_text("not a folder")
    with pytest.raises(StoreUnavailable):
        AttachmentStore(Folder(tmp_path), Bodies(None)).put(SESSION, file_id(), 0, DATA)
