"""Schedules: made, paused, run at once, deleted, read (S-93). What fires them is the ledger."""

from __future__ import annotations

import asyncio

from helmr.errors import BadDefinition, BadRequest, RunActive, ScheduleNotFound
from helmr.models import (
    ListQuery,
    Page,
    ScheduleInfo,
    ScheduleReceipt,
    ScheduleRequest,
    StartReceipt,
    StartRequest,
)
from helmr.wire.timing import timing
from helmr_runtime.core.commands import OperationKey
from helmr_runtime.features.schedules.facts import (
    DeleteSchedule,
    GetSchedule,
    ListSchedules,
    PauseSchedule,
    WriteSchedule,
    cause,
    tag_of,
)
from helmr_runtime.ports.ledger import Json
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.service import Service
from helmr_runtime.service.sessions import SessionOperations, check_value
from helmr_runtime.service.shared import Shared


class ScheduleOperations:
    """Starts sessions by the clock."""

    def __init__(self, shared: Shared, sessions: SessionOperations) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._catalog = shared.catalog
        self._repeats = shared.repeats
        self._sessions = sessions

    async def create(self, caller: Caller, request: ScheduleRequest) -> ScheduleInfo:
        """Make a schedule; its due times count from now.

        Raises:
            BadRequest: It can't be read, or is never due.
            TaskNotFound: With the tasks there are.
            SchemaMismatch: The payload does not fit the task (S-4).
            Conflict: There is one of that name.
            Overloaded: There are as many as there may be.
        """
        try:
            when = await asyncio.to_thread(  # the first time, it reads the file of the time zone
                timing,
                cron=request.cron,
                every=request.every,
                zone=request.zone,
                missed=request.missed,
                overlap=request.overlap,
            )
        except BadDefinition as error:
            raise BadRequest(error.message, hint=error.hint) from error
        check_value(request.payload, what="a payload")
        operation = caller.operation("schedules.create", request.model_dump(mode="json"))
        fact = WriteSchedule(
            principal=caller.principal,
            operation=operation,
            name=request.name,
            task=request.task,
            payload=request.payload,
            timing=when.model_dump(exclude_none=True),
        )

        async def write() -> Json:
            await self._catalog.check_payload(request.task, request.payload)
            return await self._write(fact)

        await self._repeats.receipt(caller, operation, write)
        return await self.get(request.name)

    async def get(self, name: str) -> ScheduleInfo:
        """A schedule.

        Raises:
            ScheduleNotFound: None with that name.
        """
        return ScheduleInfo.model_validate(await self._ledger.ask(GetSchedule(name=name)))

    async def list(self, query: ListQuery) -> Page[ScheduleInfo]:
        """Schedules by name."""
        found = await self._ledger.ask(ListSchedules(**query.given()))
        return Page[ScheduleInfo].model_validate(found)

    async def pause(self, caller: Caller, name: str) -> ScheduleInfo:
        """Pause it; idempotent. Times that pass meanwhile are not missed.

        Raises:
            ScheduleNotFound: None with that name.
        """
        return await self._set_paused(caller.operation("schedules.pause", name), caller, name, True)

    async def resume(self, caller: Caller, name: str) -> ScheduleInfo:
        """Go on with it; idempotent.

        Raises:
            ScheduleNotFound: None with that name.
        """
        operation = caller.operation("schedules.resume", name)
        return await self._set_paused(operation, caller, name, False)

    async def _set_paused(
        self, operation: OperationKey, caller: Caller, name: str, paused: bool
    ) -> ScheduleInfo:
        fact = PauseSchedule(
            principal=caller.principal, operation=operation, name=name, paused=paused
        )
        receipt = await self._write(fact)
        try:
            now = await self.get(name)
        except ScheduleNotFound:
            if "status" not in receipt:  # the entry is older than receipts in full
                raise
            return ScheduleInfo.model_validate(receipt)
        return ScheduleInfo.model_validate({**now.model_dump(), **receipt})

    async def run(self, caller: Caller, name: str) -> StartReceipt:
        """Start a session as the schedule does, now; also of a paused one. Its due times stay as they are.

        Raises:
            ScheduleNotFound: None with that name.
            RunActive: The newest session that it started is active, and it lets none run beside it.
        """
        schedule = await self.get(name)
        request = StartRequest(
            task=schedule.task, payload=schedule.payload, tags=[tag_of(schedule.name)]
        )
        return await self._sessions.start(
            caller, request, cause=cause(name), may_start=lambda: self._check_free(schedule)
        )

    async def _check_free(self, schedule: ScheduleInfo) -> None:
        if schedule.overlap == "allow" or schedule.last_session_id is None:
            return
        session = await self._sessions.get(schedule.last_session_id)
        if session.activity.value != "idle":
            raise RunActive(
                f"schedule {schedule.name}: the session that it started last is "
                f"{session.activity.value}: {session.id}",
                hint='Let it end, cancel it, or give the schedule overlap="allow".',
                session_id=session.id,
            )

    async def delete(self, caller: Caller, name: str) -> ScheduleReceipt:
        """Delete it; the sessions that it started stay.

        Raises:
            ScheduleNotFound: None with that name.
            Conflict: The code declares it.
        """
        operation = caller.operation("schedules.delete", name)
        fact = DeleteSchedule(principal=caller.principal, operation=operation, name=name)
        return ScheduleReceipt.model_validate(await self._write(fact))

    async def _write(self, fact: WriteSchedule | PauseSchedule | DeleteSchedule) -> Json:
        return await self._router.write(
            lambda: self._ledger.fact(fact), what=f"schedule {fact.name}"
        )


def part(service: Service) -> ScheduleOperations:
    """The part of a service that has the operations of schedules."""
    return ScheduleOperations(service.shared, service.sessions)
