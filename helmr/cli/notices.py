"""`helmr notices …`: who is told that something waits, and how far each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import describe, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from helmr.models import NoticeRetryReceipt, NoticeTargetInfo, NoticeTestReceipt

app = group("See where notices go; send a test, try again.")

Target = Annotated[str, typer.Argument(metavar="TARGET", help="Its name in helmr.toml.")]

COLUMNS = ("TARGET", "TYPE", "QUEUED", "LATE", "LAST TAKEN", "FAILING SINCE", "ERROR")


@command(app, "list")
def list_(cli: Cli, json: Json = False) -> None:
    """List notice targets, and how far each is."""
    with cli.client() as client:
        targets = client.notices.list()
    if json:
        printing.write_json_list(targets, None)
        return
    printing.table(COLUMNS, [_row(one) for one in targets])
    if not targets:
        printing.note("no notices are sent: helmr.toml names no notice targets")


@command(app, "test")
def send_test(cli: Cli, target: Target, json: Json = False) -> None:
    """Tell a target that this is a test; ends with 6 if it did not take that."""
    with cli.client() as client:
        told = client.notices.test(target)
    printing.show(told, _test_fields, json)
    if not told.taken:
        raise typer.Exit(ExitCode.UNAVAILABLE)


@command(app, "retry")
def retry(cli: Cli, target: Target, json: Json = False) -> None:
    """Try now what a target has not taken."""
    with cli.client() as client:
        printing.show(client.notices.retry(target), _retry_fields, json)


def _row(one: NoticeTargetInfo) -> tuple[object, ...]:
    return (
        one.name,
        one.type,
        one.queued,
        one.late,
        describe.time_text(one.last_taken_at),
        describe.time_text(one.failing_since),
        one.last_error,
    )


def _test_fields(one: NoticeTestReceipt) -> list[tuple[str, object]]:
    taken = "yes" if one.taken else "no"
    return [("target", one.target), ("taken", taken), ("error", one.error)]


def _retry_fields(one: NoticeRetryReceipt) -> list[tuple[str, object]]:
    return [("target", one.target), ("tried now", one.count)]
