"""`helmr person` shows people, their signing keys and deputies, disables and enables them."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import arguments, describe, nouns, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.wire.operations import ENABLE_PERSON, GET_PERSON, UNBIND_PERSON, UNDELEGATE
from helmr.wire.safe_text import one_line

app = group("Show people, their signing keys and deputies; disable or enable a person.")

nouns.add_list(app, nouns.PERSON, "List people by id.")
nouns.add_call(app, nouns.PERSON, "show", GET_PERSON, "Show a person.")


@command(app, "disable", examples='helmr person disable ada --reason "has left"')
def disable(
    cli: Cli,
    person: Annotated[str, nouns.PERSON_NAME],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; Helmr records it.")
    ] = None,
    json: Json = False,
) -> None:
    """Disable a person, from now on.

    Their keys and answer links end at once, and their claims and assignments are given back.
    """
    with cli.client() as client:
        found = client.people.disable(person, reason=reason)
    if found.role is None:
        printing.note(
            f"helmr.toml names no such person: what is ended is what names {one_line(found.id, 80)}, "
            "links, claims and assignments"
        )
    describe.show(found, json)


@command(app, "add-key", examples="helmr person add-key ada @id_ed25519.pub")
def add_key(
    cli: Cli,
    person: Annotated[str, nouns.PERSON_NAME],
    key: Annotated[
        str,
        typer.Argument(metavar="KEY|@FILE|-", help="A public SSH key, the line of a .pub file."),
    ],
    json: Json = False,
) -> None:
    """Register a public SSH key that signs a person's answers."""
    line = arguments.read_source(key).decode("utf-8", "replace").strip()
    with cli.client() as client:
        found = client.people.add_key(person, key=line)
    describe.show(found, json)


@command(
    app,
    "revoke-key",
    examples='helmr person revoke-key ada SHA256:… --reason "laptop lost"',
)
def revoke_key(
    cli: Cli,
    person: Annotated[str, nouns.PERSON_NAME],
    fingerprint: Annotated[
        str, typer.Argument(metavar="FINGERPRINT", help="SHA256:…, as `person show` has it.")
    ],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; Helmr records it.")
    ] = None,
    json: Json = False,
) -> None:
    """Revoke a key that signs a person's answers; what it has signed stays signed."""
    with cli.client() as client:
        found = client.people.revoke_key(person, fingerprint=fingerprint, reason=reason)
    describe.show(found, json)


@command(app, "signers", examples="helmr person signers > allowed_signers")
def signers(cli: Cli) -> None:
    """Print everyone's signing keys as an allowed-signers file of OpenSSH.

    A revoked key has the time until which it counts.
    """
    from helmr_runtime.security.sshsig import allowed_signers_line

    with cli.client() as client:
        for person in client.people.list():
            for key in person.signing_keys:
                printing.write(
                    allowed_signers_line(
                        person.id,
                        key.key,
                        comment=key.comment,
                        added_at=key.added_at,
                        revoked_at=key.revoked_at,
                    )
                )


@command(
    app,
    "delegate",
    examples="""helmr person delegate ada bo --until 14d
helmr person delegate ada bo --from 2026-12-20 --until 2027-01-04 --stream refunds --reason "on leave\"""",
)
def delegate(
    cli: Cli,
    person: Annotated[str, nouns.PERSON_NAME],
    deputy: Annotated[
        str,
        typer.Argument(
            metavar="DEPUTY", help="Who answers for them.", autocompletion=arguments.people
        ),
    ],
    until: Annotated[
        str,
        typer.Option(metavar="TIME", help="The end: 14d, 2026-12-20, or a time; at most 90 days."),
    ],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="The start; now if not given.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Only for waits of this task; may be repeated.",
            autocompletion=arguments.tasks,
        ),
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STREAM",
            help="Only on this stream; may be repeated.",
            autocompletion=arguments.streams,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Only with this tag; may be repeated."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Why; an admin who does it for another says it."),
    ] = None,
    json: Json = False,
) -> None:
    """Have another person answer for this one, for a while.

    The deputy answers waits that admit the person, never one that excludes either of the two.
    """
    scope = {"tasks": task or [], "streams": stream or [], "tags": tag or []}
    with cli.client() as client:
        made = client.people.delegate(
            person,
            deputy=deputy,
            ends_at=arguments.moment(until),
            starts_at=arguments.moment(from_) if from_ is not None else None,
            reason=reason,
            **scope,  # type: ignore[arg-type] # lists by the names of its fields
        )
    describe.show(made, json)


nouns.add_list(
    app,
    nouns.DELEGATION,
    "List who is away, until when, and who answers for them.",
    name="delegations",
)
nouns.add_call(
    app,
    nouns.DELEGATION,
    "undelegate",
    UNDELEGATE,
    "End a delegation before its time; what the deputy answered stays.",
    examples="helmr person undelegate dlg_01…",
)


nouns.add_call(
    app,
    nouns.PERSON,
    "enable",
    ENABLE_PERSON,
    "Let a person act again; what disabling has ended stays ended.",
)
nouns.add_call(
    app,
    nouns.PERSON,
    "unbind",
    UNBIND_PERSON,
    "Forget what a person has signed in as; the next sign-in with their e-mail binds them.",
)
