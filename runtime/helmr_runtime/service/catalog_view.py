"""The service's view of the catalog reads the newest one and checks payloads against it.

The process that imports the task modules at `up` writes the catalog. User code never runs here, so a payload is checked
against its JSON Schema only; if a task's own validators refuse it, the run fails as it begins, with `schema_mismatch`.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Iterable
from typing import Any

from helmr.errors import BadSchema, NotReady, StreamNotFound, TaskNotFound
from helmr.models import Catalog, ListQuery, Page, StreamInfo, TaskInfo
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.security.schemas import DataSchema
from helmr_runtime.service.paging import page_of

logger = logging.getLogger(__name__)

NAMES_SHOWN_MAX = 50
"""Names that a message lists; the facts hold as many."""


class CatalogView:
    """The newest catalog, read once and again when a new one is written.

    Args:
        ledger: Holds the catalog.
        age_max_s: An older copy is read again; None relies on `forget`.
    """

    def __init__(self, ledger: LedgerClient, *, age_max_s: float | None = None) -> None:
        self._ledger = ledger
        self._age_max_s = age_max_s
        self._read_at_s = 0.0
        self._known: Catalog | None = None
        self._payloads: dict[str, DataSchema | None] = {}

    def forget(self) -> None:
        """Drop the copy: a new catalog was written."""
        self._known = None
        self._payloads = {}

    async def get(self) -> Catalog:
        """The catalog.

        Raises:
            NotReady: None has been written.
        """
        now_s = asyncio.get_running_loop().time()
        if self._age_max_s is not None and now_s - self._read_at_s > self._age_max_s:
            self.forget()
        if self._known is None:
            self._read_at_s = now_s
            found = await self._ledger.catalog()
            if found is None:
                raise NotReady("no catalog has been written yet", retry_after_s=1)
            self._known = Catalog.model_validate(found)
        return self._known

    async def tasks(self, query: ListQuery) -> Page[TaskInfo]:
        """A page of the tasks, with the JSON Schemas of their payloads and results, by id."""
        found = sorted((await self.get()).tasks, key=lambda task: task.id)
        return Page[TaskInfo].model_validate(page_of(found, query))

    async def streams(self, query: ListQuery) -> Page[StreamInfo]:
        """A page of the streams, with their JSON Schemas, by name."""
        found = (await self.get()).streams
        ordered = sorted(found, key=lambda stream: (stream.name, stream.direction, stream.tasks))
        return Page[StreamInfo].model_validate(page_of(ordered, query))

    async def task(self, task_id: str) -> TaskInfo:
        """The task with that id.

        Raises:
            TaskNotFound: With the ids there are, and the nearest one.
        """
        catalog = await self.get()
        task = _find_task(catalog, task_id)
        if task is None:
            known = sorted(task.id for task in catalog.tasks)
            raise TaskNotFound(
                f"no task {task_id[:200]!r}; {_there_are(known)}",
                hint=_hint(task_id, known, empty="Start the runtime with the task's module."),
                tasks=known[:NAMES_SHOWN_MAX],
            )
        return task

    async def check_payload(self, task_id: str, payload: Any) -> None:
        """Return if the payload fits the task's schema.

        Raises:
            TaskNotFound: No such task.
            SchemaMismatch: With the failing paths (S-4).
        """
        task = await self.task(task_id)
        if task_id not in self._payloads:
            self._payloads[task_id] = _compiled(task)
        schema = self._payloads[task_id]
        if schema is not None:
            schema.check(payload)

    async def stream(self, task_id: str, name: str, direction: str) -> StreamInfo | None:
        """A stream of a task, None if the task is not in the catalog.

        Raises:
            StreamNotFound: The task has no such stream; lists those there are (S-20).
        """
        catalog = await self.get()
        task = _find_task(catalog, task_id)
        if task is None:
            return None
        names = sorted(task.inputs if direction == "input" else task.outputs)
        if name not in names:
            raise StreamNotFound(
                f"{task_id} has no {direction} stream {name[:128]!r}; it has {_listed(names)}",
                hint=_hint(name, names),
                streams=names[:NAMES_SHOWN_MAX],
            )
        return _find_stream(catalog, task_id, name, direction)

    async def input_schema(self, task_id: str, name: str) -> dict[str, Any] | bool | None:
        """The JSON Schema of an input stream, None if the catalog does not have it."""
        found = _find_stream(await self.get(), task_id, name, "input")
        return found.json_schema if found is not None else None


def _find_task(catalog: Catalog, task_id: str) -> TaskInfo | None:
    return next((task for task in catalog.tasks if task.id == task_id), None)


def _find_stream(catalog: Catalog, task_id: str, name: str, direction: str) -> StreamInfo | None:
    return next(
        (
            stream
            for stream in catalog.streams
            if stream.name == name and stream.direction == direction and task_id in stream.tasks
        ),
        None,
    )


def _compiled(task: TaskInfo) -> DataSchema | None:
    try:
        return DataSchema(task.payload_schema)
    except BadSchema as error:
        # A pattern that only a backtracking engine can run, say. The run checks the payload anyway.
        logger.warning("payloads of %s are checked only when a run begins: %s", task.id, error)
        return None


def _there_are(names: list[str]) -> str:
    return f"there {'is' if len(names) == 1 else 'are'} {_listed(names)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN_MAX]) or "none"


def _hint(name: str, known: Iterable[str], *, empty: str | None = None) -> str | None:
    known = list(known)
    near = difflib.get_close_matches(name[:200], known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return empty if not known else None
