"""Schedules and notice targets of a runtime, as an `AsyncClient` reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from helmr.client.calls import check_schedule_name, task_id
from helmr.client.http import ClientPart, all_pages
from helmr.durations import Duration, seconds
from helmr.models import (
    Missed,
    NoticeRetryReceipt,
    NoticeTargetInfo,
    NoticeTestReceipt,
    Overlap,
    Page,
    ScheduleInfo,
    ScheduleReceipt,
    StartReceipt,
)
from helmr.operations import (
    CREATE_SCHEDULE,
    DELETE_SCHEDULE,
    GET_SCHEDULE,
    LIST_NOTICE_TARGETS,
    LIST_SCHEDULES,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    RETRY_NOTICE_TARGET,
    RUN_SCHEDULE,
    TELL_NOTICE_TARGET_A_TEST,
)
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
        check_schedule_name(name)
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


class AsyncNotices(ClientPart):
    """Notice targets: where notices that something waits go (S-84). The runtime's `helmr.toml` declares them."""

    async def list(self) -> list[NoticeTargetInfo]:
        """Every target, and how far it is."""
        page: Page[NoticeTargetInfo] = await self._ask(LIST_NOTICE_TARGETS)
        return page.items

    async def test(self, name: str) -> NoticeTestReceipt:
        """Send a target a test notice; the receipt says whether the target took it.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._ask(TELL_NOTICE_TARGET_A_TEST, name)

    async def retry(self, name: str) -> NoticeRetryReceipt:
        """Send now the notices that a target has not taken, late ones too.

        Raises:
            NoticeTargetNotFound: There is none.
        """
        return await self._ask(RETRY_NOTICE_TARGET, name)
