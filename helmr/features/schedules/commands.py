"""`helmr schedule`: make schedules, look at them, pause, run and delete them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from helmr.cli import arguments, describe, listing, nouns
from helmr.cli.app import Cli, Json, command, group
from helmr.features.schedules.operations import (
    DELETE_SCHEDULE,
    GET_SCHEDULE,
    LIST_SCHEDULES,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    RUN_SCHEDULE,
)
from helmr.models import ScheduleInfo, ScheduleReceipt

app = group(
    "Start sessions by the clock: make schedules, look at them, pause, run and delete them."
)


class Missed(StrEnum):
    """Values of `--missed`."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """Values of `--overlap`."""

    SKIP = "skip"
    ALLOW = "allow"


COLUMNS = ("NAME", "STATUS", "WHEN", "NEXT DUE", "LAST DUE", "LAST", "TASK")


def row(one: ScheduleInfo) -> tuple[object, ...]:
    """Cells of `COLUMNS`."""
    return (
        one.name,
        one.status,
        one.when,
        describe.time_text(one.next_due_at),
        describe.time_text(one.last_due_at),
        one.last_outcome,
        one.task,
    )


def in_full(one: ScheduleInfo) -> describe.Fields:
    """A schedule in full."""
    return [
        ("schedule", one.name),
        ("status", one.status),
        ("task", one.task),
        ("when", one.when),
        ("next due", describe.time_and_distance(one.next_due_at)),
        ("last due", describe.time_and_distance(one.last_due_at)),
        ("last outcome", one.last_outcome),
        ("last session", one.last_session_id),
        ("missed times", one.missed),
        ("overlap", one.overlap),
        ("payload", describe.value_text(one.payload)),
        ("declared in", one.declared_in),
        ("created", describe.time_and_distance(one.created_at)),
    ]


describe.also_shown(ScheduleInfo, in_full)
describe.also_shown(ScheduleReceipt, lambda one: [("deleted", one.name)])

NAME = typer.Argument(
    metavar="NAME",
    help="The schedule's name.",
    autocompletion=arguments.offers(
        lambda client: ((one.name, one.task) for one in client.schedules.list())
    ),
)
SCHEDULE = nouns.Noun(
    lists=LIST_SCHEDULES,
    table=listing.ListTable(columns=COLUMNS, row=row, name=lambda one: one.name),
    argument=Annotated[str, NAME],
)

nouns.add_list(
    app,
    SCHEDULE,
    "List schedules by name, with when each is due next. One that code declares has its task's id as its name.",
)
nouns.add_call(app, SCHEDULE, "get", GET_SCHEDULE, "Show a schedule in full.")


@command(
    app,
    "create",
    examples="""helmr schedule create nightly sweep --cron "0 3 * * mon-fri" --zone Europe/Berlin
helmr schedule create poll fetch --every 15m --payload '{"source": "billing"}'""",
)
def create(
    cli: Cli,
    name: Annotated[str, NAME],
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
    nouns.add_call(app, SCHEDULE, _name, _row, _text)
