"""`helmr doctor` checks what a runtime or a client needs here, and prints a result for each thing.

The first half judges, by pure functions. The second half looks; it changes nothing, and only reads from the runtime
that commands here talk to.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import importlib.util
import os
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, ExitCode, Json, command, now
from helmr.cli.config import (
    CONFIG_NAME,
    RuntimeForm,
    form_of,
    form_to_start,
    links_table,
    otel_of,
    tasks_of_project,
)
from helmr.cli.environment import SAYS_WHICH, strange_variables
from helmr.cli.up import LEDGER_NAME
from helmr.cli.up_options import HOST, PORT
from helmr.errors import HelmrError, NotReady, RuntimeNotFound
from helmr.hash_seed import DATA_DIR
from helmr.link_templates import TRACE_ID
from helmr.version import REQUIRED, ray_untried, version
from helmr.wire.durations import spell, spell_bytes
from helmr.wire.safe_text import one_line

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import Health, NoticeTargetInfo


class CheckResult(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    WARN = "warn"
    """It works, or will, but not as well as it could."""
    FAIL = "fail"
    """Something will not work before this is mended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: the check, its result, and what to do."""

    check: str
    result: CheckResult
    says: str
    todo: str = ""


# --- judging ----------------------------------------------------------------------------------------

PYTHON_LEAST = (3, 11)
PYTHON_TRIED = (3, 13)
"""The newest that the tests have seen."""
FILES_WANTED = 2_048
"""Four for each of the 500 live sessions that a host may have."""
CLOCK_APART_S = 2.0
FUTURE_S = 60.0
"""Files that are written later than now by more than this were written by another clock."""
KEPT_FROM_OTHERS = stat.S_IRWXG | stat.S_IRWXO
TIME_ERROR = 5
"""State that adjtimex(2) returns for a clock that nothing sets."""
HOURS_RIGHT = "Have the machine set its clock by NTP: deadlines go by it."


def judge_python(running: tuple[int, int]) -> Finding:
    """Judge the interpreter's version."""
    text = ".".join(map(str, running))
    if running < PYTHON_LEAST:
        return Finding("python", CheckResult.FAIL, text, "Helmr needs Python 3.11 or newer.")
    if running > PYTHON_TRIED:
        newest = ".".join(map(str, PYTHON_TRIED))
        return Finding("python", CheckResult.WARN, text, f"Helmr is tested with 3.11 to {newest}.")
    return Finding("python", CheckResult.OK, text)


def judge_system(platform: str) -> Finding:
    """Judge the operating system, by its `sys.platform`."""
    if platform == "linux":
        return Finding("system", CheckResult.OK, platform)
    todo = (
        'Run runtimes in one process here, with `form = "in-process"`, and those on Ray on Linux.'
    )
    return Finding(
        "system", CheckResult.WARN, f"{platform}: runtimes are tested on Linux only", todo
    )


def judge_installed(missing: Sequence[str], ray: str | None, form: RuntimeForm) -> Finding:
    """Judge the packages that a runtime needs.

    Args:
        missing: Modules of the extra `local` that are not there.
        ray: Ray's version; None if it is not installed.
        form: Form of the runtime that would start here.
    """
    said = f"helmr {version()}"
    if missing:
        text = f"{said}: the client alone (no module {missing[0]})"
        todo = "To run a runtime here: pip install 'helmr[local]', with Ray 'helmr[runtime]'."
        return Finding("installed", CheckResult.WARN, text, todo)
    if ray is None and form is RuntimeForm.RAY:
        text = f"{said}: `helmr up` would run on Ray, which is not installed"
        todo = "pip install 'helmr[runtime]', or `helmr up --in-process`, or leave the form out of helmr.toml."
        return Finding("installed", CheckResult.WARN, text, todo)
    if ray is not None and (untried := ray_untried(ray)) is not None:
        return Finding("installed", CheckResult.WARN, f"{said}, Ray {ray}", f"{untried}.")
    return Finding("installed", CheckResult.OK, f"{said}, {f'Ray {ray}' if ray else 'without Ray'}")


def judge_private(check: str, path: Path, status: os.stat_result, user: int) -> Finding:
    """Judge a file or folder that must be its owner's alone."""
    if status.st_uid != user:
        text = f"{path} belongs to another user (uid {status.st_uid})"
        return Finding(
            check, CheckResult.FAIL, text, "Run Helmr as that user, or name another folder."
        )
    if mode := stat.S_IMODE(status.st_mode) & KEPT_FROM_OTHERS:
        text = f"{path} is open to other users (mode bits {mode:03o})"
        return Finding(check, CheckResult.FAIL, text, f"chmod go= {path}")
    return Finding(check, CheckResult.OK, str(path))


def judge_disk(free: int, total: int, *, low: int) -> Finding:
    """Judge the disk below the data directory, in bytes; warns below `low`."""
    text = f"{spell_bytes(free)} free of {spell_bytes(total)}"
    if free < low:
        todo = "Make room: when it is full, nothing more is accepted."
        return Finding("disk", CheckResult.WARN, text, todo)
    return Finding("disk", CheckResult.OK, text)


def judge_files(limit: int) -> Finding:
    """Judge the number of files that a process may open."""
    if limit < FILES_WANTED:
        todo = f"ulimit -n {FILES_WANTED}, or fewer live sessions in each host."
        return Finding("files", CheckResult.WARN, f"{limit} open files for a process", todo)
    return Finding("files", CheckResult.OK, f"{limit} open files for a process")


def judge_clock(state: int | None, ahead_s: float, apart_s: float | None) -> Finding:
    """Judge this machine's clock.

    Args:
        state: State that the kernel reports; None if it can't be asked.
        ahead_s: Seconds by which the data directory's newest file is later than now.
        apart_s: Seconds between the runtime's clock and this one.
    """
    if ahead_s > FUTURE_S:
        text = f"the data directory was written {spell(ahead_s)} later than now"
        return Finding("clock", CheckResult.FAIL, text, HOURS_RIGHT)
    if apart_s is not None and abs(apart_s) > CLOCK_APART_S:
        text = f"the runtime's clock is {spell(abs(apart_s))} from this one"
        return Finding("clock", CheckResult.WARN, text, HOURS_RIGHT)
    if state == TIME_ERROR:
        text = "the kernel knows of nothing that sets it"
        return Finding("clock", CheckResult.WARN, text, HOURS_RIGHT)
    return Finding("clock", CheckResult.OK, "set" if state is not None else "can't be asked")


def judge_runtime(health: Health, own: str) -> Iterator[Finding]:
    """Judge the runtime that commands here talk to."""
    if not health.ready:
        because = "; ".join(health.reasons) or "it says no reason"
        yield Finding("runtime", CheckResult.FAIL, f"not ready: {because}", "helmr status --all")
    elif health.version != own:
        text = f"ready, of version {health.version}; this command is {own}"
        yield Finding(
            "runtime", CheckResult.WARN, text, "Upgrade the older one; clients may be newer."
        )
    else:
        yield Finding("runtime", CheckResult.OK, f"ready, version {health.version}")
    for warning in health.warnings:
        yield Finding("runtime", CheckResult.WARN, warning, "docs/monitoring.md says what to do.")


def judge_notices(targets: Sequence[NoticeTargetInfo]) -> Iterator[Finding]:
    """Judge the targets of notices."""
    failing = [one for one in targets if one.failing_since is not None]
    for one in failing:
        text = f"{one.name} has taken nothing lately: {one.last_error or 'it says no reason'}"
        todo = f"helmr notices test {one.name}"
        yield Finding("notices", CheckResult.WARN, text, todo)
    if not failing:
        said = ", ".join(one.name for one in targets)
        yield Finding("notices", CheckResult.OK, said or "none: helmr.toml names no targets")


# --- looking ----------------------------------------------------------------------------------------


def register_doctor(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor", examples="helmr doctor\nhelmr doctor --json")(doctor)


def doctor(cli: Cli, json: Json = False) -> None:
    """Check this machine and print what to fix; exit code 5 if something fails."""
    show(list(look(cli)), json)


def show(found: Sequence[Finding], json: bool) -> None:
    """Print what was found; raises `typer.Exit` with 5 if something fails."""
    is_well = all(one.result is not CheckResult.FAIL for one in found)
    if json:
        printing.write_json({"ok": is_well, "checks": [asdict(one) for one in found]})
    else:
        for one in found:
            printing.write(one_line(f"{one.result:<5} {one.check:<14} {one.says}", None))
            if one.todo:
                printing.write(one_line(f"{'':20} → {one.todo}", None))
    if not is_well:
        raise typer.Exit(ExitCode.CONFLICT)


def look(cli: Cli) -> Iterator[Finding]:
    """Run every check, in the order in which one needs another."""
    data_dir = meant_data_dir(cli)
    missing = missing_modules()
    yield judge_system(sys.platform)
    yield from look_at_installation(data_dir)
    yield _environment(data_dir)
    yield _folder(data_dir)
    if not missing:
        yield _keys(data_dir)
        yield _disk(data_dir)
    yield from _gate()
    yield judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    runtime, apart_s = _runtime(cli)
    if apart_s is None and not missing:
        yield _port()
    yield judge_clock(_clock_state(), _ahead_s(data_dir), apart_s)
    yield from runtime


def look_at_installation(data_dir: Path) -> Iterator[Finding]:
    """Check the installation, and that it can read its configuration files."""
    yield judge_python(sys.version_info[:2])
    form, config = _config(data_dir)
    missing = missing_modules()
    yield judge_installed(missing, _ray_version(), form)
    yield config if missing or config.result is CheckResult.FAIL else _tables(data_dir, config)
    yield _tasks()


def missing_modules() -> list[str]:
    """List the modules that a runtime needs and that are not installed."""
    return [one for one in REQUIRED["local"] if importlib.util.find_spec(one) is None]


def meant_data_dir(cli: Cli) -> Path:
    """The data directory that commands here mean, whether it is there or not."""
    from helmr.client.discovery import nearest_data_dir

    return (cli.data_dir or nearest_data_dir(Path.cwd()) or DATA_DIR).absolute()


def from_error(check: str, error: HelmrError) -> Finding:
    """Return a failed finding with the error's text."""
    return Finding(check, CheckResult.FAIL, printing.error_text(error), error.hint or "")


def _ray_version() -> str | None:
    try:
        return importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return None


def _environment(data_dir: Path) -> Finding:
    """List the variables that name a runtime, without their values: one is a secret."""
    if strange := strange_variables(os.environ, data_dir.parent / CONFIG_NAME):
        return Finding("environment", CheckResult.WARN, strange, "Unset or correct it.")
    found = [name for name in SAYS_WHICH if os.environ.get(name)]
    if not found:
        return Finding(
            "environment", CheckResult.OK, "no HELMR_ variable says which runtime is meant"
        )
    says = "is" if len(found) == 1 else "are"
    return Finding("environment", CheckResult.OK, f"{', '.join(found)} {says} set")


def _config(data_dir: Path) -> tuple[RuntimeForm, Finding]:
    path = data_dir.parent / CONFIG_NAME
    try:
        said, form = form_of(None, data_dir), form_to_start(None, data_dir)
    except HelmrError as error:
        return RuntimeForm.RAY, from_error(CONFIG_NAME, error)
    if not path.exists():
        return form, Finding(CONFIG_NAME, CheckResult.OK, f"none, {path}")
    says = f"{path}, form {said}" if said is not None else f"{path}"
    return form, Finding(CONFIG_NAME, CheckResult.OK, says)


def _tables(data_dir: Path, config: Finding) -> Finding:
    from helmr.cli.settings import check_file

    try:
        check_file(None, data_dir)
    except HelmrError as error:
        return from_error(CONFIG_NAME, error)
    traced = [one.label for one in links_table(None, data_dir) if TRACE_ID in one.names]
    if traced and not otel_of(None, data_dir):
        return Finding(
            CONFIG_NAME,
            CheckResult.WARN,
            f"{traced[0]} of [links] has {{{TRACE_ID}}}, and the file turns no traces on",
            "Write `traces = true` below [otel], or start with --otel: waits leave the link out without traces.",
        )
    return config


def _tasks() -> Finding:
    try:
        named = tasks_of_project(Path.cwd())
    except HelmrError as error:
        return from_error("tasks", error)
    gone = [one for one in named if one.endswith(".py") and not Path(one).is_file()]
    if gone:
        text = f"pyproject.toml names {gone[0]}, and there is no such file"
        return Finding("tasks", CheckResult.FAIL, text, "Mend `[tool.helmr] tasks`.")
    said = ", ".join(named) or "none in pyproject.toml: `helmr up` wants them named"
    return Finding("tasks", CheckResult.OK, said)


def _folder(data_dir: Path) -> Finding:
    try:
        status = data_dir.stat()
    except FileNotFoundError:
        above = next(one for one in data_dir.parents if one.exists())
        if os.access(above, os.W_OK | os.X_OK):
            text = f"{data_dir} is made at the first start"
            return Finding("data directory", CheckResult.OK, text)
        text = f"{data_dir} can't be made: {above} can't be written"
        return Finding(
            "data directory", CheckResult.FAIL, text, "Name another one: --data-dir DIR."
        )
    except OSError as error:
        text = f"{data_dir}: {error.strerror}"
        return Finding(
            "data directory", CheckResult.FAIL, text, "Name another one: --data-dir DIR."
        )
    found = judge_private("data directory", data_dir, status, os.geteuid())
    if found.result is CheckResult.OK and not os.access(data_dir, os.W_OK | os.X_OK):
        todo = f"chmod u+rwx {data_dir}"
        return Finding("data directory", CheckResult.FAIL, f"{data_dir} can't be written", todo)
    return found


def _keys(data_dir: Path) -> Finding:
    from helmr_runtime.process.spec import RING_NAME
    from helmr_runtime.security.keys import read_key_ring

    try:
        ring = read_key_ring(data_dir / RING_NAME, os.environ)
    except HelmrError as error:
        return from_error("keys", error)
    if ring is not None:
        return Finding("keys", CheckResult.OK, f"the newest master key is {ring.newest.id}")
    if (data_dir / LEDGER_NAME).exists():
        text = f"{data_dir / RING_NAME} is missing, and there is a ledger"
        todo = "Put the ring back with which the ledger was written: a new one can't replace it."
        return Finding("keys", CheckResult.FAIL, text, todo)
    return Finding("keys", CheckResult.OK, "made at the first start")


def _gate() -> Iterator[Finding]:
    """Check that the hooks in this user's agent settings are those that this version installs."""
    from helmr.cli.gate_status import installations

    try:
        for one in installations(os.environ):
            says = f"{one.client.value} asks {one.url} ({one.path})"
            if one.is_out_of_date:
                says = (
                    f"{one.path} has hooks of an earlier version: what a rule names can run unasked"
                )
                yield Finding("gate", CheckResult.WARN, says, one.install)
            else:
                yield Finding("gate", CheckResult.OK, says)
    except HelmrError as error:
        yield from_error("gate", error)


def _disk(data_dir: Path) -> Finding:
    from helmr_runtime.service.health import DISK_LOW_BYTES, DISK_LOW_SHARE

    there = next(one for one in (data_dir, *data_dir.parents) if one.exists())
    disk = shutil.disk_usage(there)
    low = int(min(DISK_LOW_BYTES, DISK_LOW_SHARE * disk.total))
    return judge_disk(disk.free, disk.total, low=low)


def _port() -> Finding:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, PORT))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                text = f"{HOST}:{PORT}: {error.strerror}"
                return Finding(
                    "port", CheckResult.FAIL, text, "`helmr up --host HOST` takes another."
                )
            text = f"another program listens on {HOST}:{PORT}"
            return Finding("port", CheckResult.WARN, text, "`helmr up --port 0` takes a free one.")
    return Finding("port", CheckResult.OK, f"{HOST}:{PORT} is free")


def _clock_state() -> int | None:
    """Ask the kernel for the clock's state: 0 to 4 if set, 5 if not; None where there is no such call."""
    try:
        call = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(call(ctypes.create_string_buffer(1_024)))  # `modes` 0: nothing is changed
    return state if state >= 0 else None


def _ahead_s(data_dir: Path) -> float:
    try:
        newest = max((one.stat().st_mtime for one in data_dir.iterdir()), default=0.0)
    except OSError:
        return 0.0
    return newest - now().timestamp()


def _runtime(cli: Cli) -> tuple[list[Finding], float | None]:
    """Check the runtime that commands talk to; also returns its clock's lead in seconds, None without an answer."""
    try:
        with cli.client() as client:
            health = client.health()
            found = [*judge_runtime(health, version()), *_access(client)]
    except (RuntimeNotFound, NotReady) as error:
        result = CheckResult.FAIL if _is_named(cli) else CheckResult.OK
        says = printing.error_text(error)
        return [
            Finding("runtime", result, says, (error.hint or "") if result != "ok" else "")
        ], None
    except HelmrError as error:
        return [from_error("runtime", error)], None
    return found, (health.now - now()).total_seconds() if health.now is not None else 0.0


def _is_named(cli: Cli) -> bool:
    """True if the options or HELMR_URL name a runtime; otherwise none need run."""
    named: tuple[Any, ...] = (cli.url, cli.at, os.environ.get("HELMR_URL"))
    return any(named)


def _access(client: Client) -> Iterator[Finding]:
    try:
        who = client.people.whoami()
        yield Finding("key", CheckResult.OK, f"{who.principal.name}, role {who.role or '-'}")
        yield from judge_notices(client.notices.list())
    except HelmrError as error:
        yield from_error("key", error)
