"""`helmr public-token …`: scoped secrets that a browser may hold."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import describe, finding, listing, printing
from helmr.cli.app import All, Cli, Cursor, Json, Limit, command, group
from helmr.errors import UsageError

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
        raise UsageError("exactly one of --input, --output and --token is wanted")
    if (token is None) != (session is not None):
        raise UsageError("--session goes with --input and --output, and with nothing else")
    if correlation_id is not None and input is None:
        raise UsageError("--correlation-id goes with --input")
    with cli.client() as client:
        session = finding.session(client, session) if session is not None else None
        if input is not None:
            scope = auth.send_to(input, session=session, correlation_id=correlation_id)
        elif output is not None:
            scope = auth.read_from(output, session=session)
        else:
            scope = auth.complete(finding.token(client, token or ""))
        receipt = client.auth.create_public_token(
            scope=scope,
            max_uses=max_uses,
            expires_in=expires_in,
            allowed_origins=allow_origin or (),
        )
    printing.show(receipt, describe.public_token_receipt_fields, json)


@command(app, "list")
def list_(
    cli: Cli,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: All = False,
    output: listing.Output = listing.ListForm.TABLE,
    json: Json = False,
) -> None:
    """List public tokens, newest first, with the uses they have left."""
    with cli.client() as client:
        listing.show(
            lambda after, count: client.auth.page(limit=count, cursor=after),
            listing.ListTable(columns=describe.PUBLIC_TOKEN_COLUMNS, row=describe.public_token_row),
            listing.Wanted(limit=limit, cursor=cursor, every=every, json=json, output=output),
        )


@command(app, "revoke")
def revoke(
    cli: Cli,
    public_token: Annotated[
        str, typer.Argument(metavar="PUBLIC_TOKEN", help="Its id, or part of it, or `last`.")
    ],
    json: Json = False,
) -> None:
    """Revoke a public token; it stops working."""
    with cli.client() as client:
        printing.show(
            client.auth.revoke(finding.public_token(client, public_token)),
            describe.public_token_fields,
            json,
        )
