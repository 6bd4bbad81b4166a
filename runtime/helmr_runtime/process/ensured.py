"""The one session that `helmr up --ensure` finds going or starts (S-93)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helmr import ids
from helmr.errors import ExternalIdConflict, SchemaMismatch, TaskNotFound, UsageError
from helmr.models import Catalog
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.ports import StartSession
from helmr_runtime.rpc.calls import LEDGER, Calls
from helmr_runtime.security.schemas import DataSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """A session of that task is to be open under that external id."""

    task: str
    external_id: str
    payload: Any = None

    def check(self, catalog: Catalog) -> None:
        """Return if it can be started, before anything is.

        Raises:
            TaskNotFound: The code has no such task.
            UsageError: The payload does not fit.
        """
        task = next((one for one in catalog.tasks if one.id == self.task), None)
        if task is None:
            known = ", ".join(one.id for one in catalog.tasks)
            raise TaskNotFound(f"--ensure {self.task}: no such task; there are {known}")
        try:
            DataSchema(task.payload_schema).check(self.payload)
        except SchemaMismatch as error:
            raise UsageError(
                f"--ensure {self.task}: {error.message}", hint="Give it a --payload that fits."
            ) from error


async def ensure(calls: Calls, ensured: Ensured, say: Callable[[str], None]) -> None:
    """Start the session unless one is open under its external id.

    One that has ended is not brought back before the next start: its code ended it, or a person did.
    """
    start = StartSession(
        session_id=ids.new_id(ids.SESSION),
        run_id=ids.new_id(ids.RUN),
        task=ensured.task,
        payload=ensured.payload,
        external_id=ensured.external_id,
        tags=(),
        metadata={},
        idempotency_key=None,
        principal=RUNTIME,
        operation=None,
        request_hash=jsontext.same_data_hash([ensured.task, ensured.payload]),
    )
    try:
        made = await calls.call(LEDGER, "start_session", start)
    except ExternalIdConflict as error:
        say(f"{error.facts['session_id']} is open as {ensured.external_id}, begun with other input")
        return
    how = "started" if made["created"] else "is open"
    say(f"{made['session']['id']} {how} as {ensured.external_id}")
