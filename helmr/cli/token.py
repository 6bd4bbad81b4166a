"""`helmr token` makes tokens, shows, completes and cancels them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from helmr.cli import arguments, describe, nouns
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.arguments import Said, Words
from helmr.errors import UsageError
from helmr.wire.operations import CANCEL_TOKEN, GET_TOKEN

if TYPE_CHECKING:
    from helmr.tokens import Verify

app = group("Make tokens, look at them, complete and cancel them.")


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
    facts: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="An object of what helps to decide."),
    ] = None,
    links: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE|-", help="A list of addresses, or an object from labels to them."
        ),
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE|-", help="A unified diff of what would change."),
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
                arguments.json_object(metadata, option="--metadata")
                if metadata is not None
                else None
            ),
            schema=(
                arguments.json_argument(schema, option="--schema") if schema is not None else None
            ),
            raw=raw,
            verify=_verify(verify, verify_secret),
            subject=subject,
            body=arguments.read_source(body).decode("utf-8") if body is not None else None,
            initial=(
                arguments.json_argument(initial, option="--initial")
                if initial is not None
                else None
            ),
            facts=arguments.json_object(facts, option="--facts") if facts is not None else None,
            links=arguments.json_argument(links, option="--links") if links is not None else None,
            diff=arguments.read_source(diff).decode("utf-8") if diff is not None else None,
        )
    describe.show(receipt, json)


def _verify(scheme: str | None, source: str | None) -> Verify | None:
    from helmr.tokens import Verify

    if scheme is None or source is None:
        return None
    if source != "-" and not source.startswith("@"):
        raise UsageError(
            "--verify-secret takes @file or - for standard input",
            hint="Other users of the machine can read arguments.",
        )
    secret = arguments.read_source(source).decode("utf-8").strip()
    return Verify(scheme=cast("Any", scheme), secret=secret)


nouns.add_list(app, nouns.TOKEN, "List tokens, newest first.")
nouns.add_call(
    app,
    nouns.TOKEN,
    "get",
    GET_TOKEN,
    "Show a token with what it asks, and its data once it is completed.",
)


@command(app, "complete")
def complete(
    cli: Cli,
    token: arguments.Token,
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
        token_id = arguments.token(client, token)
        value = said.value
        if said.needs_schema:
            found = client.tokens.get(token_id)
            value = said.to(found.json_schema, found.initial)
        receipt = client.tokens.complete(token_id, value)
    describe.show(receipt, json)


nouns.add_call(app, nouns.TOKEN, "cancel", CANCEL_TOKEN, "Cancel a token and the waits on it.")
