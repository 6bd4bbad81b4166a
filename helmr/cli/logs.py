"""`helmr logs` follows what a runtime's hosts and code have logged."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from helmr.cli import arguments, printing
from helmr.cli.app import Cli, command
from helmr.errors import UsageError
from helmr.wire.safe_text import plain

LOGS = "logs"
PATTERNS = ("helmr-host-*.log", "in-process*.log")
"""The files that hosts write; ledger, directory and gateway run no code of sessions."""

BYTES_MAX = 16 * 1024 * 1024
"""Read from the end of each file."""

POLL_S = 0.3
LOGGED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) [A-Z]+ (\S+) ")
PRINTED = re.compile(r"(ses_[0-9a-z]{26}) \| ")
WHOLE = re.compile(r"ses_[0-9a-z]{26}")

EXAMPLES = """\
helmr logs --follow
helmr logs last"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, its time (for printed text that of the last logged line) and its session."""

    logged_at: str
    session_id: str
    text: str


class LogFile:
    """A log file that is read on from where it was left, under whatever name it has by then."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        status = os.fstat(self._file.fileno())
        self.number = status.st_ino
        self._file.seek(max(0, status.st_size - BYTES_MAX))
        self._rest = b""
        self._logged_at = ""
        self._session_id = ""

    def read(self) -> list[Line]:
        """The whole lines that have come since."""
        *lines, self._rest = (self._rest + self._file.read(BYTES_MAX)).split(b"\n")
        return [self._line(line.decode(errors="replace")) for line in lines]

    def close(self) -> None:
        """Read no more."""
        self._file.close()

    def _line(self, text: str) -> Line:
        """Parse a line; one without time and session, as in a traceback, takes those of the line before."""
        if text.startswith("{") and (told := _told(text)) is not None:
            self._logged_at, self._session_id, text = told
            return Line(self._logged_at, self._session_id, text)
        if logged := LOGGED.match(text):
            self._logged_at, self._session_id = logged[1], logged[2]
        elif printed := PRINTED.match(text):
            self._session_id = printed[1]
        return Line(self._logged_at, self._session_id, text)


class Logs:
    """The log files of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / LOGS
        self._files: dict[int, LogFile] = {}

    def read(self, session_id: str | None) -> list[Line]:
        """Return the lines since the last read, of one session or all, by time."""
        there = set()
        for pattern in PATTERNS:
            for path in sorted(self._folder.glob(pattern)):
                with suppress(FileNotFoundError):
                    there.add(self._number(path))
        lines = [line for file in self._files.values() for line in file.read()]
        for number in self._files.keys() - there:
            self._files.pop(number).close()
        lines.sort(key=lambda line: line.logged_at)
        return [line for line in lines if session_id in (None, line.session_id)]

    def close(self) -> None:
        """Read no more."""
        for file in self._files.values():
            file.close()

    def _number(self, path: Path) -> int:
        """Return the file's number, which identifies it after a rotation too; an open file's number is not reused."""
        file = LogFile(path)
        if self._files.setdefault(file.number, file) is not file:
            file.close()
        return file.number


def _told(line: str) -> tuple[str, str, str] | None:
    """Time, session and text of a line of a file that is written as JSON; None of any other."""
    try:
        said = json.loads(line)
        at = str(said["time"]).replace("T", " ").replace(".", ",").rstrip("Z")
        session_id = str(said["session"] or "-")
        text = f"{at} {said['level']} {session_id} {said['logger']}: {said['message']}"
    except (ValueError, KeyError, TypeError):
        return None
    exception = said.get("exception")
    return at, session_id, text if exception is None else f"{text}\n{exception}"


def register_logs(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "logs", examples=EXAMPLES)(logs)


def logs(
    cli: Cli,
    session: Annotated[
        str | None,
        typer.Argument(metavar="[SESSION]", help="Only the lines of this session's code."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new lines as they come, until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option(min=0, metavar="N", help="The newest N lines, at most.")
    ] = 1_000,
) -> None:
    """Show what tasks and their hosts logged and printed on this machine; needs no running runtime."""
    with closing(Logs(_data_dir(cli))) as found:
        session_id = _session_id(cli, session) if session is not None else None
        first = found.read(session_id)
        _show(first[max(0, len(first) - lines) :])
        while follow:
            time.sleep(POLL_S)
            _show(found.read(session_id))


def _show(lines: list[Line]) -> None:
    for line in lines:
        printing.write(plain(line.text, None))


def _session_id(cli: Cli, text: str) -> str:
    """A whole id needs no runtime."""
    if WHOLE.fullmatch(text):
        return text
    with cli.client() as client:
        return arguments.session(client, text)


def _data_dir(cli: Cli) -> Path:
    from helmr.client.discovery import nearest_data_dir, with_process

    if cli.url is None and not os.environ.get("HELMR_URL"):
        near = cli.data_dir or nearest_data_dir(Path.cwd())
        if near is not None:
            return near
    endpoint = with_process(cli.endpoint())
    if endpoint.data_dir is None:
        raise UsageError(
            f"{endpoint.url} is not a runtime of this machine: its logs are where it runs",
            hint="Name a data directory with --data-dir.",
        )
    return Path(endpoint.data_dir)
