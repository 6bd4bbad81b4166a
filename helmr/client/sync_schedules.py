# Made by `make clients` from aio_schedules.py; edit that one.
"""Schedules, blocking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from helmr.client import schedule_operations as operations
from helmr.client.http import HttpTransport
from helmr.client.paging import all_pages
from helmr.durations import Duration
from helmr.models import Missed, Overlap, Page, ScheduleInfo, ScheduleReceipt, StartReceipt
from helmr.tasks import AnyTask


class Schedules:
    """What starts sessions by the clock (S-93)."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    def create(
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
        call = operations.create_schedule(
            name,
            task,
            payload,
            cron=cron,
            every=every,
            zone=zone,
            missed=missed,
            overlap=overlap,
            operation_id=operation_id,
        )
        return self._transport.call(call)

    def get(self, name: str) -> ScheduleInfo:
        """A schedule, and when it is due next.

        Raises:
            ScheduleNotFound: There is none.
        """
        return self._transport.call(operations.get_schedule(name))

    def list(self, *, limit: int | None = None) -> Iterator[ScheduleInfo]:
        """Every schedule, by name, page by page."""
        return all_pages(lambda cursor: self.page(limit=limit, cursor=cursor))

    def page(self, *, limit: int | None = None, cursor: str | None = None) -> Page[ScheduleInfo]:
        """One page of `list`."""
        return self._transport.call(operations.list_schedules(limit=limit, cursor=cursor))

    def pause(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Pause a schedule, over restarts too; pausing again changes nothing."""
        return self._transport.call(operations.pause_schedule(name, operation_id=operation_id))

    def resume(self, name: str, *, operation_id: str | None = None) -> ScheduleInfo:
        """Go on with a paused schedule; what was due meanwhile was not missed."""
        return self._transport.call(operations.resume_schedule(name, operation_id=operation_id))

    def run(self, name: str, *, operation_id: str | None = None) -> StartReceipt:
        """Start a session as the schedule does, now; its due times stay as they are.

        Raises:
            RunActive: The session before is active, and the schedule lets none run beside it.
        """
        return self._transport.call(operations.run_schedule(name, operation_id=operation_id))

    def delete(self, name: str, *, operation_id: str | None = None) -> ScheduleReceipt:
        """Delete a schedule; the sessions that it started stay.

        Raises:
            Conflict: The code declares it.
        """
        return self._transport.call(operations.delete_schedule(name, operation_id=operation_id))
