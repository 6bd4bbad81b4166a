"""Schedules in the awaited client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from helmr.client.calls import task_id
from helmr.client.http import ClientPart, all_pages
from helmr.features.schedules.operations import (
    CREATE_SCHEDULE,
    DELETE_SCHEDULE,
    GET_SCHEDULE,
    LIST_SCHEDULES,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    RUN_SCHEDULE,
    SCHEDULE,
)
from helmr.models import Missed, Overlap, Page, ScheduleInfo, ScheduleReceipt, StartReceipt
from helmr.tasks import AnyTask, Task
from helmr.wire.durations import Duration, seconds


class AsyncSchedules(ClientPart):
    """Schedules start sessions by the clock (S-93)."""

    async def create(
        self,
        name: str,
        *,
        task: str | AnyTask,
        payload: Any = None,
        cron: str | None = None,
        every: Duration | None = None,
        zone: str = "UTC",
        missed: Missed = "latest",
        overlap: Overlap = "skip",
        operation_id: str | None = None,
    ) -> ScheduleInfo:
        """Make a schedule; its due times count from now.

        Args:
            name: Its name; a schedule declared in code has its task's id.
            task: The task, or its id.
            payload: Input of each session.
            cron: Five fields, like `0 3 * * mon-fri`; or else `every`.
            every: At whole multiples of this duration.
            zone: Time zone of `cron`.
            missed: Due times to make up for after the runtime was down: `skip` for none, `latest`, `all`.
            overlap: `skip` a due time while the session before is active, or `allow` both.
            operation_id: Names the call, to repeat it.

        Raises:
            BadDefinition: The name is invalid.
            BadRequest: The times can't be read, or are never due.
            TaskNotFound: There is no such task; the message lists the tasks.
            SchemaMismatch: The payload does not fit.
            Conflict: The name is taken.
        """
        if isinstance(task, Task):
            payload = task.encode_payload(payload)
        SCHEDULE.check(name)
        body = {
            "name": name,
            "task": task_id(task),
            "payload": payload,
            "cron": cron,
            "every": seconds(every) if every is not None else None,
            "zone": zone,
            "missed": missed,
            "overlap": overlap,
        }
        return await self._ask(CREATE_SCHEDULE, body=body, operation_id=operation_id)

    async def get(self, name: str) -> ScheduleInfo:
        """Return a schedule, with its next due time.

        Raises:
            ScheduleNotFound: There is none.
        """
        return await self._ask(GET_SCHEDULE, name)

    def list(self, *, limit: int | None = None) -> AsyncIterator[ScheduleInfo]:
        """Yield every schedule, by name, page by page."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[ScheduleInfo]:
        """One page of `list`."""
        return await self._ask(LIST_SCHEDULES, query={"limit": limit, "cursor": cursor})

    async def pause(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Pause a schedule, also over restarts; pausing it again has no effect."""
        return await self._ask(PAUSE_SCHEDULE, name, operation_id=operation_id)

    async def resume(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Resume a paused schedule; due times during the pause do not count as missed."""
        return await self._ask(RESUME_SCHEDULE, name, operation_id=operation_id)

    async def run(self, name: str, *, operation_id: str | None = None) -> StartReceipt:
        """Start a session now, as the schedule would; its due times do not change.

        Raises:
            RunActive: The session before is active, and the schedule allows no overlap.
        """
        return await self._ask(RUN_SCHEDULE, name, operation_id=operation_id)

    async def delete(self, name: str, *, operation_id: str | None = None) -> ScheduleReceipt:
        """Delete a schedule; the sessions that it started stay.

        Raises:
            Conflict: The code declares it.
        """
        return await self._ask(DELETE_SCHEDULE, name, operation_id=operation_id)
