"""`helmr token …`: one-shot tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from helmr.cli import describe, finding, listing, printing, values
from helmr.cli.app import All, Cli, Cursor, Json, Limit, command, group
from helmr.cli.values import Said, Words
from helmr.errors import UsageError

if TYPE_CHECKING:
    from helmr.tokens import Verify

app = group("Make tokens, look at them, complete and cancel them.")

Token = Annotated[
    str,
    typer.Argument(
        metavar="TOKEN", help="Its id, or part of it, or `last`.", autocompletion=finding.tokens
    ),
]


@command(
    app,
    "create",
    examples="""helmr token create --subject "Release 1.2?" --schema '{"enum": ["yes", "no"]}' --timeout 2d""",
)
def create(
    cli: Cli,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it can be completed.")
    ] = "7d",
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="May be repeated.")] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE|-", help="An object to keep with it.")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="The JSON Schema that completions must fit."),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="TEXT", help="One line for the person who answers.")
    ] = None,
    body: Annotated[
        str | None, typer.Option(metavar="TEXT|@FILE|-", help="Markdown for that person.")
    ] = None,
    initial: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="What the form behind its URL begins with."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Its callback URL takes bodies as they are sent.")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME", help="github, slack or standard_webhooks; with --verify-secret."
        ),
    ] = None,
    verify_secret: Annotated[
        str | None,
        typer.Option(metavar="@FILE|-", help="The provider's signing secret."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a token; its callback URL and public token are shown only once."""
    if (verify is None) != (verify_secret is None):
        raise UsageError("--verify and --verify-secret go together")
    with cli.client() as client:
        receipt = client.tokens.create(
            timeout=timeout,
            tags=tag or (),
            metadata=(
                values.json_object(metadata, option="--metadata") if metadata is not None else None
            ),
            schema=(
                values.json_argument(schema, option="--schema") if schema is not None else None
            ),
            raw=raw,
            verify=_verify(verify, verify_secret),
            subject=subject,
            body=values.read_source(body).decode("utf-8") if body is not None else None,
            initial=(
                values.json_argument(initial, option="--initial") if initial is not None else None
            ),
        )
    printing.show(receipt, describe.token_receipt_fields, json)


def _verify(scheme: str | None, source: str | None) -> Verify | None:
    from helmr.tokens import Verify

    if scheme is None or source is None:
        return None
    if source != "-" and not source.startswith("@"):
        raise UsageError(
            "--verify-secret takes @file or - for standard input",
            hint="Other users of the machine can read arguments.",
        )
    secret = values.read_source(source).decode("utf-8").strip()
    return Verify(scheme=cast(Any, scheme), secret=secret)


@command(app, "list")
def list_(
    cli: Cli,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="pending, completed, expired or cancelled"),
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: All = False,
    output: listing.Output = listing.ListForm.TABLE,
    json: Json = False,
) -> None:
    """List tokens, newest first."""
    with cli.client() as client:
        listing.show(
            lambda after, count: client.tokens.page(
                status=status, tag=tag, limit=count, cursor=after
            ),
            listing.ListTable(columns=describe.TOKEN_COLUMNS, row=describe.token_row),
            listing.Wanted(limit=limit, cursor=cursor, every=every, json=json, output=output),
        )


@command(app, "get")
def get(cli: Cli, token: Token, json: Json = False) -> None:
    """Show a token with what it asks, and its data once it is completed."""
    with cli.client() as client:
        printing.show(client.tokens.get(finding.token(client, token)), describe.token_fields, json)


@command(app, "complete")
def complete(
    cli: Cli,
    token: Token,
    words: Words = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON|@FILE|-", help="Its data, as JSON.")
    ] = None,
    json: Json = False,
) -> None:
    """Complete a token; the first completion wins."""
    said = Said(words, data)
    if not said:
        raise UsageError("a completion needs data", hint="key=value, or --data JSON|@FILE|-")
    with cli.client() as client:
        token_id = finding.token(client, token)
        value = said.value
        if said.needs_schema:
            found = client.tokens.get(token_id)
            value = said.to(found.json_schema, found.initial)
        receipt = client.tokens.complete(token_id, value)
    printing.show(receipt, describe.fields_of, json)


@command(app, "cancel")
def cancel(cli: Cli, token: Token, json: Json = False) -> None:
    """Cancel a token and the waits on it."""
    with cli.client() as client:
        printing.show(
            client.tokens.cancel(finding.token(client, token)), describe.token_fields, json
        )
