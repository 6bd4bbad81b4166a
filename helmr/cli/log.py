"""`helmr log`: the log of commits as a whole, which stands beside the database or in a store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.config import log_url_of
from helmr.cli.toolbox import KeysFile, keys_of, locked, stopped_data_dir
from helmr.cli.up import LEDGER_NAME
from helmr.errors import UsageError
from helmr.version import needed

log_app = group("Where a runtime's commits are stored.")

DISK = "disk"
"""Name for a log that stands beside its database."""

EXAMPLES = """\
helmr log move s3://my-bucket/helmr
helmr log move disk --log s3://my-bucket/helmr"""


def move(
    cli: Cli,
    to: Annotated[
        str,
        typer.Argument(
            metavar="URL|disk",
            help="A store, as `helmr up --log` takes it; or `disk`, beside the database.",
        ),
    ],
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where it stands, for `disk`; `url` below [log] if not given."
        ),
    ] = None,
    keys: KeysFile = None,
    json: Json = False,
) -> None:
    """Move the commits of a stopped runtime into a store, or back to its disk.

    If it is ended in the middle, the ledger is still in one place, and the same command finishes it.
    """
    data_dir = cli.data_dir.absolute() if cli.data_dir is not None else stopped_data_dir(cli)
    with needed("local"), locked(data_dir):
        if to == DISK:
            number = _to_disk(data_dir, log, keys)
        else:
            number = _to_store(data_dir, to, log)
    if json:
        printing.write_json({"commit": number, "to": to.partition("?")[0]})
        return
    if to == DISK:
        printing.write(
            f"The commits of {data_dir} stand beside its database, the last is {number}."
        )
        printing.note("helmr: start it without --log, and take [log] out of helmr.toml")
    else:
        printing.write(f"The commits of {data_dir} stand in that store, the last is {number}.")
        printing.note("helmr: start it with --log, or with `url` below [log] in helmr.toml")


def _to_store(data_dir: Path, url: str, log: str | None) -> int:
    from helmr_runtime.ledger.log.stores import open_log
    from helmr_runtime.ledger.tools.stored_log import move_to_store

    if log is not None:
        raise UsageError(
            "--log says where a log stands that is moved to the disk",
            hint="`helmr log move disk --log URL` first, then `helmr log move URL`.",
        )
    return move_to_store(data_dir / LEDGER_NAME, open_log(url))


def _to_disk(data_dir: Path, log: str | None, keys: Path | None) -> int:
    from functools import partial

    from helmr_runtime.clock import SystemClock
    from helmr_runtime.ledger.log.stores import open_log
    from helmr_runtime.ledger.tools.stored_log import move_to_disk

    url = log or log_url_of(None, data_dir)
    if url is None:
        raise UsageError("move it from where?", hint="Name the store: --log URL.")
    path, ring = data_dir / LEDGER_NAME, keys_of(keys, data_dir)
    return asyncio.run(move_to_disk(path, partial(open_log, url), ring, SystemClock()))


command(log_app, "move", examples=EXAMPLES)(move)
