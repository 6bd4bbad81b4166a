"""`helmr key …`: API keys, and master keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from helmr.cli import describe, finding, listing, printing
from helmr.cli.app import All, Cli, Cursor, Json, Limit, command, group, now
from helmr.errors import NotFound
from helmr.version import needed

app = group("Make API keys, look at them and revoke them; print public keys; add a master key.")

RING_NAME = "master-keys.json"


@command(app, "create")
def create(
    cli: Cli,
    role: Annotated[str, typer.Option(metavar="ROLE", help="admin, operator, sender or viewer")],
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Who uses the key; Helmr records the name with all it does."
        ),
    ],
    json: Json = False,
) -> None:
    """Make an API key; its secret is shown only once."""
    with cli.client() as client:
        receipt = client.keys.create(role, name=name)
    printing.show(receipt, describe.key_receipt_fields, json)


@command(app, "list")
def list_(
    cli: Cli,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: All = False,
    output: listing.Output = listing.ListForm.TABLE,
    json: Json = False,
) -> None:
    """List API keys, newest first, revoked ones too."""
    with cli.client() as client:
        listing.show(
            lambda after, count: client.keys.page(limit=count, cursor=after),
            listing.ListTable(columns=describe.KEY_COLUMNS, row=describe.key_row),
            listing.Wanted(limit=limit, cursor=cursor, every=every, json=json, output=output),
        )


@command(app, "revoke")
def revoke(
    cli: Cli,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or part of it, or `last`.")],
    json: Json = False,
) -> None:
    """Revoke an API key; it stops working."""
    with cli.client() as client:
        printing.show(client.keys.revoke(finding.key(client, key)), describe.key_fields, json)


@command(app, "public", examples="helmr key public > helmr.pub")
def public(cli: Cli, json: Json = False) -> None:
    """Print the public keys that verify the runtime's session files, newest first."""
    with cli.client() as client:
        found = client.keys.public()
    if json:
        printing.write_json_list(found.items, found.next_cursor)
        return
    for one in found.items:
        printing.write_line(one.key)


@command(app, "rotate-master")
def rotate_master(cli: Cli) -> None:
    """Add a master key to the data directory; the runtime takes it at its next start."""
    with needed("runtime"):
        from helmr_runtime.security.keys import add_master_key
    path = (cli.data_dir or Path(".helmr")) / RING_NAME
    if not path.is_file():
        raise NotFound(
            f"there are no master keys in {path}", hint="`helmr up` makes one; name --data-dir."
        )
    key_id = add_master_key(path, now=now())
    printing.write(f"added master key {key_id} to {path}; restart the runtime to use it")
