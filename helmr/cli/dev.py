"""`helmr dev`: a runtime in one process that starts again when task files change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from helmr import hash_seed
from helmr.cli import config, extras, looks, up
from helmr.cli.app import Cli

EXAMPLES = """\
helmr dev tasks.py
helmr dev tasks.py --port 4400"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dev", cls=looks.Command, epilog=EXAMPLES)(dev)


def dev(
    ctx: typer.Context,
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASKS…",
            help="Files or dotted modules with tasks; else `[tool.helmr] tasks` of pyproject.toml.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Where HTTP listens.")] = up.HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="PORT", help="0 takes a free one.")
    ] = up.PORT,
    data_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where sessions are stored.")
    ] = up.DATA_DIR,
) -> None:
    """Run tasks while you write them: in one process, and again whenever one of their files changes."""
    shared: Cli = ctx.find_root().obj
    named = up.named_tasks(tasks)
    extras.check("runtime")
    place = shared.data_dir or data_dir
    hash_seed.start_with_seed(place)
    from helmr_runtime.launchers.startup import UpOptions
    from helmr_runtime.launchers.supervisor import run_up
    from helmr_runtime.notices.targets import read_targets

    options = UpOptions(
        tasks=tuple(named),
        host=host,
        port=port,
        data_dir=place,
        in_process=True,
        reloads=True,
        notices=read_targets(*config.notices_table(None, place)),
        retention=config.retention_of(None, place),
    )
    raise typer.Exit(run_up(options))
