"""`helmr status`, `helmr limit …` and `helmr logs`: is a runtime running and ready, what its limits let through, and
what its code and hosts have logged."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import arguments, describe, listing, nouns, printing
from helmr.cli.app import Cli, ExitCode, Json, command, group
from helmr.durations import spell
from helmr.errors import UsageError
from helmr.operations import LIST_LIMITS
from helmr.safe_text import plain

if TYPE_CHECKING:
    from helmr.client import Endpoint
    from helmr.models import Health, LimitInfo


HOST_COLUMNS = ("NAME", "STATE", "SESSIONS", "ROOM", "PID", "NODE", "SINCE")
"""`NODE` is Ray's id of it, where a runtime has several."""


def register_status(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "status")(status)


def status(
    cli: Cli,
    every: Annotated[
        bool, typer.Option("--all", help="All numbers of pool and ledger, and each host.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the runtime that commands here talk to; exit code 6 if it is not ready."""
    with cli.client() as client:
        endpoint, health = client.endpoint, client.health()
    if json:
        found = {"url": endpoint.url, "found_by": endpoint.found_by, "data_dir": endpoint.data_dir}
        printing.write_json({**found, "health": health.model_dump(mode="json")})
    elif every:
        printing.fields(_fields(endpoint, health))
        if rows := _host_rows(health):
            printing.write("")
            printing.table(HOST_COLUMNS, rows)
    else:
        printing.fields(_in_short(endpoint, health))
    if not health.ready:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _in_short(endpoint: Endpoint, health: Health) -> list[tuple[str, object]]:
    """Is it ready, does work wait for room, do people have to answer; and what is wrong."""
    ready = f"{'yes' if health.ready else 'no'}, {endpoint.url}"
    if health.started_at is not None:
        ready += f", started {printing.distance(health.started_at)}"
    pairs: list[tuple[str, object]] = [
        ("ready", ready),
        *(("because", reason) for reason in health.reasons),
    ]
    if "queue" in health.pool:
        pairs.append(("queue", _queue(health.pool)))
    if waiting := {name: n for name, n in health.pool.get("limits", {}).items() if n}:
        pairs.append(("limits", f"{_listed(waiting)}: helmr limit list"))
    if "waits_pending" in health.counts:
        waits = f"{health.counts['waits_pending']} pending"
        if "sessions_open" in health.counts:
            waits += f", {health.counts['sessions_open']} sessions open"
        pairs.append(("waits", waits))
    if store := health.ledger.get("log_store"):
        pairs.append(("log", store))
    if failed := health.counts.get("sessions_failed"):
        count = f"{failed} {'session' if failed == 1 else 'sessions'}"
        pairs.append(("failed", f"{count}: helmr session list --filter is:failed"))
    pairs += _wrong(health)
    return pairs


def _wrong(health: Health) -> list[tuple[str, object]]:
    """What is wrong in words, and by the names that `docs/monitoring.md` has."""
    pairs: list[tuple[str, object]] = [("warning", one) for one in health.warnings]
    return [*pairs, ("degraded", ", ".join(health.degraded))] if health.degraded else pairs


def _listed(waiting: Mapping[str, int]) -> str:
    """`41 wait for openai, 1 waits for search`."""
    return ", ".join(
        f"{n} {'waits' if n == 1 else 'wait'} for {name}" for name, n in waiting.items()
    )


def _queue(pool: Mapping[str, Any]) -> str:
    count = pool["queue"]
    text = (
        "no run waits for room"
        if not count
        else f"{count} {'run waits' if count == 1 else 'runs wait'} for room"
    )
    oldest_s = pool.get("queue_oldest_s")
    if count and isinstance(oldest_s, int | float):
        text += f", the oldest for {spell(oldest_s)}"
    sessions = pool.get("sessions")
    if isinstance(sessions, Mapping) and "live" in sessions and "room" in sessions:
        text += f"; {sessions['live']} live, room for {sessions['room']} more"
    return text


def _fields(endpoint: Endpoint, health: Health) -> list[tuple[str, object]]:
    shown = ("ready", "host_list", "warnings", "states")
    pool = {name: value for name, value in health.pool.items() if name not in shown}
    return [
        ("url", endpoint.url),
        ("found by", endpoint.found_by),
        ("ready", "yes" if health.ready else "no"),
        *(("because", reason) for reason in health.reasons),
        *_wrong(health),
        ("version", health.version),
        ("pid", endpoint.pid or health.pid),
        ("data dir", health.data_dir or endpoint.data_dir),
        ("started", describe.time_and_distance(health.started_at)),
        *_flat("", pool),
        *_flat("ledger ", health.ledger),
    ]


def _flat(prefix: str, parts: Mapping[str, Any]) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, value in parts.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            pairs += _flat(f"{label} ", value)
        elif value is not None and value != []:
            pairs.append((label, value if isinstance(value, str) else describe.value_text(value)))
    return pairs


def _host_rows(health: Health) -> list[tuple[object, ...]]:
    hosts = health.pool.get("host_list")
    if not isinstance(hosts, list):
        return []
    return [
        tuple(one.get(name.lower()) for name in HOST_COLUMNS)
        for one in hosts
        if isinstance(one, Mapping)
    ]


def limit_row(one: LimitInfo) -> tuple[object, ...]:
    """Cells of a limit: what it has given of how many, and who waits."""
    in_use = f"{one.in_use} of {one.at_once}" if one.at_once is not None else str(one.in_use)
    begun = None
    if one.begun is not None and one.within_s is not None:
        begun = f"{one.begun} of {one.per} in {spell(one.within_s)}"
    since = describe.time_text(one.oldest_at)
    return (one.name, in_use, begun, one.waiting, since, describe.time_text(one.closed_until))


LIMIT = nouns.Noun(
    lists=LIST_LIMITS,
    table=listing.ListTable(
        columns=("NAME", "IN USE", "BEGUN", "WAITING", "SINCE", "CLOSED UNTIL"),
        row=limit_row,
        name=lambda one: one.name,
        nothing="nothing is limited; [limits.NAME] in helmr.toml or a Limit in code limits steps and tasks",
    ),
    argument=Annotated[
        str,
        typer.Argument(metavar="NAME", help="The limit's name.", autocompletion=arguments.limits),
    ],
    watches=True,
)

limit_app = group("See what limits let through, and what waits for them.")
nouns.add_list(
    limit_app,
    LIMIT,
    "List the limits that steps and tasks share, with what is in use and what waits.",
    examples="helmr limit list\nhelmr limit list --watch",
)


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
    """One line, when it was logged (a printed one: the time of the last logged before it), and whose it is."""

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
        """A line that says nothing of itself, of a traceback say, belongs to the one before it."""
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
        """What has come since, of one session or all, by time."""
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
        """By its number a file is known that was moved aside; no other gets it while this one is open."""
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
