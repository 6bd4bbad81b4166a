"""`helmr session export|verify|replay`: a session as a signed file, what it is worth, and whether code fits it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from helmr.cli import describe, finding, printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.exit_codes import ExitCode
from helmr.cli.reading import open_source, source_name
from helmr.cli.session import Session
from helmr.cli.writing import replacing
from helmr.errors import UsageError

KEYS_FILE_BYTES_MAX = 64 * 1024

File = Annotated[
    str, typer.Argument(metavar="FILE|-", help="A session file, as `session export` writes it.")
]


VERIFY_EXAMPLES = """\
helmr key public > helmr.pub
helmr session verify review.jsonl --key @helmr.pub"""


def register(app: typer.Typer) -> None:
    """Add the commands to the group `session`."""
    command(app, "export", examples="helmr session export ses_01h4 -o review.jsonl")(export)
    command(app, "verify", examples=VERIFY_EXAMPLES)(verify)
    command(app, "replay", examples="helmr session replay review.jsonl tasks.py")(replay)


def export(
    cli: Cli,
    session: Session,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write there instead of stdout."),
    ] = None,
) -> None:
    """Write a session with all its payloads to a signed file; needs the role admin."""
    with cli.client(is_patient=True) as client:
        handle = client.sessions.open(finding.session(client, session))
        if out is None:
            _copy(handle.export(), sys.stdout.buffer)
            return
        with replacing(out, is_private=True) as file:
            size_bytes = _copy(handle.export(), file)
    printing.note(f"helmr: {handle.id} written to {out}, {size_bytes} bytes")


def verify(
    cli: Cli,
    file: File,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="PUB|@FILE",
            help="A public key of the runtime, or a file of them; may be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that a session file is as it was written and, with a key, who signed it. Needs no runtime."""
    from helmr_runtime.core.session_file import FileReader
    from helmr_runtime.security.signatures import check_signature

    keys = [text for given in key or () for text in _keys(given)]
    with opened(file) as lines:
        checked = FileReader(lines).checked
    signed_by = check_signature(checked, keys) if key else None
    header = checked.header
    found: dict[str, Any] = {
        "session_id": header["session_id"],
        "task": header["task"],
        "helmr": header["helmr"],
        "code_hash": header["code_hash"],
        "entries": checked.entries,
        "signed_by": signed_by,
    }
    if json:
        printing.write_json(found)
        return
    printing.fields(
        [
            ("session", header["session_id"]),
            ("task", header["task"]),
            ("helmr", header["helmr"]),
            ("code hash", header["code_hash"]),
            ("entries", checked.entries),
            (
                "signature",
                f"good, of {signed_by}"
                if signed_by
                else "unsigned: no --key says whose signature it must bear",
            ),
        ]
    )


def replay(
    cli: Cli,
    file: File,
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASKS", help="Files or dotted modules with tasks."),
    ],
    json: Json = False,
) -> None:
    """Replay a session file's newest run with this code; ends with 5 if it does not fit. Needs no runtime.

    The code runs here, up to where the run has come, and no step of it.
    """
    from helmr.testing.recorded import check_recorded
    from helmr_runtime.catalog import load_registry
    from helmr_runtime.clock import SystemClock
    from helmr_runtime.core.session_file import read_session

    with opened(file) as lines:
        recorded = read_session(lines)
    with redirect_stdout(sys.stderr):  # what the code prints is not the answer
        registry, _ = load_registry(tuple(tasks), folder=Path.cwd())
        known = registry.tasks.get(recorded.task)
        code = known.task if known is not None else None
        found = asyncio.run(check_recorded(recorded, code, clock=SystemClock()))
    printing.show(found, describe.check_fields, json)
    if not found.fits:
        raise typer.Exit(ExitCode.CONFLICT)


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """A session file that an argument names; its lines are read one by one."""
    if file == "-":
        yield sys.stdin.buffer
        return
    with open_source(f"@{file}") as found:
        yield found


def _copy(pieces: Iterator[bytes], file: BinaryIO) -> int:
    size_bytes = 0
    for piece in pieces:
        size_bytes += file.write(piece)
    file.flush()
    return size_bytes


def _keys(given: str) -> list[str]:
    if not given.startswith("@"):
        return [given]
    with open_source(given) as file:
        text = file.read(KEYS_FILE_BYTES_MAX).decode("ascii", "replace")
    keys = text.split()
    if not keys:
        raise UsageError(
            f"{source_name(given)} holds no key", hint="`helmr key public` prints the runtime's."
        )
    return keys
