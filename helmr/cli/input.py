"""`helmr input …`: send records to a session, one or a file of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import bulk, completing, describe, finding, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.wording import Said, Words
from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr.client import Client

app = group("Send to a session's input streams.")


@command(
    app,
    "send",
    examples="""helmr input send last approval --data '{"decision": "approve"}'
helmr input send SESSION messages --jsonl --data @lines.jsonl --batch monday""",
)
def send(
    cli: Cli,
    session: Annotated[
        str,
        typer.Argument(
            metavar="SESSION",
            help="Its id, or part of it, or `last`.",
            autocompletion=completing.sessions,
        ),
    ],
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM", help="The input stream's name.", autocompletion=completing.inputs
        ),
    ],
    words: Words = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON|@FILE|-", help="What to send; - is standard input."),
    ] = None,
    correlation_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Meets only waits for it, and waits for none.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="A second send with it returns the first.")
    ] = None,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl",
            help="--data (standard input if not given) holds a record per line: "
            '{"data": …, "correlation_id": …, "idempotency_key": …}.',
        ),
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --jsonl: lines without idempotency key get NAME:LINE as theirs, so that "
            "sending them again changes nothing.",
        ),
    ] = None,
    from_line: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --jsonl: begin with this line.")
    ] = 1,
    json: Json = False,
) -> None:
    """Send one record, or with --jsonl one per line, and say what each did."""
    if jsonl:
        if words:
            raise UsageError("the lines have the data", hint="Leave key=value out.")
        if correlation_id is not None or idempotency_key is not None:
            raise UsageError(
                "--correlation-id and --idempotency-key do not go with --jsonl",
                hint="Put them into the lines.",
            )
        code = bulk.send_lines(
            cli, session, stream, source=data or "-", batch=batch, from_line=from_line
        )
        if code:
            raise typer.Exit(code)
        return
    if batch is not None or from_line != 1:
        raise UsageError("--batch and --from-line go with --jsonl only")
    said = Said(words, data)
    if not said:
        raise UsageError(
            "--data is missing", hint="Give key=value, JSON, @file, or - for standard input."
        )
    with cli.client() as client:
        handle = client.sessions.open(finding.session(client, session))
        value = said.value
        if said.needs_schema:
            value = said.to(_schema(client, handle.get().task, stream))
        receipt = handle.input(stream).send(
            value, correlation_id=correlation_id, idempotency_key=idempotency_key
        )
    printing.show(receipt, describe.receipt_fields, json)


def _schema(client: Client, task: str, stream: str) -> dict[str, Any] | bool:
    """Of an input stream; one that there is not takes anything, and the send says so."""
    for one in client.streams.list():
        if one.name == stream and one.direction == "input" and task in one.tasks:
            return one.json_schema
    return True
