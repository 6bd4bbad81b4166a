"""`helmr public-token` makes public tokens, lists and revokes them."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import arguments, describe, nouns
from helmr.cli.app import Cli, Json, command, group
from helmr.errors import UsageError
from helmr.wire.operations import REVOKE_PUBLIC_TOKEN

app = group("Make public tokens, look at them and revoke them.")


@command(app, "create")
def create(
    cli: Cli,
    session: Annotated[
        str | None, typer.Option(metavar="SESSION", help="With --input or --output.")
    ] = None,
    input: Annotated[
        str | None, typer.Option(metavar="STREAM", help="It sends to this input stream.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="STREAM", help="It reads this output stream.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="It completes this token.")
    ] = None,
    correlation_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The correlation id of what it sends.")
    ] = None,
    max_uses: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Accepted uses; unlimited if not given.")
    ] = None,
    expires_in: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it is valid.")
    ] = "30d",
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web page that may use it, https://app.example.com; may be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a public token; its secret is shown only once."""
    from helmr import auth

    if [input, output, token].count(None) != 2:
        raise UsageError("give exactly one of --input, --output and --token")
    if (token is None) != (session is not None):
        raise UsageError("--session goes only with --input and --output")
    if correlation_id is not None and input is None:
        raise UsageError("--correlation-id goes with --input")
    with cli.client() as client:
        session = arguments.session(client, session) if session is not None else None
        if input is not None:
            scope = auth.send_to(input, session=session, correlation_id=correlation_id)
        elif output is not None:
            scope = auth.read_from(output, session=session)
        else:
            scope = auth.complete(arguments.token(client, token or ""))
        receipt = client.auth.create_public_token(
            scope=scope,
            max_uses=max_uses,
            expires_in=expires_in,
            allowed_origins=allow_origin or (),
        )
    describe.show(receipt, json)


nouns.add_list(
    app,
    nouns.PUBLIC_TOKEN,
    "List public tokens, newest first, with the uses they have left.",
)
nouns.add_call(
    app,
    nouns.PUBLIC_TOKEN,
    "revoke",
    REVOKE_PUBLIC_TOKEN,
    "Revoke a public token; it stops working.",
)
