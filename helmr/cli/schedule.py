"""`helmr schedule …`: what starts sessions by the clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from helmr.cli import describe, listing, printing, values
from helmr.cli.app import All, Cli, Cursor, Json, Limit, command, group

app = group(
    "Start sessions by the clock: make schedules, look at them, pause, run and delete them."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


class Missed(StrEnum):
    """What `--missed` takes."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What `--overlap` takes."""

    SKIP = "skip"
    ALLOW = "allow"


@command(app, "list")
def list_(
    cli: Cli,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: All = False,
    output: listing.Output = listing.ListForm.TABLE,
    json: Json = False,
) -> None:
    """List schedules by name, with when each is due next."""
    with cli.client() as client:
        listing.show(
            lambda after, count: client.schedules.page(limit=count, cursor=after),
            listing.ListTable(
                columns=describe.COLUMNS,
                row=describe.row,
                name=lambda one: one.name,
            ),
            listing.Wanted(limit=limit, cursor=cursor, every=every, json=json, output=output),
        )


@command(app, "get")
def get(cli: Cli, name: Name, json: Json = False) -> None:
    """Show a schedule in full."""
    with cli.client() as client:
        printing.show(client.schedules.get(name), describe.fields, json)


@command(
    app,
    "create",
    examples="""helmr schedule create nightly sweep --cron "0 3 * * mon-fri" --zone Europe/Berlin
helmr schedule create poll fetch --every 15m --payload '{"source": "billing"}'""",
)
def create(
    cli: Cli,
    name: Name,
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
    data = values.json_argument(payload, option="--payload")
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
    printing.show(made, describe.fields, json)


@command(app, "pause")
def pause(cli: Cli, name: Name, json: Json = False) -> None:
    """Pause a schedule until it is resumed, also over restarts."""
    with cli.client() as client:
        printing.show(client.schedules.pause(name), describe.fields, json)


@command(app, "resume")
def resume(cli: Cli, name: Name, json: Json = False) -> None:
    """Resume a paused schedule; due times during the pause do not count as missed."""
    with cli.client() as client:
        printing.show(client.schedules.resume(name), describe.fields, json)


@command(app, "run")
def run(cli: Cli, name: Name, json: Json = False) -> None:
    """Start a session now, as the schedule would; its due times stay as they are."""
    with cli.client() as client:
        started = client.schedules.run(name)
        printing.show(started, lambda one: describe.session_fields(one.session), json)


@command(app, "delete")
def delete(cli: Cli, name: Name, json: Json = False) -> None:
    """Delete a schedule that no code declares; the sessions that it started stay."""
    with cli.client() as client:
        printing.show(client.schedules.delete(name), describe.deleted_fields, json)
