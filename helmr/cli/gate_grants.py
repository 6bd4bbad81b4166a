"""`helmr gate grant …`: what people have allowed for a while in agents' sessions, so that they are not asked again; and
`helmr gate outcome …`: what became of approved calls, where clients have not said it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import typer

from helmr import ids
from helmr.cli import arguments, describe, nouns
from helmr.cli.app import Cli, Json, command, group
from helmr.errors import UsageError
from helmr.operations import GET_GRANT, REVOKE_GRANT

grant_app = group("Allow an agent's calls for a while; look at what is allowed, and revoke it.")

nouns.add_list(grant_app, nouns.GRANT, "List grants, newest first, those that are over too.")
nouns.add_call(grant_app, nouns.GRANT, "show", GET_GRANT, "Show a grant.")
nouns.add_call(
    grant_app,
    nouns.GRANT,
    "revoke",
    REVOKE_GRANT,
    "Revoke a grant; the agent's next call is asked about.",
)


@command(
    grant_app,
    "create",
    examples="""helmr gate grant create last
helmr gate grant create last --match 'command=git push*' --expires 2h""",
)
def create(
    cli: Cli,
    call: Annotated[
        str,
        typer.Argument(
            metavar="CALL",
            help="The wait or the session of a call; the grant is for its agent and its tool.",
            autocompletion=arguments.waits,
        ),
    ],
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=GLOB",
            help="What an argument must look like, `command=git push*`; may be repeated. Without it: as in this call.",
        ),
    ] = None,
    any_arguments: Annotated[
        bool, typer.Option("--any", help="The tool, whatever it is called with.")
    ] = False,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it counts; 8h if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Allow an agent's calls as this one for a while. The call itself is answered apart."""
    if any_arguments and match:
        raise UsageError("--any and --match exclude each other")
    matches = {} if any_arguments else _matches(match)
    with cli.client() as client:
        if call.startswith(f"{ids.SESSION}_"):
            session_id = arguments.session(client, call)
        else:
            session_id = client.waits.get(arguments.wait(client, call)).session_id
        made = client.grants.create(session_id, matches=matches, expires_in=expires)
    describe.show(made, json)


outcome_app = group("Look at approved calls of which no one knows what became, and say it.")

nouns.add_list(
    outcome_app,
    nouns.OUTCOME,
    "List approved calls of which no one knows what became, newest first.",
)


class SaidOutcome(StrEnum):
    """Possible outcomes of a call."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOT_MADE = "not-made"


_SAID: Mapping[SaidOutcome, Literal["succeeded", "failed", "not_made"]] = {
    SaidOutcome.SUCCEEDED: "succeeded",
    SaidOutcome.FAILED: "failed",
    SaidOutcome.NOT_MADE: "not_made",
}
"""Names of the outcomes in the API."""


@command(outcome_app, "say", examples="helmr gate outcome say ses_01kb… not-made")
def say(
    cli: Cli,
    call: arguments.Session,
    outcome: Annotated[
        SaidOutcome, typer.Argument(metavar="OUTCOME", help="succeeded, failed or not-made")
    ],
    json: Json = False,
) -> None:
    """Say what became of an approved call, as far as you have found out; the first word counts."""
    with cli.client() as client:
        found = client.outcomes.say(arguments.session(client, call), outcome=_SAID[outcome])
    describe.show(found, json)


def _matches(said: list[str] | None) -> dict[str, list[str]] | None:
    if not said:
        return None
    found: dict[str, list[str]] = {}
    for one in said:
        name, equals, glob = one.partition("=")
        if not name or not equals:
            raise UsageError(f"{one!r} names no argument", hint="Write --match 'command=git *'.")
        found.setdefault(name, []).append(glob)
    return found
