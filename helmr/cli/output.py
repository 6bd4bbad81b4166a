"""`helmr output …`: what tasks say to their clients."""

from __future__ import annotations

import itertools
from typing import Annotated

import typer

from helmr.cli import completing, describe, finding, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.models import RecordInfo

app = group("Read what a task writes to its output streams.")

Session = Annotated[
    str,
    typer.Argument(
        metavar="SESSION",
        help="Its id, or part of it, or `last`.",
        autocompletion=completing.sessions,
    ),
]
Stream = Annotated[
    str,
    typer.Argument(
        metavar="STREAM", help="The output stream's name.", autocompletion=completing.outputs
    ),
]
After = Annotated[int, typer.Option(min=0, metavar="SEQ", help="Only records after it.")]


@command(app, "read")
def read(
    cli: Cli,
    session: Session,
    stream: Stream,
    after: After = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Records at most; all if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the records of an output stream."""
    with cli.client() as client:
        output = client.sessions.open(finding.session(client, session)).output(stream)
        records = itertools.islice(output.read(after=after), limit)
        if json:
            printing.write_json_list(records, None)
            return
        for record in records:
            printing.write_line(describe.record_line(record))


@command(app, "follow")
def follow(
    cli: Cli,
    session: Session,
    stream: Stream,
    after: After = 0,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Also what the code emits, which is not stored.")
    ] = False,
    json: Json = False,
) -> None:
    """Show records as they are written, from the beginning, until the session is over or Ctrl-C."""
    with cli.client(is_patient=True) as client:
        output = client.sessions.open(finding.session(client, session)).output(stream)
        for one in output.follow_chunks(after=after) if chunks else output.follow(after=after):
            if json:
                printing.write_json(one)
            elif isinstance(one, RecordInfo):
                printing.write_line(describe.record_line(one))
            else:
                printing.write_line(describe.chunk_line(one))
