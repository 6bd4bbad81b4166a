"""A session file keeps a session outside its runtime: it is exported, verified and replayed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from helmr.cli import arguments, describe, printing
from helmr.cli.app import Cli, ExitCode, Json, command
from helmr.cli.arguments import open_source, replacing, source_name
from helmr.errors import SessionFileDamaged, UsageError

if TYPE_CHECKING:
    from helmr_runtime.security.signed_answers import RecordedAnswer
    from helmr_runtime.security.sshsig import AllowedSigner


KEYS_FILE_BYTES_MAX = 64 * 1024
SIGNERS_FILE_BYTES_MAX = 16 * 1024 * 1024

File = Annotated[
    str, typer.Argument(metavar="FILE|-", help="A session file, as `session export` writes it.")
]


VERIFY_EXAMPLES = """\
helmr key public > helmr.pub
helmr session verify review.jsonl --key @helmr.pub
helmr session verify review.jsonl --key @helmr.pub --allowed-signers allowed_signers"""


def register_session_file(app: typer.Typer) -> None:
    """Add the commands to the group `session`."""
    command(app, "export", examples="helmr session export ses_01h4 -o review.jsonl")(export)
    command(app, "verify", examples=VERIFY_EXAMPLES)(verify)
    command(app, "replay", examples="helmr session replay review.jsonl tasks.py")(replay)


def export(
    cli: Cli,
    session: arguments.Session,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write there instead of stdout."),
    ] = None,
) -> None:
    """Write a session with all its payloads to a signed file; needs the role admin."""
    with cli.client(is_patient=True) as client:
        handle = client.sessions.open(arguments.session(client, session))
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
            metavar="PUB|FILE",
            help="A public key of the runtime, or a file of them; may be repeated.",
        ),
    ] = None,
    allowed_signers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Whose keys may sign answers: an allowed-signers file of OpenSSH.",
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write what was signed, and the signatures, for `ssh-keygen -Y verify`.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that a session file is unchanged, who signed it, and who signed each answer. Needs no runtime."""
    from helmr_runtime.core.session_file import FileReader
    from helmr_runtime.security.file_signatures import check_signature
    from helmr_runtime.security.signed_answers import recorded_answers

    keys = [text for given in key or () for text in _keys(given)]
    allowed = _allowed(allowed_signers) if allowed_signers is not None else None
    with opened(file) as lines:
        reader = FileReader(lines)
        header = reader.header
        answers = []
        for one in recorded_answers(reader.entries(), str(header["session_id"]), allowed):
            if write is not None:
                _write_signed(one, write)
            answers.append(replace(one, signed=None, sshsig=None))
        checked = reader.checked
    signed_by = check_signature(checked, keys) if key else None
    found: dict[str, Any] = {
        "session_id": header["session_id"],
        "task": header["task"],
        "helmr": header["helmr"],
        "code_hash": header["code_hash"],
        "entries": checked.entries,
        "signed_by": signed_by,
        "answers": [_answer_json(one) for one in answers],
    }
    if json:
        printing.write_json(found)
    else:
        _show_verified(found, answers, is_compared=allowed is not None)
    wrong = [one for one in answers if one.problem is not None]
    if wrong:
        raise SessionFileDamaged(
            f"{len(wrong)} of {len(answers)} answers are not as their people signed them: "
            f"entry {wrong[0].seq}: {wrong[0].problem}",
            hint="Keep the file as it is, and ask those people.",
        )


def _show_verified(
    found: Mapping[str, Any], answers: Sequence[RecordedAnswer], *, is_compared: bool
) -> None:
    signed_by = found["signed_by"]
    printing.fields(
        [
            ("session", found["session_id"]),
            ("task", found["task"]),
            ("helmr", found["helmr"]),
            ("code hash", found["code_hash"]),
            ("entries", found["entries"]),
            (
                "signature",
                f"good, of {signed_by}"
                if signed_by
                else "unsigned: no --key says whose signature it must bear",
            ),
        ]
    )
    if answers:
        printing.write("")
        printing.table(
            ("ENTRY", "WAIT", "ASKED", "BY", "WHAT", "SIGNED"),
            [_answer_row(one, is_compared=is_compared) for one in answers],
        )


def _answer_row(one: RecordedAnswer, *, is_compared: bool) -> tuple[object, ...]:
    signed = "no"
    if one.problem is not None:
        signed = f"BAD: {one.problem}"
    elif one.principal is not None:
        signed = f"good, by {one.principal} with {one.key}"
    elif one.key is not None:
        signed = f"with {one.key}: no --allowed-signers say whose that is"
    assert not is_compared or one.key is None or one.principal or one.problem
    by = f"{one.person} for {one.deputy_for}" if one.deputy_for is not None else one.person
    return (one.seq, one.wait_id, one.subject, by, one.said, signed)


def _answer_json(one: RecordedAnswer) -> dict[str, Any]:
    names = ("seq", "wait_id", "subject", "said", "person", "key", "principal", "problem")
    found = {name: getattr(one, name) for name in names}
    return found if one.deputy_for is None else {**found, "deputy_for": one.deputy_for}


def _write_signed(one: RecordedAnswer, folder: Path) -> None:
    """`SEQ.json` and `SEQ.sig` of a signed answer, in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if one.signed is not None and one.sshsig is not None:
            (folder / f"{one.seq}.json").write_bytes(one.signed)
            (folder / f"{one.seq}.sig").write_text(one.sshsig)
    except OSError as error:
        raise UsageError(f"{folder} can't be written: {error.strerror or error}") from error


def _allowed(file: Path) -> list[AllowedSigner]:
    from helmr_runtime.security.sshsig import read_allowed_signers

    with open_source(f"@{file}") as found:
        text = found.read(SIGNERS_FILE_BYTES_MAX).decode("utf-8", "replace")
    return read_allowed_signers(text.splitlines())


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

    The code runs here, up to where the run is, but none of its steps.
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
    describe.show(found, json)
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
    if not given.startswith("@") and Path(given).is_file():
        given = f"@{given}"
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
