"""Files of a session: stored once by its code, shown at its waits, read in its steps (S-143).

```python
report = await attachments.store(Path("report.pdf"))
decision = await approval.wait(attach=[report]).unwrap()
text = await attachments.read(report)  # in an async step; `attachments.open` in any other
```

Storing is an op: a replay gets the same reference and reads no file. The bytes lie beside the ledger under the
session's id, encrypted where entries are, until the session is pruned. Source: SEMANTICS S-143.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import mimetypes
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from helmr.current import DurableRun, StepCall, current_run, current_step, durable_call, require_run
from helmr.errors import NotInTask, PayloadDamaged, TooLarge, Unavailable, UsageError
from helmr.models.attachments import (
    ATTACHMENT_BYTES_MAX,
    ATTACHMENT_NAME_MAX,
    STORE_STEP,
    Attachment,
)
from helmr.wire import ids
from helmr.wire.durations import spell_bytes
from helmr.wire.schema import Codec

__all__ = ["Attachment", "Source", "open", "read", "store"]

Source = str | Path | bytes | BinaryIO | AsyncIterable[bytes] | Iterable[bytes]
"""A path, the bytes, an open binary file, or pieces of bytes."""

PIECE_BYTES = 1024 * 1024
"""Bytes are stored and read in pieces of this size."""

RETRIES = 5
"""Retries of storing: it outlasts a restart of the ledger."""

TIMEOUT_S = 3600.0
"""Seconds that one try of storing may take; far less than the age at which files without an entry are swept."""

OTHER = "application/octet-stream"
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
_CODEC: Codec[Attachment] = Codec(Attachment, what="an attachment")


@durable_call("attachments.store()")
async def store(source: Source, *, name: str | None = None, type: str | None = None) -> Attachment:
    """Store a file for this session, once; a replay gets the same reference.

    Args:
        source: A path, the bytes, an open binary file, or an iterable of bytes. A path and bytes are read again if the
            store was away; what can be read once only is not.
        name: The name that people see; by default the path's last part.
        type: Its media type, as `text/csv`; by default what the name's ending says.

    Raises:
        UsageError: The name or type is no name or type, there is no name, or the session has 1,000 files.
        TooLarge: It has more than 50 MB.
        StepFailed: The file can't be read, or the store was away for long.
    """
    run = require_run("attachments.store()")
    given: object = source
    if not isinstance(given, str | Path | AsyncIterable | Iterable):
        raise UsageError(
            f"attachments.store() takes a path, bytes or a binary file, not {given.__class__.__name__}"
        )
    name = checked_name(name if name is not None else _name_of(source))
    kind = checked_type(type) if type is not None else None

    async def put() -> Attachment:
        return await _put(run, source, name, kind)

    step = StepCall(
        name=STORE_STEP,
        call=put,
        is_async=True,
        encode=_CODEC.encode,
        decode=_CODEC.decode,
        retries=RETRIES if isinstance(source, str | Path | bytes) else 0,
        backoff_s=1.0,
        retry_on=(Unavailable,),
        timeout_s=TIMEOUT_S,
    )
    return cast("Attachment", await run.step(step))


async def _put(run: DurableRun, source: Source, name: str, kind: str | None) -> Attachment:
    """Store the pieces under a fresh id: those of a try that fails are named by no one and swept."""
    attachment_id = ids.new_id(ids.ATTACHMENT)
    if kind is None:
        kind = await asyncio.to_thread(guessed_type, name)  # its first call reads files
    digest, size, number = hashlib.sha256(), 0, 0
    async for piece in _pieces(source):
        size += len(piece)
        if size > ATTACHMENT_BYTES_MAX:
            raise TooLarge(
                f"{name} has more than {spell_bytes(ATTACHMENT_BYTES_MAX)}",
                hint="Store it elsewhere and show a link: links=[…].",
            )
        digest.update(piece)
        await run.store_piece(attachment_id, number, piece)
        number += 1
    return Attachment(id=attachment_id, name=name, type=kind, size=size, sha256=digest.hexdigest())


async def read(attachment: Attachment) -> bytes:
    """Return the bytes of one of this session's files, in an async step.

    Raises:
        NotInTask: Not called in a step.
        AttachmentNotFound: The session has no such file.
        PayloadDamaged: The bytes are not those that were stored.
    """
    run = _run_of_step("attachments.read()")
    pieces = [await run.load_piece(attachment.id, one) for one in range(_count(attachment))]
    return _checked(attachment, pieces)


def open(attachment: Attachment) -> BinaryIO:
    """Return one of this session's files, opened for reading, in a step that is not async.

    Raises:
        NotInTask: Not called in a step, or in an async one.
        AttachmentNotFound, PayloadDamaged: As `read`.
    """
    run = _run_of_step("attachments.open()")
    if asyncio._get_running_loop() is not None:
        raise NotInTask(
            "attachments.open() was called in an async step",
            hint="Write await attachments.read(…).",
        )
    pieces = [run.load_piece_now(attachment.id, one) for one in range(_count(attachment))]
    return io.BytesIO(_checked(attachment, pieces))


def _run_of_step(what: str) -> DurableRun:
    run = current_run.get()
    if run is None or current_step.get() is None:
        raise NotInTask(
            f"{what} was called outside of a step",
            hint="What reads a file belongs in a @step: a replay then has its result.",
        )
    return run


def piece_count(size: int) -> int:
    """Return the number of pieces of a file."""
    return -(-size // PIECE_BYTES)


def _count(attachment: Attachment) -> int:
    if not isinstance(attachment, Attachment):
        raise UsageError(
            f"a file of the session is an Attachment, not {attachment.__class__.__name__}",
            hint="Give what attachments.store() returned.",
        )
    return piece_count(attachment.size)


def _checked(attachment: Attachment, pieces: Sequence[bytes]) -> bytes:
    found = b"".join(pieces)
    if hashlib.sha256(found).hexdigest() != attachment.sha256:
        raise PayloadDamaged(f"{attachment.id} is not what was stored", attachment_id=attachment.id)
    return found


def checked_name(name: str) -> str:
    """Return a file's name on one line, without folders.

    Raises:
        UsageError: It is no name of a file.
    """
    if not isinstance(name, str):
        raise UsageError(f"a file's name is text, not {name.__class__.__name__}")
    plain = "".join(c if c.isprintable() else " " for c in name)
    line = " ".join(re.split(r"[/\\]", plain)[-1].split()).lstrip(".")
    if not line or len(line) > ATTACHMENT_NAME_MAX:
        raise UsageError(
            f"a file's name has 1 to {ATTACHMENT_NAME_MAX} characters, not {name[:140]!a}",
            hint='Write attachments.store(data, name="report.pdf").',
        )
    return line


def checked_type(kind: str) -> str:
    """Return a media type in lower case.

    Raises:
        UsageError: It is none.
    """
    given: object = kind
    lower = given.lower() if isinstance(given, str) else ""
    if not _TYPE.fullmatch(lower):
        raise UsageError(
            f"{ascii(kind)[:80]} is not a media type",
            hint='Write type="text/csv", or leave it out.',
        )
    return lower


def guessed_type(name: str) -> str:
    """Return the media type that a name's ending says."""
    return mimetypes.guess_type(name)[0] or OTHER


def _name_of(source: Source) -> str:
    if isinstance(source, str | Path):
        return Path(source).name
    name = getattr(source, "name", None)
    if isinstance(name, str):
        return name
    raise UsageError("attachments.store() needs the file's name", hint='Write name="report.pdf".')


async def _pieces(source: Source) -> AsyncIterator[bytes]:
    """Yield the source in pieces of `PIECE_BYTES`, the last one shorter."""
    held = bytearray()
    async for part in _parts(source):
        if not isinstance(part, bytes | bytearray | memoryview):
            raise UsageError(f"a file is made of bytes, not {part.__class__.__name__}")
        held += part
        while len(held) >= PIECE_BYTES:
            yield bytes(held[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    if held:
        yield bytes(held)


async def _parts(source: Source) -> AsyncIterator[Any]:
    if isinstance(source, str | Path):
        with await asyncio.to_thread(Path(source).open, "rb") as file:
            while part := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield part
    elif isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source)
        for at in range(0, len(view), PIECE_BYTES):
            yield view[at : at + PIECE_BYTES]
    elif isinstance(source, AsyncIterable):
        async for part in source:
            yield part
    elif hasattr(source, "read"):
        while part := await asyncio.to_thread(source.read, PIECE_BYTES):
            yield part
    else:
        for part in source:
            yield part
