"""Schedules in the console: a list of the System area, and lines of its entries."""

from __future__ import annotations

from collections.abc import Mapping

from helmr.client.aio import AsyncClient
from helmr.features import schedules
from helmr.models import ScheduleInfo
from helmr_console.entry_lines import EntryLook
from helmr_console.feature import Feature, SystemList
from helmr_console.features.schedules import views
from helmr_console.features.schedules.actions import ACTIONS
from helmr_console.link import first

NAME = schedules.FEATURE.name
SHOWN_MAX = 1_000
"""A ledger holds no more."""


async def _read(client: AsyncClient) -> Mapping[str, ScheduleInfo]:
    return {one.name: one for one in await first(client.schedules.list(), SHOWN_MAX)}


ENTRIES = {
    "schedule.written": EntryLook(
        "schedule",
        "accent",
        lambda body: f"{body.get('name')} starts {body.get('task')}",
        is_act=True,
    ),
    "schedule.paused": EntryLook(
        "schedule", "warning", lambda body: f"{body.get('name')} paused", is_act=True
    ),
    "schedule.resumed": EntryLook(
        "schedule", "accent", lambda body: f"{body.get('name')} goes on", is_act=True
    ),
    "schedule.skipped": EntryLook(
        "schedule",
        "muted",
        lambda body: (
            f"{body.get('name')} started nothing for {body.get('due_at')}: {body.get('reason')}"
        ),
    ),
    "schedule.deleted": EntryLook(
        "schedule", "warning", lambda body: f"{body.get('name')} deleted", is_act=True
    ),
}

FEATURE = Feature(
    face=schedules.FEATURE,
    actions=ACTIONS,
    lists=(
        SystemList(
            name=NAME,
            action="schedules",
            opens="the schedules",
            read=_read,
            line=views.line,
            screen="helmr_console.features.schedules.screens:SchedulesScreen",
        ),
    ),
    entries=ENTRIES,
)
