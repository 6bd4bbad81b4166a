"""`helmr gate grant …`: what people have allowed for a while in agents' sessions, so that they are not asked again; and
`helmr gate outcome …`: what became of approved calls, where clients have not said it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import typer

from helmr.cli import arguments, describe, listing, nouns
from helmr.cli.app import Cli, Json, command, group
from helmr.errors import UsageError
from helmr.features.gate.operations import (
    GET_GRANT,
    LIST_GRANTS,
    LIST_UNKNOWN_OUTCOMES,
    REVOKE_GRANT,
)
from helmr.gate.grants import matches_text
from helmr.models import GatedCallInfo, GrantInfo
from helmr.wire import ids

OUTCOME_COLUMNS = ("CALL", "AGENT", "TOOL", "APPROVED")


def outcome_row(one: GatedCallInfo) -> tuple[object, ...]:
    """Cells of `OUTCOME_COLUMNS`."""
    return (
        one.session_id,
        f"{one.client}:{one.agent}",
        one.tool,
        describe.time_text(one.decided_at),
    )


def gated_call_fields(one: GatedCallInfo) -> describe.Fields:
    """A call of an agent."""
    return [
        ("call", one.session_id),
        ("agent", f"{one.client}:{one.agent}"),
        ("tool", one.tool),
        ("verdict", one.verdict),
        ("decided", describe.time_and_distance(one.decided_at)),
        ("outcome", one.outcome),
    ]


GRANT_COLUMNS = ("ID", "AGENT", "TOOL", "ALLOWS", "BY", "CREATED", "EXPIRES", "REVOKED")


def grant_row(one: GrantInfo) -> tuple[object, ...]:
    """Cells of `GRANT_COLUMNS`."""
    times = (describe.time_text(at) for at in (one.created_at, one.expires_at, one.revoked_at))
    agent = f"{one.client}:{one.agent}"
    return (
        one.id,
        agent,
        one.tool,
        matches_text(one.matches),
        describe.who(one.created_by),
        *times,
    )


def grant_fields(one: GrantInfo) -> describe.Fields:
    """A standing grant."""
    return [
        ("grant", one.id),
        ("client", one.client),
        ("agent", one.agent),
        ("asked by", one.asker),
        ("tool", one.tool),
        ("allows", matches_text(one.matches)),
        ("given at", one.session_id),
        ("by", describe.who(one.created_by)),
        ("created", describe.time_and_distance(one.created_at)),
        ("expires", describe.time_and_distance(one.expires_at)),
        ("revoked", describe.time_and_distance(one.revoked_at)),
    ]


describe.also_shown(GatedCallInfo, gated_call_fields)
describe.also_shown(GrantInfo, grant_fields)

OUTCOME = nouns.Noun(
    lists=LIST_UNKNOWN_OUTCOMES,
    table=listing.ListTable(
        columns=OUTCOME_COLUMNS,
        row=outcome_row,
        name=lambda one: one.session_id,
        nothing="the outcome of every approved call is known",
    ),
    argument=arguments.Session,
    find=arguments.session,
)
GRANT = nouns.Noun(
    lists=LIST_GRANTS,
    table=listing.ListTable(columns=GRANT_COLUMNS, row=grant_row, nothing="nothing is granted"),
    argument=Annotated[str, arguments.argument("GRANT")],
    find=arguments.finder(ids.GRANT, "grant", LIST_GRANTS),
)

grant_app = group("Allow an agent's calls for a while; look at what is allowed, and revoke it.")

nouns.add_list(grant_app, GRANT, "List grants, newest first, those that are over too.")
nouns.add_call(grant_app, GRANT, "show", GET_GRANT, "Show a grant.")
nouns.add_call(
    grant_app,
    GRANT,
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
            help="What an argument must look like, `command=git push*`; may be repeated. "
            "Without it, a command, a path or a URL must be that of this call.",
        ),
    ] = None,
    any_arguments: Annotated[
        bool, typer.Option("--any", help="The tool, whatever it is called with.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long it counts, at most 7d; 8h if not given."),
    ] = None,
    json: Json = False,
) -> None:
    """Allow an agent's calls as this one for a while. The call itself is answered by `helmr wait answer`.

    A grant is for the same session of the agent, the same key of the hook, and the same tool.
    """
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
    OUTCOME,
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
        SaidOutcome,
        typer.Argument(metavar="OUTCOME", help="What became of it: succeeded, failed or not-made."),
    ],
    json: Json = False,
) -> None:
    """Say what became of an approved call, as far as you have found out, and close it; the first word counts."""
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
