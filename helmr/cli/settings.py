"""`helmr config` shows the settings that `helmr up` would start with here, each with the place that it is from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from helmr.cli import arguments, printing
from helmr.cli.app import CommandWithExamples, Json
from helmr.cli.config import (
    CONFIG_NAME,
    form_of,
    form_to_start,
    limits_table,
    links_table,
    log_peer_of,
    notices_table,
    people_table,
    retention_of,
    sections_of,
    tasks_of_project,
)
from helmr.cli.up_options import (
    FORM,
    File,
    Folder,
    UpFlags,
    options_of_file,
    place_of,
    source_of,
    values_of,
)
from helmr.errors import UsageError
from helmr.hash_seed import DATA_DIR
from helmr.version import check_extra

EXAMPLES = """\
helmr config
helmr config --data-dir /var/lib/helmr --json"""
DEFAULT = "default"


def register_config(app: typer.Typer) -> None:
    """Add the command."""
    app.command("config", cls=CommandWithExamples, epilog=EXAMPLES)(config)


def config(
    ctx: typer.Context, data_dir: Folder = DATA_DIR, config: File = None, as_json: Json = False
) -> None:
    """Check helmr.toml, and show what `helmr up` would start with: each setting, and where it is from."""
    check_extra("local")
    place = place_of(ctx, data_dir)
    check_file(config, place)
    rows = [
        {"name": name, "value": value, "from": source}
        for name, value, source in _settings(ctx, config, place)
    ]
    file = config if config is not None else place.absolute().parent / CONFIG_NAME
    if as_json:
        printing.write_json({"file": str(file) if file.exists() else None, "settings": rows})
        return
    printing.table(
        ("SETTING", "VALUE", "FROM"),
        [(row["name"], _spelled(row["value"]), row["from"]) for row in rows],
    )


def check_file(config: Path | None, data_dir: Path) -> None:
    """Read each table of the file with what a runtime reads it with, secrets of notices too.

    Raises:
        UsageError: A runtime could not start with it.
    """
    from helmr_runtime.notices.secrets import Secrets
    from helmr_runtime.notices.targets import for_people, read_targets
    from helmr_runtime.security.people import read_people

    for read in (
        options_of_file,
        log_peer_of,
        sections_of,
        limits_table,
        links_table,
        retention_of,
    ):
        read(config, data_dir)
    people = read_people(people_table(config, data_dir), CONFIG_NAME)
    for target in read_targets(*notices_table(config, data_dir)):
        for_people(target, people).check(Secrets(os.environ))


def _settings(
    ctx: typer.Context, config: Path | None, place: Path
) -> list[tuple[str, object, str]]:
    """Name, value and source of each, as `helmr up` without further words would take them."""
    root = ctx.find_root()
    command: Any = root.command
    words = ["--data-dir", str(place), *(("--config", str(config)) if config is not None else ())]
    up = command.get_command(root, "up").make_context("up", words, parent=ctx)
    file = config.name if config is not None else CONFIG_NAME
    try:
        values_of(UpFlags(**up.params))
        if up.params["payload"] != "-":  # else standard input, which is not here
            arguments.json_argument(up.params["payload"], option="--payload")
    except UsageError as error:  # no words were typed: it is the file's
        raise UsageError(f"{file}: {error.message}", hint=error.hint) from error
    variables = {one.name: one.envvar for one in up.command.params}
    places = {"COMMANDLINE": "command line", "DEFAULT_MAP": file}

    def source(of: typer.Context, name: str) -> str:
        found = source_of(of, name)
        return str(variables[name]) if found == "ENVIRONMENT" else places.get(found, DEFAULT)

    tasks = tasks_of_project(Path.cwd())
    form = form_of(config, place)
    of_its_own = {
        "tasks": ("tasks", tasks, "pyproject.toml" if tasks else DEFAULT),
        "data_dir": ("data_dir", str(place.absolute()), source(ctx, "data_dir")),
        "in_process": (FORM, form_to_start(config, place), DEFAULT if form is None else file),
    }
    return [
        of_its_own.get(name, (name, value, source(up, name)))
        for name, value in up.params.items()
        if name != "config"
    ]


def _spelled(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
