"""`helmr schedule` makes schedules, shows, pauses, runs and deletes them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from helmr.cli import arguments, describe, nouns
from helmr.cli.app import Cli, Json, command, group
from helmr.operations import (
    DELETE_SCHEDULE,
    GET_SCHEDULE,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    RUN_SCHEDULE,
)

schedule_app = group(
    "Start sessions by the clock: make schedules, look at them, pause, run and delete them."
)


class Missed(StrEnum):
    """What `--missed` takes."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What `--overlap` takes."""

    SKIP = "skip"
    ALLOW = "allow"


nouns.add_list(schedule_app, nouns.SCHEDULE, "List schedules by name, with when each is due next.")
nouns.add_call(schedule_app, nouns.SCHEDULE, "get", GET_SCHEDULE, "Show a schedule in full.")


@command(
    schedule_app,
    "create",
    examples="""helmr schedule create nightly sweep --cron "0 3 * * mon-fri" --zone Europe/Berlin
helmr schedule create poll fetch --every 15m --payload '{"source": "billing"}'""",
)
def create_schedule(
    cli: Cli,
    name: Annotated[str, nouns.SCHEDULE_NAME],
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task whose sessions it starts.")],
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Minute, hour, day of month, month and day of week, in one argument.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Due at whole multiples of this time, as in 15m."),
    ] = None,
    zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Time zone of --cron, as in Europe/Berlin.")
    ] = "UTC",
    missed: Annotated[
        Missed, typer.Option(help="What to do with due times that passed while no runtime was up.")
    ] = Missed.LATEST,
    overlap: Annotated[
        Overlap, typer.Option(help="What to do if the last session is still active at a due time.")
    ] = Overlap.SKIP,
    payload: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="What the task gets; null if not given.")
    ] = "null",
    json: Json = False,
) -> None:
    """Make a schedule; its due times count from now."""
    data = arguments.json_argument(payload, option="--payload")
    with cli.client() as client:
        made = client.schedules.create(
            name,
            task=task,
            payload=data,
            cron=cron,
            every=every,
            zone=zone,
            missed=missed.value,
            overlap=overlap.value,
        )
    describe.show(made, json)


for _name, _row, _text in (
    ("pause", PAUSE_SCHEDULE, "Pause a schedule until it is resumed, also over restarts."),
    (
        "resume",
        RESUME_SCHEDULE,
        "Resume a paused schedule; due times during the pause do not count as missed.",
    ),
    (
        "run",
        RUN_SCHEDULE,
        "Start a session now, as the schedule would; its due times stay as they are.",
    ),
    (
        "delete",
        DELETE_SCHEDULE,
        "Delete a schedule that no code declares; the sessions that it started stay.",
    ),
):
    nouns.add_call(schedule_app, nouns.SCHEDULE, _name, _row, _text)
