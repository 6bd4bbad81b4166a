"""Limits in use now, read from the directory (S-119, S-120); nothing here is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from helmr.errors import HelmrError, Unavailable
from helmr.models import Activity, LimitInfo, ListQuery, Page, RunStatus
from helmr_runtime.ports import Directory
from helmr_runtime.ports.ledger import Json
from helmr_runtime.service.health import ANSWER_TIMEOUT_S
from helmr_runtime.service.paging import page_of

T = TypeVar("T")

NONE_FOR_S = 60.0
"""A directory without limits is asked again after this time: limits change when the runtime starts."""

GOING_ON = frozenset({RunStatus.RUNNING.value, RunStatus.QUEUED.value})
BUSY = frozenset({Activity.RUNNING.value, Activity.QUEUED.value})


class LimitOperations:
    """Limits: read, and put beside the runs that wait for one.

    Args:
        directory: Gives the permits.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._asks_from_s = 0.0

    async def list(self, query: ListQuery) -> Page[LimitInfo]:
        """A page of the limits, by name.

        Raises:
            Unavailable: The directory does not answer.
        """
        found = await _answered(self._directory.limits())
        ordered = sorted(found["items"], key=lambda one: str(one["name"]))
        return Page[LimitInfo].model_validate(page_of(ordered, query))

    async def of_sessions(self, sessions: Sequence[Json]) -> Sequence[Json]:
        """The sessions; those that wait for a permit get their place (`queued_for`)."""
        busy = {str(one["id"]) for one in sessions if one["activity"] in BUSY}
        return await self._placed(sessions, "id", busy)

    async def of_runs(self, runs: Sequence[Json]) -> Sequence[Json]:
        """The runs, as `of_sessions`."""
        going_on = {str(one["session_id"]) for one in runs if one["status"] in GOING_ON}
        return await self._placed(runs, "session_id", going_on)

    async def _placed(self, found: Sequence[Json], key: str, asked: set[str]) -> Sequence[Json]:
        """Ask for the places in one call, or none if no one can wait; without an answer, return `found` unchanged."""
        now_s = asyncio.get_running_loop().time()
        if not asked or now_s < self._asks_from_s:
            return found
        try:
            places = await _answered(self._directory.queued(sorted(asked)))
        except HelmrError:
            return found
        if places is None:
            self._asks_from_s = now_s + NONE_FOR_S
            return found
        return [
            {**one, "queued_for": places[one[key]]} if one[key] in asked & places.keys() else one
            for one in found
        ]


async def _answered(asking: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await asking
    except TimeoutError:
        raise Unavailable(
            f"the directory did not answer in {ANSWER_TIMEOUT_S:g} s", hint="Try again."
        ) from None
