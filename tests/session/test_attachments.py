"""Files of a session, stored by its code and shown at its waits (S-143)."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from helmr import attachments, step, streams, task
from helmr.attachments import PIECE_BYTES, checked_name, checked_type, guessed_type
from helmr.errors import NotInTask, StepFailed, StoreUnavailable, TooLarge, UsageError
from helmr.evidence import evidence
from helmr.models import (
    ATTACHMENT_BYTES_MAX,
    ATTACHMENTS_MAX,
    ATTACHMENTS_OF_SESSION_MAX,
    Attachment,
    Evidence,
)
from helmr.testing import Harness, HarnessSession
from helmr.wait_details import WaitDetails, question_hash
from helmr_runtime.core import checkpoint
from helmr_runtime.core.attachments import owner_of, piece_key, stored_ids
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.state import SessionState

Made = Callable[..., Harness]

answers = streams.input("answers", schema=str)
BYTES = bytes(range(256)) * 10_000  # 2.44 pieces
REF = Attachment(id="att_x", name="a.txt", type="text/plain", size=3, sha256="00")

reads: list[str] = []


@pytest.fixture(autouse=True)
def afresh() -> None:
    reads.clear()


@step
async def size_of(ref: Attachment) -> int:
    return len(await attachments.read(ref))


@step
def hash_of(ref: Attachment) -> str:
    with attachments.open(ref) as file:
        return hashlib.sha256(file.read()).hexdigest()


class Told(io.BytesIO):
    """An open file that says when it is read."""

    name = "/var/reports/told.bin"

    def read(self, size: int | None = -1, /) -> bytes:
        reads.append("read")
        return super().read(size)


async def pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(BYTES), 300_000):
        yield BYTES[at : at + 300_000]


def task_that_stores(source: Callable[[], Any], **options: Any) -> Any:
    @task(id="stores")
    async def stores(payload: Any) -> Any:
        ref = await attachments.store(source(), **options)
        await answers.wait(subject="look", attach=[ref]).unwrap()
        return [await size_of(ref), await hash_of(ref), ref.sha256, ref.name, ref.type]

    return stores


SOURCES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "bytes": (lambda: BYTES, {"name": "told.bin"}),
    "file": (lambda: Told(BYTES), {}),
    "async pieces": (pieces, {"name": "told.bin"}),
    "iterable": (lambda: [BYTES[:1_000], BYTES[1_000:]], {"name": "told.bin"}),
}


@pytest.mark.parametrize("source", SOURCES)
async def test_a_file_is_stored_once_and_read_in_steps(harness: Made, source: str) -> None:
    given, options = SOURCES[source]
    task_ = task_that_stores(given, **options)
    async with harness(task_) as h:
        session = await h.start(task_)
        before = len(reads)
        await session.park()
        await session.answer("yes")
        digest = hashlib.sha256(BYTES).hexdigest()
        assert await session.result() == [
            *(len(BYTES), digest, digest, "told.bin"),
            "application/octet-stream",
        ]
    assert len(reads) == before, "a replay read the file again"
    assert (before > 0) == (source == "file")


async def test_a_path_is_read_and_named_by_its_last_part(harness: Made, tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_bytes(b"a,b\n")
    task_ = task_that_stores(lambda: path)
    async with harness(task_) as h:
        session = await h.start(task_)
        path.unlink()
        await session.answer("yes")
        assert (await session.result())[3:] == ["report.csv", "text/csv"]


async def test_the_wait_names_its_files(harness: Made) -> None:
    task_ = task_that_stores(lambda: b"", name="empty.txt")
    async with harness(task_) as h:
        session = await h.start(task_)
        (entry,) = [e for e in await session.transcript() if e.kind is EntryKind.WAIT_OPENED]
        (shown,) = entry.body["evidence"]["attachments"]
        assert shown["name"] == "empty.txt"
        assert shown["size"] == 0
        assert shown["sha256"] == hashlib.sha256(b"").hexdigest()
        wait = await h.async_client().waits.get(entry.body["wait_id"])
        assert wait.evidence is not None
        assert [one.id for one in wait.evidence.attachments] == [shown["id"]]


async def test_a_file_of_another_session_is_refused_at_its_wait(harness: Made) -> None:
    @task(id="foreign")
    async def foreign(payload: Any) -> Any:
        try:
            await answers.wait(attach=[REF])
        except UsageError as error:
            return error.message
        return None

    async with harness(foreign) as h:
        session = await h.start(foreign)
        assert "has no file 'att_x'" in await session.result()


async def test_a_file_that_was_given_to_the_next_run_can_be_shown(harness: Made) -> None:
    @task(id="goes_on")
    async def goes_on(payload: Any, ctx: Any) -> str:
        if payload is None:
            ref = await attachments.store(b"abc", name="a.txt")
            await ctx.continue_as(ref.model_dump())
        ref = Attachment.model_validate(payload)
        return await answers.wait(attach=[ref]).unwrap()

    async with harness(goes_on) as h:
        session = await h.start(goes_on)
        await session.park()
        await session.answer("seen")
        assert await session.result() == "seen"


async def test_rewinds_and_retries_keep_files(harness: Made) -> None:
    task_ = task_that_stores(lambda: b"abc", name="a.txt")
    async with harness(task_) as h:
        session = await h.start(task_)
        await session.answer("yes")
        await session.rewind(to_op=1, reason="again")
        await session.answer("yes")
        assert (await session.result())[0] == 3
        state = await session.state()
        assert len(state.attachments) == 2
        assert stored_ids(await session.transcript()) == state.attachments


async def prune(h: Harness, session: HarnessSession) -> None:
    await session.park()
    await h.advance("2d")
    receipt = await h.async_client().prune(older_than="1d", reason="done")
    assert receipt.sessions == 1


async def test_a_fork_has_files_of_its_own(harness: Made) -> None:
    task_ = task_that_stores(lambda: BYTES, name="a.bin")
    async with harness(task_) as h:
        session = await h.start(task_)
        wait = await session.wait()
        handle = h.async_client().sessions.open(session.id)
        made = await handle.fork(wait_id=wait["wait_id"], reason="try")
        await h.settle()
        fork = HarnessSession(h, made.id)
        await session.answer("yes")
        await session.close()
        assert (await session.result())[0] == len(BYTES)
        await prune(h, session)
        await fork.answer("yes")
        assert (await fork.result())[0] == len(BYTES)


async def test_files_go_with_their_session(harness: Made) -> None:
    task_ = task_that_stores(lambda: BYTES, name="a.bin")
    async with harness(task_) as h:
        session = await h.start(task_)
        (kept,) = (await session.state()).attachments
        await session.answer("yes")
        await session.close()
        assert await h.ledger.attachment_piece(session.id, kept, 0) == BYTES[:PIECE_BYTES]
        pieces_left = h.ledger.stored.files.keys("")
        assert len(list(pieces_left)) == 3
        await prune(h, session)
        assert not list(h.ledger.stored.files.keys(""))


async def test_a_store_that_is_away_is_asked_again(
    harness: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_ = task_that_stores(lambda: BYTES, name="a.bin")
    async with harness(task_) as h:
        put, tries = h.ledger.put_attachment_piece, 0

        async def sometimes(session_id: str, attachment_id: str, number: int, data: bytes) -> None:
            nonlocal tries
            tries += 1
            if tries == 2:
                raise StoreUnavailable("away")
            await put(session_id, attachment_id, number, data)

        monkeypatch.setattr(h.ledger, "put_attachment_piece", sometimes)
        session = await h.start(task_)
        await h.advance("5s")
        await session.answer("yes")
        assert (await session.result())[0] == len(BYTES)
    assert tries == 5


async def test_what_can_be_read_once_is_not_stored_again(
    harness: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(id="once")
    async def once(payload: Any) -> str:
        try:
            await attachments.store(pieces(), name="a.bin")
        except StepFailed as error:
            return error.type
        return "stored"

    async with harness(once) as h:

        async def away(*_: Any) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr(h.ledger, "put_attachment_piece", away)
        session = await h.start(once)
        assert await session.result() == "StoreUnavailable"


async def test_more_than_a_file_may_have_is_refused(harness: Made) -> None:
    @task(id="large")
    async def large(payload: Any) -> str:
        full = bytes(ATTACHMENT_BYTES_MAX)
        ref = await attachments.store(full, name="full")
        assert ref.size == ATTACHMENT_BYTES_MAX
        try:
            await attachments.store([full, b"x"], name="more")
        except TooLarge as error:
            return error.message
        return "stored"

    async with harness(large) as h:
        session = await h.start(large)
        assert "more has more than 50 MB" in await session.result()


async def test_more_files_than_a_session_may_have_are_refused(harness: Made) -> None:
    @task(id="many")
    async def many(payload: Any) -> str:
        for number in range(ATTACHMENTS_OF_SESSION_MAX + 1):
            try:
                await attachments.store(b"x", name=f"{number}")
            except StepFailed as error:
                return f"{number}: {error.text}"
        return "stored"

    async with Harness(many) as h:
        session = await h.start(many)
        assert (await session.result()).startswith("1000: ")
        assert "has 1,000 files" in await session.result()


async def test_reading_belongs_in_a_step(harness: Made) -> None:
    @step
    async def opens(ref: Attachment) -> str:
        try:
            attachments.open(ref)
        except NotInTask as error:
            return error.message
        return "opened"

    @task(id="reads")
    async def reads_(payload: Any) -> list[str]:
        ref = await attachments.store(b"abc", name="a.txt")
        found = [await opens(ref)]
        for read in (
            lambda: attachments.read(ref),
            lambda: asyncio.sleep(0, attachments.open(ref)),
        ):
            try:
                await read()
            except NotInTask as error:
                found.append(error.message)
        return found

    async with harness(reads_) as h:
        session = await h.start(reads_)
        assert await session.result() == [
            "attachments.open() was called in an async step",
            "attachments.read() was called outside of a step",
            "attachments.open() was called outside of a step",
        ]


async def test_outside_of_a_task_nothing_is_stored() -> None:
    with pytest.raises(NotInTask):
        await attachments.store(b"abc", name="a.txt")


# --- pure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\win.ini", "win.ini"),
        ("a\r\nb\x00\u202egnp.exe", "a b gnp.exe"),
        (".bashrc", "bashrc"),
        ("  two   words ", "two words"),
        ("ü" * 128, "ü" * 128),
    ],
    ids=["plain", "path", "backslashes", "controls", "hidden", "spaces", "longest"],
)
def test_a_name_is_one_line_without_folders(given: str, name: str) -> None:
    assert checked_name(given) == name


@pytest.mark.parametrize(
    "given", ["", "/", "...", "x" * 129, None, 3], ids=["empty", "/", "dots", "long", "None", "3"]
)
def test_what_is_no_name_is_refused(given: Any) -> None:
    with pytest.raises(UsageError):
        checked_name(given)


@pytest.mark.parametrize("given", ["", "text", "text/", "a/b; x=1", "a/b\r\nX: y", None, "x" * 300])
def test_what_is_no_media_type_is_refused(given: Any) -> None:
    with pytest.raises(UsageError):
        checked_type(given)


def test_types_are_of_endings() -> None:
    assert checked_type("Text/CSV") == "text/csv"
    assert guessed_type("a.PNG") == "image/png"
    assert guessed_type("a") == "application/octet-stream"


def test_attach_takes_references_alone_and_few() -> None:
    for wrong in (REF, "a.txt", [b"x"], [REF.model_dump()], 3):
        with pytest.raises(UsageError, match="attach is a list of files"):
            evidence(attach=wrong)
    with pytest.raises(UsageError, match="at most 20"):
        evidence(attach=[REF] * (ATTACHMENTS_MAX + 1))
    found = evidence(attach=[REF, REF])
    assert found == {"attachments": [REF.model_dump()]}
    assert evidence(attach=[]) is None


def test_a_wait_without_files_has_the_hash_and_the_wire_form_it_had() -> None:
    without = Evidence(facts={"a": 1})
    assert without.model_dump() == {"facts": {"a": 1}, "links": [], "diff": None}
    assert "attachments" not in without.model_dump_json()
    with_file = Evidence(facts={"a": 1}, attachments=[REF])
    assert with_file.model_dump()["attachments"] == [REF.model_dump()]
    hashes = {
        question_hash("t", "s", None, WaitDetails(evidence=one.recorded()), None)
        for one in (without, with_file)
    }
    assert len(hashes) == 2


def test_evidence_says_its_files_as_text() -> None:
    shown = Evidence(attachments=[REF])
    assert shown.text == "file: a.txt (text/plain, 3 bytes)"
    assert r"| a\.txt | text\/plain\, 3 bytes |" in shown.markdown


def test_a_piece_is_named_by_session_file_and_number() -> None:
    session, file = "ses_" + "0" * 26, "att_" + "1" * 26
    assert owner_of(piece_key(session, file, 7)) == (session, file)
    for wrong in (
        "attachments/x",
        f"attachments/{session}/{file}/1",
        f"log/{session}/{file}/00001",
    ):
        assert owner_of(wrong) is None


async def test_a_checkpoint_keeps_the_ids_and_says_nothing_without(harness: Made) -> None:
    task_ = task_that_stores(lambda: b"abc", name="a.txt")
    async with harness(task_) as h:
        session = await h.start(task_)
        state = await session.state()
        offsets = {e.seq: e.feed_offset or 0 for e in await session.transcript()}
        restored = checkpoint.restore(session.id, checkpoint.save(state, offsets), {})
        assert restored.attachments == state.attachments != []
        assert checkpoint.difference(state, restored) is None
        restored.attachments = []
        assert checkpoint.difference(state, restored) == "attachments"
    assert "attachments" not in checkpoint.save(SessionState("ses_x"), {})
