"""Schedules in the blocking client."""

from __future__ import annotations

from helmr.client.blocking import BlockingPart, blocking
from helmr.features.schedules.client import AsyncSchedules


class Schedules(BlockingPart[AsyncSchedules]):
    """Schedules start sessions by the clock (S-93)."""

    create = blocking(AsyncSchedules.create)
    get = blocking(AsyncSchedules.get)
    list = blocking(AsyncSchedules.list)
    page = blocking(AsyncSchedules.page)
    pause = blocking(AsyncSchedules.pause)
    resume = blocking(AsyncSchedules.resume)
    run = blocking(AsyncSchedules.run)
    delete = blocking(AsyncSchedules.delete)
