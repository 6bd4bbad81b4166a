"""`helmr input …` and `helmr output …`: send records to a session, one or a file of them; read what tasks say.

A line of a file is `{"data": …, "correlation_id"?: …, "idempotency_key"?: …}`; empty lines are skipped. A line without
an idempotency key gets `BATCH:LINE`, so that sending it again returns the first receipt (S-26) whatever happened
to the process in between. Each line is reported on stdout as one JSON line: `{line, outcome, duplicate, seq,
record_id, wait_id?}` or `{line, error, message, errors?}`. Progress, summary and how to go on stand on stderr.
"""

from __future__ import annotations

import itertools
import os
import shlex
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from helmr.cli import arguments, describe, printing
from helmr.cli.app import Cli, ExitCode, Json, command, exit_code, group, worst
from helmr.cli.arguments import Said, Words
from helmr.errors import (
    BadJson,
    HelmrError,
    NotAllowed,
    NotFound,
    SessionTerminal,
    TooLarge,
    Unavailable,
    UsageError,
)
from helmr.models import HTTP_BODY_BYTES_MAX, RecordInfo, SendReceipt
from helmr.wire import ids, jsonio

if TYPE_CHECKING:
    from helmr.cli.app import Cli
    from helmr.client import Client, Input


input_app = group("Send to a session's input streams.")


@command(
    input_app,
    "send",
    examples="""helmr input send last approval --data '{"decision": "approve"}'
helmr input send SESSION messages --jsonl --data @lines.jsonl --batch monday""",
)
def send(
    cli: Cli,
    session: arguments.Session,
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM", help="The input stream's name.", autocompletion=arguments.inputs
        ),
    ],
    words: Words = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON|@FILE|-", help="What to send; - is standard input."),
    ] = None,
    correlation_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Matches only waits with this id, and waits without an id."
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="A second send with this key returns the first receipt."),
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
            help="With --jsonl: lines without an idempotency key get NAME:LINE, so that "
            "sending them again changes nothing.",
        ),
    ] = None,
    from_line: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --jsonl: begin with this line.")
    ] = 1,
    json: Json = False,
) -> None:
    """Send one record, or with --jsonl one per line, and say what each did."""
    keys = {"correlation_id": correlation_id, "idempotency_key": idempotency_key}
    if jsonl:
        _check_lines(words, keys)
        code = send_lines(
            cli, session, stream, source=data or "-", batch=batch, from_line=from_line
        )
        if code:
            raise typer.Exit(code)
        return
    if batch is not None or from_line != 1:
        raise UsageError("--batch and --from-line go with --jsonl only")
    describe.show(_send_record(cli, session, stream, Said(words, data), keys), json)


def _check_lines(words: list[str] | None, keys: Mapping[str, str | None]) -> None:
    if words:
        raise UsageError("the lines have the data", hint="Leave key=value out.")
    if any(key is not None for key in keys.values()):
        raise UsageError(
            "--correlation-id and --idempotency-key do not go with --jsonl",
            hint="Put them into the lines.",
        )


def _send_record(
    cli: Cli, session: str, stream: str, said: Said, keys: Mapping[str, str | None]
) -> SendReceipt:
    if not said:
        raise UsageError(
            "--data is missing", hint="Give key=value, JSON, @file, or - for standard input."
        )
    with cli.client() as client:
        handle = client.sessions.open(arguments.session(client, session))
        value = said.value
        if said.needs_schema:
            value = said.to(_schema(client, handle.get().task, stream))
        return handle.input(stream).send(
            value,
            correlation_id=keys["correlation_id"],
            idempotency_key=keys["idempotency_key"],
        )


def _schema(client: Client, task: str, stream: str) -> dict[str, Any] | bool:
    """Return the schema of an input stream; True, any JSON, for an unknown one, which the send refuses."""
    for one in client.streams.list():
        if one.name == stream and one.direction == "input" and task in one.tasks:
            return one.json_schema
    return True


output_app = group("Read what a task writes to its output streams.")

Stream = Annotated[
    str,
    typer.Argument(
        metavar="STREAM", help="The output stream's name.", autocompletion=arguments.outputs
    ),
]
After = Annotated[int, typer.Option(min=0, metavar="SEQ", help="Only records after it.")]


@command(output_app, "read")
def read(
    cli: Cli,
    session: arguments.Session,
    stream: Stream,
    after: After = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Records at most; all if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the records of an output stream."""
    with cli.client() as client:
        output = client.sessions.open(arguments.session(client, session)).output(stream)
        records = itertools.islice(output.read(after=after), limit)
        if json:
            printing.write_json_list(records, None)
            return
        for record in records:
            printing.write_line(describe.record_line(record))


@command(output_app, "follow")
def follow(
    cli: Cli,
    session: arguments.Session,
    stream: Stream,
    after: After = 0,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="Also show what the code emits, which is not stored.")
    ] = False,
    json: Json = False,
) -> None:
    """Show records as they are written, from the beginning, until the session is over or Ctrl-C."""
    with cli.client(is_patient=True) as client:
        output = client.sessions.open(arguments.session(client, session)).output(stream)
        for one in output.follow_chunks(after=after) if chunks else output.follow(after=after):
            if json:
                printing.write_json(one)
            elif isinstance(one, RecordInfo):
                printing.write_line(describe.record_line(one))
            else:
                printing.write_line(describe.chunk_line(one))


STOPS = (NotFound, NotAllowed, SessionTerminal, Unavailable)
"""Errors that the next line would meet as well: sending stops."""

LINE_WORDS = frozenset(("data", "correlation_id", "idempotency_key"))


Advance = Callable[[int], None]
"""Told how many bytes of the source are done."""


@dataclass(slots=True)
class Tally:
    """Counts of the lines so far. `next_line` is where to go on; `stopped` means that lines are left."""

    next_line: int
    sent: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    codes: set[ExitCode] = field(default_factory=set)
    stopped: bool = False


def send_lines(
    cli: Cli, session: str, stream: str, *, source: str, batch: str | None, from_line: int
) -> ExitCode:
    """Send the lines of a source from a line on, and report each; the code is that of the worst line.

    Raises:
        UsageError: The source can't be read.
        KeyboardInterrupt: Ctrl-C, after it was said how to go on.
    """
    batch = batch or ids.new_id("batch")
    tally = Tally(next_line=from_line)
    with arguments.open_source(source) as file, cli.client(is_patient=True) as client:
        session = arguments.session(client, session)
        target = client.sessions.open(session).input(stream)
        printing.note(f"batch {batch}")
        try:
            with _progress(file) as advance:
                _send_all(target, file, batch=batch, tally=tally, advance=advance)
        except (KeyboardInterrupt, printing.ReaderGone, OSError):
            tally.stopped = True
            raise
        finally:
            _summary(tally, _again(cli, session, stream, source=source, batch=batch))
    return worst(tally.codes)


def _send_all(target: Input, file: BinaryIO, *, batch: str, tally: Tally, advance: Advance) -> None:
    for number, line in enumerate(iter(lambda: file.readline(HTTP_BODY_BYTES_MAX + 1), b""), 1):
        if len(line) > HTTP_BODY_BYTES_MAX:
            # The rest of it would pass for lines of its own, and all numbers after it would be wrong.
            raise TooLarge(f"line {number} is longer than {HTTP_BODY_BYTES_MAX} bytes")
        if number >= tally.next_line and line.strip():
            try:
                report = _send_one(target, line, key=f"{batch}:{number}")
            except HelmrError as error:
                report = {"error": error.code, "message": error.message}
                if error.errors:
                    report["errors"] = error.errors
                tally.codes.add(exit_code(error))
                tally.stopped = isinstance(error, STOPS)
            printing.write_json({"line": number, **report})
            if "error" in report:
                tally.refused[report["error"]] += 1
            else:
                tally.sent[report["outcome"]] += 1
            if tally.stopped:
                return
            tally.next_line = number + 1
        advance(len(line))


def _send_one(target: Input, line: bytes, *, key: str) -> dict[str, Any]:
    parts = jsonio.loads(line)
    if not isinstance(parts, dict) or "data" not in parts or not LINE_WORDS.issuperset(parts):
        raise BadJson(
            'a line is an object with "data", and optionally "correlation_id" and "idempotency_key"'
        )
    for word in ("correlation_id", "idempotency_key"):
        if not isinstance(parts.get(word), str | None):
            raise BadJson(f'"{word}" is a text')
    receipt = target.send(
        parts["data"],
        correlation_id=parts.get("correlation_id"),
        idempotency_key=parts.get("idempotency_key") or key,
    )
    report = receipt.model_dump(mode="json", exclude_none=True)
    return {"outcome": report.pop("outcome"), **report}


def _again(cli: Cli, session: str, stream: str, *, source: str, batch: str) -> list[str]:
    words = ["helmr", "input", "send", session, stream, "--jsonl", "--data", source]
    for option, value in (("--url", cli.url), ("--data-dir", cli.data_dir)):
        if value is not None:
            words += [option, str(value)]
    return [*words, "--batch", batch]


def _summary(tally: Tally, command: list[str]) -> None:
    lines = (tally.sent + tally.refused).total()
    text = f"{lines} line{'' if lines == 1 else 's'}"
    if tally.refused:
        told = ((tally.sent, "sent"), (tally.refused, "refused"))
        parts = (f"{found.total()} {word} ({_spelt(found)})" for found, word in told if found)
        printing.note(f"{text}: {', '.join(parts)}")
    else:
        printing.note(f"{text} sent{': ' if lines else ''}{_spelt(tally.sent)}")
    if tally.stopped:
        printing.note(f"go on with: {shlex.join([*command, '--from-line', str(tally.next_line)])}")


def _spelt(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Advance]:
    """A bar on stderr if that is a terminal; report lines on the same terminal go above it."""
    if not printing.is_terminal(sys.stderr):
        yield lambda size_bytes: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    status = os.fstat(file.fileno())
    total = status.st_size if stat.S_ISREG(status.st_mode) else None
    with Progress(
        TextColumn("sending"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=False,
        transient=True,
    ) as progress:
        bar = progress.add_task("sending", total=total)
        yield lambda size_bytes: progress.advance(bar, size_bytes)
