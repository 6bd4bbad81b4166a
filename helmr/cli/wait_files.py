"""The files of a wait: listed, and saved to a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmr.attachments import checked_name
from helmr.cli import arguments, listing, printing
from helmr.cli.app import Cli, Json, command
from helmr.cli.arguments import replacing
from helmr.errors import PayloadDamaged, UsageError
from helmr.models import Attachment, Page
from helmr.wire.durations import spell_bytes

if TYPE_CHECKING:
    from helmr.client import Client

COLUMNS = ("id", "name", "type", "size")
EXAMPLES = """\
helmr wait files last
helmr wait files wait_01… --out review"""


def register_wait_files(app: typer.Typer) -> None:
    """Add the command to the group `wait`."""
    command(app, "files", examples=EXAMPLES)(files)


def files(
    cli: Cli,
    wait: arguments.Wait,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FOLDER", help="Save them there."),
    ] = None,
    json: Json = False,
) -> None:
    """List the files of a wait, or save them to a folder; what is there already stays."""
    with cli.client() as client:
        found = client.waits.get(arguments.wait(client, wait))
        given = found.evidence.attachments if found.evidence is not None else []
        if out is not None:
            for one, path in _places(out, given):
                _save(client, found.id, one, path)
                printing.note(f"helmr: {one.id} saved to {path}")
            return
    listing.show(
        lambda after, count: Page[Attachment](items=given),
        listing.ListTable(columns=COLUMNS, row=_row, nothing="it has no files"),
        listing.Wanted(every=True, json=json),
    )


def _row(one: Attachment) -> tuple[str, ...]:
    return one.id, one.name, one.type, spell_bytes(one.size)


def _places(out: Path, given: list[Attachment]) -> list[tuple[Attachment, Path]]:
    """Return each file with a path of its own. Names that a runtime sends are not trusted.

    Raises:
        UsageError: One is there already.
    """
    taken: set[str] = set()
    places = []
    for one in given:
        name = checked_name(one.name)
        if name.casefold() in taken:
            name = f"{one.id} {name}"
        taken.add(name.casefold())
        places.append((one, out / name))
    for _, path in places:
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is there already", hint="Name a folder that is empty.")
    return places


def _save(client: Client, wait_id: str, one: Attachment, path: Path) -> None:
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, is_private=True) as file:
        for piece in client.waits.attachment(wait_id, attachment=one.id):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != one.sha256:
            raise PayloadDamaged(f"{one.id} is not what was stored", attachment_id=one.id)
