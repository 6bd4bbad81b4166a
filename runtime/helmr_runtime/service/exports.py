"""Backups, pruning, session files and SQL read or shrink the whole ledger while it works.

A backup goes page by page (S-66). Pruning removes old sessions (S-69). A session is exported as a signed file, line by
line (S-95). SQL reads the whole history (docs/sql.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from helmr.errors import NotReady, StoreUnavailable
from helmr.models import (
    QUERY_ROWS_DEFAULT,
    Catalog,
    FileKeyInfo,
    Page,
    PruneReceipt,
    PruneRequest,
    QueryAnswer,
)
from helmr.wire import ids
from helmr.wire.query import QueryResult
from helmr_runtime.core import query_rows
from helmr_runtime.core.commands import Prune
from helmr_runtime.core.session_file import BackupHeader, BackupWriter, FileWriter
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.catalog_view import CatalogView


class Backups:
    """Backups."""

    def __init__(self, ledger: LedgerClient, version: str) -> None:
        self._ledger = ledger
        self._version = version

    async def stream(self) -> AsyncIterator[bytes]:
        """The ledger up to its current feed offset, as pieces of a file, each of whole lines.

        Each page is read once the one before was taken, so a slow reader slows no one else. A backup that breaks
        off lacks its last line, and restoring refuses it.

        Raises:
            StoreUnavailable: The ledger can't be read now.
        """
        return self._pieces(await self._ledger.backup_header(self._version))

    async def _pieces(self, header: BackupHeader) -> AsyncIterator[bytes]:
        writer = BackupWriter()
        yield writer.header(header)
        after = 0
        while after < header.through:
            page = await self._ledger.copied_rows(after, header.through)
            if page.pruned_offset > header.through:
                # The pages so far may hold a part of a session whose rest is gone.
                raise StoreUnavailable("sessions were pruned meanwhile: begin the backup again")
            after = page.through
            yield writer.rows(page.rows)
        yield writer.footer()


class Pruning:
    """Pruning."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def prune(self, caller: Caller, request: PruneRequest) -> PruneReceipt:
        """Remove a page of old sessions.

        Raises:
            BadRequest: The minimum age is too low.
            StoreUnavailable: A backup is being read, or the ledger can't write.
        """
        pruned = await self._ledger.prune(_asked(caller, request))
        return PruneReceipt(
            sessions=pruned.sessions,
            entries=pruned.entries,
            is_last=pruned.is_last,
            archive=pruned.archive,
        )

    async def of_sessions(
        self, caller: Caller, request: PruneRequest, session_ids: Sequence[str]
    ) -> frozenset[str]:
        """Remove those of these sessions that may be pruned; returns their ids.

        Raises:
            As `prune`; some may be removed by then.
        """
        gone: set[str] = set()
        refused = 0
        while refused < REFUSED_MAX:
            rest = tuple(one for one in session_ids if one not in gone)
            page = await self._ledger.prune(replace(_asked(caller, request), session_ids=rest))
            if page.is_last or not rest:
                break
            gone |= set(page.gone)
            refused = 0 if page.gone else refused + 1
        return frozenset(gone)


REFUSED_MAX = 3
"""Pages in a row that may be refused whole because one of their sessions went on."""


def _asked(caller: Caller, request: PruneRequest) -> Prune:
    return Prune(
        principal=caller.principal,
        age_s=request.older_than_s,
        is_archived=request.archive,
        is_dry_run=request.dry_run,
        reason=request.reason,
    )


PAGE_ENTRIES = 100
"""Entries read at a time: bounds the bodies in memory."""


class SessionFiles:
    """Exports."""

    def __init__(self, ledger: LedgerClient, catalog: CatalogView, version: str) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._version = version

    async def export(self, session_id: str) -> AsyncIterator[bytes]:
        """The session as it is now, as pieces of a file, each of whole lines.

        All refusals come before the first piece. An export that breaks off lacks its footer, so the file is
        recognizably incomplete.

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
        """The public keys, newest first."""
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


class Queries:
    """SQL of an operator over the public views."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def run(
        self, sql: str, *, limit: int = QUERY_ROWS_DEFAULT, as_arrow: bool = False
    ) -> QueryAnswer | bytes:
        """Return rows of JSON values; with `as_arrow`, if the ledger has pyarrow, an Arrow IPC stream that
        `helmr.wire.query.QueryResult.from_arrow` reads.

        Raises:
            BadQuery: The SQL can't be parsed or does something that queries may not.
            QueryTimeout, QueryTooLarge: The query hit a limit.
            QueryBusy: Another query is running.
        """
        content = await self._ledger.query(sql, limit=limit)
        if query_rows.is_rows(content):
            return await asyncio.to_thread(query_rows.answer_of, content)
        return content if as_arrow else await asyncio.to_thread(_answer, content)


def _answer(stream: bytes) -> QueryAnswer:
    result = QueryResult.from_arrow(stream)
    return QueryAnswer(
        columns=result.columns,
        rows=list(map(list, result.values())),
        truncated=result.truncated,
        elapsed_s=result.elapsed_s,
    )
