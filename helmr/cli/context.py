"""`helmr context` names runtimes for `--at NAME` and `HELMR_AT`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, Json, command, group
from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr.client.profiles import Context


app = group("Name runtimes, for --at NAME.")

CONTEXT_COLUMNS = ("", "NAME", "URL", "KEY FILE", "ON BEHALF OF")
OTHERS = 0o077

Name = Annotated[str, typer.Argument(metavar="NAME", help="What you call it.")]


@command(app, "list", finds_runtime=False)
def list_(cli: Cli, json: Json = False) -> None:
    """List the named runtimes; `*` marks the one that HELMR_AT names."""
    from helmr.client.profiles import read_contexts

    known = [one for _, one in sorted(read_contexts(os.environ).items())]
    if json:
        printing.write_json({"items": [_parts(one) for one in known], "next_cursor": None})
    elif known:
        printing.table(CONTEXT_COLUMNS, [_row(one) for one in known])
    else:
        printing.note("no runtime has a name: helmr context add NAME --url URL --key-file FILE")


@command(
    app,
    "add",
    finds_runtime=False,
    examples="helmr context add prod-eu --url https://helmr.eu.example.com --key-file prod-eu.key",
)
def add(cli: Cli, name: Name, json: Json = False) -> None:
    """Name the runtime of --url, --key-file and --on-behalf-of; a name that exists is changed."""
    from helmr.client.profiles import Context, add_context

    if cli.url is None:
        raise UsageError("a context needs the runtime's URL", hint="--url URL --key-file FILE")
    if cli.data_dir is not None:
        raise UsageError("a context names a runtime by its URL", hint="Leave --data-dir out.")
    key_file = str(cli.key_file.resolve()) if cli.key_file is not None else None
    made = Context(name=name, url=cli.url, key_file=key_file, on_behalf_of=cli.on_behalf_of)
    was_there = add_context(os.environ, made)
    _warn(cli.key_file)
    if json:
        printing.write_json(_parts(made))
    else:
        printing.write_done(f"{name} is {made.url} {'now' if was_there else ''}".rstrip())


@command(app, "remove", finds_runtime=False)
def remove(cli: Cli, name: Name, json: Json = False) -> None:
    """Forget a name; the file with the key stays."""
    from helmr.client.profiles import find_context, remove_context

    gone = find_context(os.environ, name)
    remove_context(os.environ, name)
    if json:
        printing.write_json(_parts(gone))
    else:
        printing.write_done(f"{name} is not a context any more")


def _warn(key_file: Path | None) -> None:
    """Say that others can read a key, or that there is none yet."""
    if key_file is None:
        return
    try:
        mode = key_file.stat().st_mode
    except OSError as error:
        printing.note(f"helmr: {key_file} can't be read yet: {error.strerror}")
        return
    if mode & OTHERS:
        printing.note(f"helmr: others can read the key in {key_file}: chmod 600 {key_file}")


def _parts(one: Context) -> dict[str, str | None]:
    return {
        "name": one.name,
        "url": one.url,
        "key_file": one.key_file,
        "on_behalf_of": one.on_behalf_of,
    }


def _row(one: Context) -> tuple[object, ...]:
    mark = "*" if os.environ.get("HELMR_AT") == one.name else " "
    return (mark, one.name, one.url, one.key_file, one.on_behalf_of)
