"""Sessions as files: exported line by line, and the keys that their signatures are checked by (S-95)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from helmr import ids
from helmr.errors import NotReady
from helmr.models import Catalog, FileKeyInfo, Page
from helmr_runtime.core.session_file import FileWriter
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.service.catalog import CatalogView

PAGE_ENTRIES = 100
"""Read at a time: at most so many bodies are in memory."""


class SessionFiles:
    """Exports."""

    def __init__(self, ledger: LedgerClient, catalog: CatalogView, version: str) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._version = version

    async def export(self, session_id: str) -> AsyncIterator[bytes]:
        """The session as it is now, as pieces of a file, each of whole lines.

        Whatever can be refused is refused before the first piece. What ends later ends without a footer, and so
        is no whole file.

        Raises:
            SessionNotFound: No session with that id.
            NotReady: There is no master key to sign with.
        """
        ids.check_id(session_id, ids.SESSION)
        session = await self._ledger.get_session(session_id)
        if not await self._ledger.file_keys():
            raise NotReady("this runtime signs no files: it has no master key")
        catalog = await self._catalog.get()
        return self._pieces(session, catalog)

    async def _pieces(self, session: Mapping[str, Any], catalog: Catalog) -> AsyncIterator[bytes]:
        writer = FileWriter()
        last_seq = int(session["last_seq"])
        yield writer.header(
            version=self._version,
            session_id=session["id"],
            task=session["task"],
            code_hash=catalog.code_hash,
            last_seq=last_seq,
            schemas=_schemas(catalog, session["task"]),
        )
        seq = 0
        while seq < last_seq:
            limit = min(PAGE_ENTRIES, last_seq - seq)
            page = await self._ledger.transcript(session["id"], after=seq, limit=limit)
            seq = page["items"][-1]["seq"]
            yield b"".join(map(writer.entry, page["items"]))
        signature = await self._ledger.sign_file(writer.signed)
        assert signature is not None, "its keys were there when the export began"
        yield writer.footer(signature)

    async def keys(self) -> Page[FileKeyInfo]:
        """The public keys, the newest first."""
        found = await self._ledger.file_keys()
        items = [FileKeyInfo(id=key_id, key=key) for key_id, key in found]
        return Page[FileKeyInfo](items=items, next_cursor=None)


def _schemas(catalog: Catalog, task_id: str) -> dict[str, Any] | None:
    task = next((one for one in catalog.tasks if one.id == task_id), None)
    if task is None:
        return None
    streams = [one for one in catalog.streams if task_id in one.tasks]
    return {
        "payload": task.payload_schema,
        "result": task.result_schema,
        "inputs": {one.name: one.json_schema for one in streams if one.direction == "input"},
        "outputs": {one.name: one.json_schema for one in streams if one.direction == "output"},
    }
