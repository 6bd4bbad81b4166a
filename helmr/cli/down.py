"""`helmr down`: end a runtime of this machine."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Annotated

import typer

from helmr import durations
from helmr.cli import extras, printing
from helmr.cli.app import Cli, command
from helmr.errors import NotAllowed, RuntimeNotFound, Unavailable, UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "down")(down)


def down(
    cli: Cli,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait until it has ended.")
    ] = "30s",
) -> None:
    """End the runtime: sessions are parked, nothing is lost. Waits until it has ended."""
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
    extras.check("runtime")
    from helmr_runtime.launchers.deploy_cluster import leave
    from helmr_runtime.process.output import Terminal

    address = leave(data_dir.resolve(), Terminal())
    printing.write(f"The runtime on {data_dir} has ended in the Ray cluster at {address}.")


def _end_process(cli: Cli, timeout_s: float) -> None:
    from helmr.client.discovery import with_process

    endpoint = with_process(cli.endpoint())
    if endpoint.pid is None:
        raise UsageError(
            f"{endpoint.url} is no runtime that this user started on this machine",
            hint="End it where it runs.",
        )
    try:
        # A descriptor names this very process, also when its number is used again.
        process = os.pidfd_open(endpoint.pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if not select.select([process], [], [], timeout_s)[0]:
                raise Unavailable(
                    f"the runtime at {endpoint.url} (pid {endpoint.pid}) has not ended within "
                    f"{durations.spell(timeout_s)}",
                    hint="It may still be parking sessions; ask again.",
                )
        finally:
            os.close(process)
    except ProcessLookupError as error:
        raise RuntimeNotFound(f"the runtime at {endpoint.url} has just ended") from error
    except PermissionError as error:
        raise NotAllowed(f"pid {endpoint.pid} belongs to another user") from error
    printing.write(f"{endpoint.url} has ended (pid {endpoint.pid}).")
