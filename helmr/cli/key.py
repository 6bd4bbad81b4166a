"""`helmr key` makes API keys, lists and revokes them, prints public keys and adds a master key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from helmr.cli import describe, nouns, printing
from helmr.cli.app import Cli, Json, command, group, now
from helmr.client.whereabouts import named_data_dir
from helmr.errors import NotFound, UsageError
from helmr.version import needed
from helmr.wire.operations import REVOKE_API_KEY

app = group("Make API keys, look at them and revoke them; print public keys; add a master key.")

RING_NAME = "master-keys.json"


@command(
    app,
    "create",
    examples="""helmr key create --role sender --name app-server
helmr key create --person ada@example.com --expires 90d""",
)
def create(
    cli: Cli,
    role: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="admin, operator, sender, viewer or asker"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Who uses the key; Helmr records the name with all it does."
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            metavar="PERSON",
            help="Whose key it is, by id or e-mail: it may do what they may, and all it does is theirs.",
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it is valid.")
    ] = None,
    json: Json = False,
) -> None:
    """Make an API key of a service, with --role and --name, or of a person; its secret is shown only once."""
    if person is None and (role is None or name is None):
        raise UsageError("a key needs --role and --name, or --person")
    if person is not None and role is not None:
        raise UsageError(
            "--role can't go with --person: a person's key may do what the person may",
            hint="Their role stands in the runtime's helmr.toml.",
        )
    with cli.client() as client:
        receipt = client.keys.create(role, name=name, person=person, expires_in=expires)
    describe.show(receipt, json)


nouns.add_list(app, nouns.KEY, "List API keys, newest first, revoked ones too.")
nouns.add_call(app, nouns.KEY, "revoke", REVOKE_API_KEY, "Revoke an API key; it stops working.")


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
    with needed("local"):
        from helmr_runtime.security.keys import add_master_key
    path = (cli.data_dir or named_data_dir(os.environ) or Path(".helmr")) / RING_NAME
    if not path.is_file():
        raise NotFound(
            f"there are no master keys in {path}", hint="`helmr up` makes one; name --data-dir."
        )
    key_id = add_master_key(path, now=now())
    printing.write(f"added master key {key_id} to {path}; restart the runtime to use it")
