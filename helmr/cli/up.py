"""`helmr up`, `dev`, `down` and `takeover`: a runtime in the foreground, one that follows its files, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from helmr import hash_seed, platform
from helmr.cli import arguments, printing
from helmr.cli.app import Cli, ExitCode, command
from helmr.cli.config import (
    CONFIG_NAME,
    RuntimeForm,
    built_in_tasks,
    form_of,
    form_to_start,
    limits_table,
    links_table,
    log_peer_of,
    log_url_of,
    named_tasks,
    notices_table,
    people_table,
    retention_of,
    sections_of,
)
from helmr.cli.environment import strange_variables
from helmr.cli.up_options import (
    CheckMode,
    DevFlags,
    LogFormat,
    UpFlags,
    add_start,
    source_of,
    values_of,
)
from helmr.errors import Conflict, NotAllowed, RuntimeNotFound, Unavailable, UsageError
from helmr.version import check_extra
from helmr.wire import durations

if TYPE_CHECKING:
    from helmr.client import Endpoint
    from helmr.models import Health

LEDGER_NAME = "ledger.duckdb"
METRICS_ARE_SCRAPED = (
    "helmr: --otel sends traces; a collector scrapes metrics from /metrics (docs/monitoring.md#opentelemetry). "
    "OTEL_METRICS_EXPORTER=none says that you know"
)
WITHOUT_RAY = (
    "helmr: Ray is not installed, so this one process runs everything. "
    "For tasks in processes of their own: pip install 'helmr[runtime]'"
)


UP_EXAMPLES = """\
helmr up tasks.py
helmr up billing.tasks review.tasks --port 4400 --data-dir /var/lib/helmr"""


def register_up(app: typer.Typer) -> None:
    """Add the command."""
    add_start(app, "up", UpFlags, up, examples=UP_EXAMPLES)


def up(ctx: typer.Context, options: UpFlags) -> None:
    """Run a runtime in the foreground, until Ctrl-C or `helmr down`."""
    values = values_of(options)
    data = arguments.json_argument(options.payload, option="--payload")
    config, place = options.config, options.data_dir
    note_strange_variables(place)
    in_process, lacks_ray = options.in_process, False
    if in_process is None:
        in_process = (
            options.address is None and form_to_start(config, place) is RuntimeForm.IN_PROCESS
        )
        lacks_ray = in_process and form_of(config, place) is None
    check_extra("local" if in_process else "runtime")
    named = named_tasks(options.tasks, also=built_in_tasks(config, place))
    if in_process:
        hash_seed.start_with_seed(place)
    if lacks_ray:
        printing.note(WITHOUT_RAY)
    from helmr_runtime import tracing
    from helmr_runtime.process.spec import Ensured

    if options.check is not CheckMode.NO:
        _check_first(named, options)
    is_asked = source_of(ctx, "otel") == "COMMANDLINE"
    if is_asked and not tracing.is_off("metrics", os.environ):
        printing.note(METRICS_ARE_SCRAPED)
    _run(
        named,
        place,
        config,
        host=options.host,
        port=options.port,
        hosts=options.hosts,
        sessions_per_host=options.sessions_per_host,
        host_memory_bytes=values.host_memory_bytes,
        linger_s=values.linger_s,
        address=options.address,
        external_url=options.external_url,
        encrypts=options.encrypt,
        serves_http=options.http,
        trusted_proxies=values.trusted_proxies,
        transport=options.transport.value,
        traces=options.otel and not tracing.is_off("traces", os.environ),
        json_logs=options.log_format is LogFormat.JSON,
        in_process=in_process,
        log_url=options.log,
        log_peer=log_peer_of(config, place) if options.log is not None else None,
        ensured=(
            Ensured(task=options.ensure, external_id=options.external_id, payload=data)
            if options.ensure is not None and options.external_id is not None
            else None
        ),
    )


def note_strange_variables(place: Path) -> None:
    """Note variables of the environment that no part of Helmr reads."""
    if strange := strange_variables(os.environ, place.absolute().parent / CONFIG_NAME):
        printing.note(f"helmr: {strange}")


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
        links={one.label: one.url for one in links_table(config, data_dir)},
        **options,
    )
    raise typer.Exit(run_up(asked))


def _check_first(tasks: list[str], options: UpFlags) -> None:
    """Check the runs of the data directory, as `--check` says.

    Raises:
        UsageError: The runs are elsewhere, or may be executing.
    """
    if options.log is not None:
        raise UsageError(
            "--check looks at runs in the data directory, and this runtime's are in the store of its log",
            hint="Leave out --check.",
        )
    if options.address is not None:
        raise UsageError(
            "--check looks at a runtime that is stopped, and --address may find it running",
            hint="Run `helmr check` against it first.",
        )
    _check(tasks, options.data_dir, is_strict=options.check is CheckMode.REFUSE)


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


DEV_EXAMPLES = """\
helmr dev tasks.py
helmr dev tasks.py --port 4400"""


def register_dev(app: typer.Typer) -> None:
    """Add the command."""
    add_start(app, "dev", DevFlags, dev, examples=DEV_EXAMPLES)


def dev(ctx: typer.Context, options: DevFlags) -> None:
    """Run tasks while you write them: in one process, and start again when one of their files changes."""
    check_extra("local")
    config, place = options.config, options.data_dir
    note_strange_variables(place)
    named = named_tasks(options.tasks, also=built_in_tasks(config, place))
    hash_seed.start_with_seed(place)
    _run(
        named,
        place,
        config,
        host=options.host,
        port=options.port,
        in_process=True,
        reloads=True,
        log_url=log_url_of(config, place),
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
