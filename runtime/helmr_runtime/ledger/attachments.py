"""The bytes of sessions' files, in pieces beside the entries that name them, in the same store (S-143).

A piece is on disk before the step that stores the file has its outcome, so an entry never names what is not there.
Pieces that no entry names are swept once they are a day old. The store's methods block; several threads may call them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from helmr.errors import AttachmentNotFound, HelmrError
from helmr.wire import ids
from helmr_runtime.clock import Clock
from helmr_runtime.core.attachments import FOLDER, folder_of, owner_of, piece_key
from helmr_runtime.ledger.index.authored import Bodies

logger = logging.getLogger(__name__)

SWEPT_AFTER = timedelta(days=1)
"""Age of a file that no entry names, by its id, when it is swept: whatever stores it has ended."""
FIRST_AFTER = timedelta(minutes=5)
SWEEP_EVERY = timedelta(hours=6)
AT_ONCE = 200
"""Pieces deleted in one request."""


class Pieces(Protocol):
    """The part of `helmr_runtime.ledger.log.objects.Objects` that files need."""

    def get(self, key: str) -> tuple[bytes, str] | None: ...

    def replace(self, key: str, data: bytes, tag: str | None) -> str: ...

    def keys(self, prefix: str) -> Iterable[str]: ...

    def delete(self, keys: Sequence[str]) -> None: ...


class MemoryPieces:
    """Pieces in memory."""

    def __init__(self) -> None:
        self._pieces: dict[str, bytes] = {}

    def get(self, key: str) -> tuple[bytes, str] | None:
        found = self._pieces.get(key)
        return (found, "") if found is not None else None

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        self._pieces[key] = data
        return ""

    def keys(self, prefix: str) -> Iterable[str]:
        return [key for key in self._pieces if key.startswith(prefix)]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._pieces.pop(key, None)


class AttachmentStore:
    """The files of one ledger.

    Args:
        objects: The store.
        bodies: Seals pieces as it seals bodies.
    """

    def __init__(self, objects: Pieces, bodies: Bodies) -> None:
        self._objects = objects
        self._bodies = bodies

    def put(self, session_id: str, attachment_id: str, number: int, data: bytes) -> None:
        """Store a piece; on disk when it returns. The same piece again takes the place of the first.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        key = piece_key(session_id, attachment_id, number)
        sealed = self._bodies.seal_piece(data, session_id=session_id, key=key)
        self._objects.replace(key, sealed, None)

    def get(self, session_id: str, attachment_id: str, number: int) -> bytes:
        """Return a piece.

        Raises:
            AttachmentNotFound: There is none.
            PayloadDamaged, MasterKeyMissing: It can't be opened.
            StoreUnavailable: The store does not answer.
        """
        key = piece_key(session_id, attachment_id, number)
        found = self._objects.get(key)
        if found is None:
            raise AttachmentNotFound(f"{session_id} has no file {attachment_id}")
        return self._bodies.open_piece(found[0], session_id=session_id, key=key)

    def copy(self, origin_id: str, session_id: str, attachment_ids: Collection[str]) -> None:
        """Copy files of a session to its fork. Raises as `get` and `put`."""
        wanted = set(attachment_ids)
        if not wanted:
            return
        for key in sorted(self._objects.keys(folder_of(origin_id))):
            owner = owner_of(key)
            if owner is not None and owner[1] in wanted:
                number = int(key.rpartition("/")[2])
                self.put(session_id, owner[1], number, self.get(origin_id, owner[1], number))

    def remove(self, session_ids: Iterable[str]) -> None:
        """Remove all files of these sessions. Raises StoreUnavailable."""
        for session_id in session_ids:
            self._delete(list(self._objects.keys(folder_of(session_id))))

    def old(self, before: datetime) -> dict[str, dict[str, list[str]]]:
        """Return the pieces of files begun before that time: session, file, keys. Raises StoreUnavailable."""
        found: dict[str, dict[str, list[str]]] = {}
        for key in self._objects.keys(FOLDER):
            owner = owner_of(key)
            # A fork's copies have old ids and lie there before its first entry does.
            is_old = owner is not None and all(
                (made_at := ids.made_at(one)) is not None and made_at < before for one in owner
            )
            if owner is not None and is_old:
                found.setdefault(owner[0], {}).setdefault(owner[1], []).append(key)
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete pieces. Raises StoreUnavailable."""
        self._delete(keys)

    def _delete(self, keys: Sequence[str]) -> None:
        for at in range(0, len(keys), AT_ONCE):
            self._objects.delete(keys[at : at + AT_ONCE])


class FilesOfSessions(Protocol):
    """An open ledger, as the sweep sees it."""

    attachments: AttachmentStore

    async def files_of(self, session_id: str) -> Collection[str]:
        """Return the ids of the files that a session's entries store; none if there is no such session."""
        ...


async def sweep(ledger: FilesOfSessions, now: datetime) -> int:
    """Remove the files that are a day old and named by no entry; return their number.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    old = await asyncio.to_thread(ledger.attachments.old, now - SWEPT_AFTER)
    count = 0
    for session_id, files in old.items():
        named = await ledger.files_of(session_id)
        for attachment_id, keys in files.items():
            if attachment_id not in named:
                await asyncio.to_thread(ledger.attachments.delete, keys)
                count += 1
    if count:
        logger.info("%d files that no session names were removed", count)
    return count


async def sweep_files(opened: Callable[[], Awaitable[FilesOfSessions]], clock: Clock) -> None:
    """Sweep at intervals until cancelled."""
    pause = FIRST_AFTER
    while True:
        await asyncio.sleep(pause.total_seconds())
        pause = SWEEP_EVERY
        try:
            await sweep(await opened(), clock.now())
        except HelmrError as error:
            logger.warning("files that no session names stay for now: %s", error)
