"""Schedules in the awaited client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from helmr.client.calls import task_id
from helmr.client.http import ClientPart, all_pages
from helmr.durations import Duration, seconds
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


class AsyncSchedules(ClientPart):
    """What starts sessions by the clock (S-93)."""

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
            name: Names it; a schedule that code declares bears its task's id.
            task: The task, or its id.
            payload: What each session gets.
            cron: Five fields, like `0 3 * * mon-fri`; or else `every`.
            every: At whole multiples of this duration.
            zone: Time zone of `cron`.
            missed: What becomes of due times that passed while no runtime was up: `skip`, `latest`, `all`.
            overlap: Whether a session may start while the one before is active: `skip`, `allow`.
            operation_id: Names the call, to repeat it.

        Raises:
            BadDefinition: The name can't be used.
            BadRequest: The times can't be read, or never come.
            TaskNotFound: With the tasks there are.
            SchemaMismatch: The payload does not fit.
            Conflict: There is one of that name.
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
        """A schedule, and when it is due next.

        Raises:
            ScheduleNotFound: There is none.
        """
        return await self._ask(GET_SCHEDULE, name)

    def list(self, *, limit: int | None = None) -> AsyncIterator[ScheduleInfo]:
        """Every schedule, by name, page by page."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    async def page(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[ScheduleInfo]:
        """One page of `list`."""
        return await self._ask(LIST_SCHEDULES, query={"limit": limit, "cursor": cursor})

    async def pause(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Pause a schedule, over restarts too; pausing again changes nothing."""
        return await self._ask(PAUSE_SCHEDULE, name, operation_id=operation_id)

    async def resume(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Go on with a paused schedule; what was due meanwhile was not missed."""
        return await self._ask(RESUME_SCHEDULE, name, operation_id=operation_id)

    async def run(self, name: str, *, operation_id: str | None = None) -> StartReceipt:
        """Start a session as the schedule does, now; its due times stay as they are.

        Raises:
            RunActive: The session before is active, and the schedule lets none run beside it.
        """
        return await self._ask(RUN_SCHEDULE, name, operation_id=operation_id)

    async def delete(self, name: str, *, operation_id: str | None = None) -> ScheduleReceipt:
        """Delete a schedule; the sessions that it started stay.

        Raises:
            Conflict: The code declares it.
        """
        return await self._ask(DELETE_SCHEDULE, name, operation_id=operation_id)
