"""`helmr up`, `dev`, `down` and `takeover`: a runtime in the foreground, one that follows its files, its end."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from helmr import durations, hash_seed, platform
from helmr.cli import arguments, printing
from helmr.cli.app import Cli, CommandWithExamples, ExitCode, command
from helmr.cli.config import (
    CONFIG_NAME,
    RuntimeForm,
    built_in_tasks,
    form_of,
    form_to_start,
    limits_table,
    log_peer_of,
    log_url_of,
    named_tasks,
    notices_table,
    otel_of,
    people_table,
    retention_of,
    sections_of,
)
from helmr.cli.environment import strange_variables
from helmr.errors import Conflict, NotAllowed, RuntimeNotFound, Unavailable, UsageError
from helmr.hash_seed import DATA_DIR
from helmr.version import check_extra
from helmr.whereabouts import DATA_DIR_VARIABLE

if TYPE_CHECKING:
    from helmr.client import Endpoint
    from helmr.models import Health

PORT = 4356
HOST = "127.0.0.1"
LEDGER_NAME = "ledger.duckdb"
METRICS_ARE_SCRAPED = (
    "helmr: --otel sends traces; a collector scrapes metrics from /metrics (docs/monitoring.md#opentelemetry). "
    "OTEL_METRICS_EXPORTER=none says that you know"
)
WITHOUT_RAY = (
    "helmr: Ray is not installed, so this one process runs everything. "
    "For tasks in processes of their own: pip install 'helmr[runtime]'"
)


class Transport(StrEnum):
    """Values of `--transport`."""

    SOCKETS = "sockets"
    RAY = "ray"


class LogFormat(StrEnum):
    """Values of `--log-format`."""

    TEXT = "text"
    JSON = "json"


class CheckMode(StrEnum):
    """Values of `--check`."""

    NO = "no"
    WARN = "warn"
    REFUSE = "refuse"


Tasks = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TASKS…",
        help="Files or dotted modules with tasks; else `[tool.helmr] tasks` of pyproject.toml.",
    ),
]
Host = Annotated[str, typer.Option(metavar="HOST", help="Where HTTP listens.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes a free one.")]
Folder = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        envvar=DATA_DIR_VARIABLE,
        show_envvar=False,
        help="Where sessions are stored. [env: HELMR_DATA_DIR]",
    ),
]

UP_EXAMPLES = """\
helmr up tasks.py
helmr up billing.tasks review.tasks --port 4400 --data-dir /var/lib/helmr"""


def register_up(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", cls=CommandWithExamples, epilog=UP_EXAMPLES)(up)


def up(
    ctx: typer.Context,
    tasks: Tasks = None,
    host: Host = HOST,
    port: Port = PORT,
    data_dir: Folder = DATA_DIR,
    hosts: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of host processes; one for every two cores if not given.",
        ),
    ] = None,
    sessions_per_host: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Live sessions in one host, at most; 500 if not given.",
        ),
    ] = None,
    host_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that a host may allocate before another host replaces it, such as 4GB; a "
            "quarter of the machine's memory if not given. Not with --in-process.",
        ),
    ] = None,
    linger: Annotated[
        str, typer.Option(metavar="DURATION", help="How long a waiting session stays in memory.")
    ] = "30s",
    external_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="What links to tokens begin with if there is a proxy."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR",
            help="Believe X-Forwarded-For and X-Forwarded-Proto from this network; may be given again.",
        ),
    ] = None,
    encrypt: Annotated[
        bool | None,
        typer.Option(
            "--encrypt/--no-encrypt",
            help="Encrypt the payloads of new entries; the data directory remembers it.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Start the runtime in this Ray cluster and return; `auto` is this machine's cluster. If you "
            "run it again, it repairs what is missing or has changed.",
        ),
    ] = None,
    http: Annotated[
        bool,
        typer.Option(
            "--http/--no-http", help="Serve HTTP; without it, only the cluster reaches the runtime."
        ),
    ] = True,
    otel: Annotated[
        bool,
        typer.Option(
            "--otel",
            help="Send OpenTelemetry traces to where the OTEL_ variables say.",
        ),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar="HELMR_LOG_FORMAT",
            help="Format of the lines in its log files.",
            show_default=True,
        ),
    ] = LogFormat.TEXT,
    transport: Annotated[
        Transport,
        typer.Option(help="How its processes on one machine call each other."),
    ] = Transport.SOCKETS,
    in_process: Annotated[
        bool | None,
        typer.Option(
            "--in-process/--ray",
            help="Without Ray, all in one process: starts in a second, for code that you trust. If neither is given, "
            "`form` below [runtime] in helmr.toml decides, else it is Ray where that is installed.",
        ),
    ] = None,
    ensure: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Also start a session of this task, unless one is open as --external-id.",
        ),
    ] = None,
    external_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The external id of the session of --ensure.")
    ] = None,
    payload: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="The payload for the task of --ensure.")
    ] = "null",
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Store commits in this bucket or PostgreSQL instead of beside the database, as `url` below [log] in "
            "helmr.toml does.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file that says where notices go; helmr.toml beside the data directory if not given.",
        ),
    ] = None,
    check: Annotated[
        CheckMode,
        typer.Option(
            help="Before the start, replay every run that has not ended; if this code would block any, "
            "`refuse` to start or only `warn`."
        ),
    ] = CheckMode.NO,
) -> None:
    """Run a runtime in the foreground, until Ctrl-C or `helmr down`."""
    _check_ensured(ensure, external_id, address)
    data = arguments.json_argument(payload, option="--payload")
    linger_s = durations.seconds(linger, allow_zero=True)
    proxies = tuple(network(text) for text in trusted_proxy or ())
    place = _place(ctx, data_dir)
    lacks_ray = False
    if in_process is None:
        in_process = address is None and form_to_start(config, place) is RuntimeForm.IN_PROCESS
        lacks_ray = in_process and form_of(config, place) is None
    check_extra("local" if in_process else "runtime")
    named = named_tasks(tasks, also=built_in_tasks(config, place))
    if in_process:
        hash_seed.start_with_seed(place)
    if lacks_ray:
        printing.note(WITHOUT_RAY)
    from helmr_runtime import tracing
    from helmr_runtime.process.spec import Ensured

    log_url = log or log_url_of(config, place)
    if check is not CheckMode.NO:
        if log_url is not None:
            raise UsageError(
                "--check looks at runs in the data directory, and this runtime's are in the store of its log",
                hint="Leave out --check.",
            )
        if address is not None:
            raise UsageError(
                "--check looks at a runtime that is stopped, and --address may find it running",
                hint="Run `helmr check` against it first.",
            )
        _check(named, place, is_strict=check is CheckMode.REFUSE)
    if otel and not tracing.is_off("metrics", os.environ):
        printing.note(METRICS_ARE_SCRAPED)
    _run(
        named,
        place,
        config,
        host=host,
        port=port,
        hosts=hosts,
        sessions_per_host=sessions_per_host,
        host_memory_bytes=durations.size_bytes(host_memory) if host_memory is not None else None,
        linger_s=linger_s,
        address=address,
        external_url=external_url,
        encrypts=encrypt,
        serves_http=http,
        trusted_proxies=proxies,
        transport=transport.value,
        traces=(otel or otel_of(config, place)) and not tracing.is_off("traces", os.environ),
        json_logs=log_format is LogFormat.JSON,
        in_process=in_process,
        log_url=log_url,
        log_peer=log_peer_of(config, place) if log_url is not None else None,
        ensured=(
            Ensured(task=ensure, external_id=external_id, payload=data)
            if ensure is not None and external_id is not None
            else None
        ),
    )


def _place(ctx: typer.Context, data_dir: Path) -> Path:
    """Return the data directory to start on; notes variables that no part of Helmr reads.

    The command line, before or after the command, takes precedence over the environment.
    """
    shared: Cli = ctx.find_root().obj
    source = ctx.get_parameter_source("data_dir")
    is_said = source is not None and source.name == "COMMANDLINE"
    place = shared.data_dir if shared.data_dir is not None and not is_said else data_dir
    if strange := strange_variables(os.environ, place.absolute().parent / CONFIG_NAME):
        printing.note(f"helmr: {strange}")
    return place


def _check_ensured(task: str | None, external_id: str | None, address: str | None) -> None:
    if (task is None) != (external_id is None):
        raise UsageError(
            "--ensure and --external-id belong together",
            hint="`--ensure TASK --external-id ID` keeps one session of a task.",
        )
    if task is not None and address is not None:
        raise UsageError(
            "--ensure is for a runtime in the foreground",
            hint="`helmr session start TASK --external-id ID` does the same for one in a cluster.",
        )


def _run(tasks: list[str], data_dir: Path, config: Path | None, **options: Any) -> NoReturn:
    """Run a runtime with these options of `UpOptions`, and what `helmr.toml` says.

    Raises:
        typer.Exit: It has ended.
    """
    from helmr_runtime.launchers.startup import UpOptions
    from helmr_runtime.launchers.supervisor import run_up
    from helmr_runtime.notices.targets import read_targets

    asked = UpOptions(
        tasks=tuple(tasks),
        data_dir=data_dir,
        notices=read_targets(*notices_table(config, data_dir)),
        retention=retention_of(config, data_dir),
        sections=sections_of(config, data_dir),
        people=people_table(config, data_dir),
        limits=limits_table(config, data_dir),
        **options,
    )
    raise typer.Exit(run_up(asked))


def _check(tasks: list[str], data_dir: Path, *, is_strict: bool) -> None:
    """Run `helmr check` in a process of its own: the tasks' code leaves nothing behind in this one.

    Raises:
        typer.Exit: It could not, or some run does not fit and that is to be obeyed.
    """
    if not (data_dir / LEDGER_NAME).is_file():
        return
    command = [sys.executable, "-m", "helmr.cli", "check", *tasks, "--data-dir", str(data_dir)]
    environ = {name: value for name, value in os.environ.items() if name != "HELMR_URL"}
    code = subprocess.run(command, env=environ, check=False).returncode
    if code == ExitCode.CONFLICT and not is_strict:
        printing.note("helmr: starting all the same: the runs above will be blocked")
    elif code:
        if code == ExitCode.CONFLICT:
            printing.error_lines(
                "this code would block the runs above; nothing was started",
                "Mend it, or start with `--check warn`.",
            )
        raise typer.Exit(code)


def network(text: str) -> str:
    """An address or a network, as a network.

    Raises:
        UsageError: It is neither.
    """
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError as error:
        raise UsageError(
            f"--trusted-proxy {text!r} is not an address or network: {error}",
            hint="Give it as 10.1.2.3 or 10.1.2.0/24.",
        ) from error


DEV_EXAMPLES = """\
helmr dev tasks.py
helmr dev tasks.py --port 4400"""


def register_dev(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dev", cls=CommandWithExamples, epilog=DEV_EXAMPLES)(dev)


def dev(
    ctx: typer.Context,
    tasks: Tasks = None,
    host: Host = HOST,
    port: Port = PORT,
    data_dir: Folder = DATA_DIR,
) -> None:
    """Run tasks while you write them: in one process, and start again when one of their files changes."""
    check_extra("local")
    place = _place(ctx, data_dir)
    named = named_tasks(tasks, also=built_in_tasks(None, place))
    hash_seed.start_with_seed(place)
    _run(
        named,
        place,
        None,
        host=host,
        port=port,
        in_process=True,
        reloads=True,
        log_url=log_url_of(None, place),
    )


def register_down(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "down")(down)


def down(
    cli: Cli,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait until it has ended.")
    ] = "30s",
) -> None:
    """Stop the runtime and wait until it has ended: it parks its sessions and loses nothing."""
    timeout_s = durations.seconds(timeout)
    data_dir = _joined_data_dir(cli)
    if data_dir is not None:
        _leave(data_dir)
    else:
        _end_process(cli, timeout_s)


def _joined_data_dir(cli: Cli) -> Path | None:
    """The data directory that is meant, if a Ray cluster has its runtime."""
    from helmr.client.discovery import JOINED_FILE, nearest_data_dir, with_process

    if cli.url is None and not os.environ.get("HELMR_URL"):
        data_dir = cli.data_dir or nearest_data_dir(Path.cwd())
        if data_dir is not None:
            return data_dir if (data_dir / JOINED_FILE).exists() else None
    found = with_process(cli.endpoint()).data_dir
    if found is None or not (Path(found) / JOINED_FILE).exists():
        return None
    return Path(found)


def _leave(data_dir: Path) -> None:
    check_extra("runtime")
    from helmr_runtime.launchers.deploy_cluster import leave
    from helmr_runtime.process.output import Terminal

    address = leave(data_dir.resolve(), Terminal())
    printing.write(f"The runtime on {data_dir} has ended in the Ray cluster at {address}.")


def _take_over(data_dir: Path) -> None:
    check_extra("runtime")
    from helmr_runtime.launchers.deploy_cluster import take_over
    from helmr_runtime.process.output import Terminal

    take_over(data_dir.resolve(), Terminal())


def _end_process(cli: Cli, timeout_s: float) -> None:
    endpoint = _own_process(cli)
    started = _signal(endpoint, signal.SIGTERM)
    assert endpoint.pid is not None
    if not platform.await_end(endpoint.pid, started=started, within_s=timeout_s):
        raise Unavailable(
            f"the runtime at {endpoint.url} (pid {endpoint.pid}) has not ended within "
            f"{durations.spell(timeout_s)}",
            hint="It may still be parking sessions; ask again.",
        )
    printing.write(f"{endpoint.url} has ended (pid {endpoint.pid}).")


def _own_process(cli: Cli) -> Endpoint:
    from helmr.client.discovery import with_process

    endpoint = with_process(cli.endpoint())
    if endpoint.pid is None:
        raise UsageError(
            f"{endpoint.url} is not a runtime that this user started on this machine",
            hint="Say that to the one on its own machine.",
        )
    return endpoint


def _signal(endpoint: Endpoint, number: int) -> int:
    """Send a signal to the runtime's process; returns its start time, as `helmr.platform.look` gives it."""
    assert endpoint.pid is not None
    found = platform.look(endpoint.pid)
    try:
        if found is not None and platform.send_signal(endpoint.pid, number, started=found[1]):
            return found[1]
    except PermissionError as error:
        raise NotAllowed(f"pid {endpoint.pid} belongs to another user") from error
    raise RuntimeNotFound(f"the runtime at {endpoint.url} has just ended")


def register_takeover(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "takeover")(takeover)


LOOK_S = 0.1


def takeover(
    cli: Cli,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait until it has taken over.")
    ] = "30s",
) -> None:
    """Make this machine's standby the primary now. The old primary stops accepting commits."""
    timeout_s = durations.seconds(timeout)
    endpoint = _own_process(cli)
    with cli.client() as client:
        if not _stands_by(client.health()):
            raise Conflict(
                f"the runtime at {endpoint.url} does not stand by",
                hint="`helmr status` says what it does.",
            )
        # The one that it is for may have ended a moment ago, and this one be at work: it takes no notice then.
        data_dir = _joined_data_dir(cli)
        if data_dir is None:
            _signal(endpoint, signal.SIGUSR1)
        else:
            _take_over(data_dir)
        until_s = time.monotonic() + timeout_s
        while not (health := client.health()).ready:
            if time.monotonic() >= until_s:
                raise Unavailable(
                    f"{endpoint.url} has not taken over within {durations.spell(timeout_s)}: "
                    f"{'; '.join(health.reasons)}",
                    hint="It goes on trying; `helmr status` says how far it is.",
                )
            time.sleep(LOOK_S)
    printing.write(f"{endpoint.url} has taken over.")


def _stands_by(health: Health) -> bool:
    return "standby" in health.degraded
