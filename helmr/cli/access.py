"""Tokens, public tokens, keys and people, which let others in, and schedules: the clock."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from helmr.cli import arguments, describe, nouns, printing
from helmr.cli.app import Cli, Json, command, group, now
from helmr.cli.arguments import Said, Words
from helmr.errors import NotFound, UsageError
from helmr.operations import (
    CANCEL_TOKEN,
    DELETE_SCHEDULE,
    ENABLE_PERSON,
    GET_PERSON,
    GET_SCHEDULE,
    GET_TOKEN,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    REVOKE_API_KEY,
    REVOKE_PUBLIC_TOKEN,
    RUN_SCHEDULE,
    UNBIND_PERSON,
)
from helmr.safe_text import one_line
from helmr.version import needed
from helmr.whereabouts import named_data_dir

if TYPE_CHECKING:
    from helmr.tokens import Verify

# --- tokens -----------------------------------------------------------------------------------------

token_app = group("Make tokens, look at them, complete and cancel them.")


@command(
    token_app,
    "create",
    examples="""helmr token create --subject "Release 1.2?" --schema '{"enum": ["yes", "no"]}' --timeout 2d""",
)
def create_token(
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
    return Verify(scheme=cast(Any, scheme), secret=secret)


nouns.add_list(token_app, nouns.TOKEN, "List tokens, newest first.")
nouns.add_call(
    token_app,
    nouns.TOKEN,
    "get",
    GET_TOKEN,
    "Show a token with what it asks, and its data once it is completed.",
)


@command(token_app, "complete")
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


nouns.add_call(
    token_app, nouns.TOKEN, "cancel", CANCEL_TOKEN, "Cancel a token and the waits on it."
)

# --- public tokens ----------------------------------------------------------------------------------

public_token_app = group("Make public tokens, look at them and revoke them.")


@command(public_token_app, "create")
def create_public_token(
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
    public_token_app,
    nouns.PUBLIC_TOKEN,
    "List public tokens, newest first, with the uses they have left.",
)
nouns.add_call(
    public_token_app,
    nouns.PUBLIC_TOKEN,
    "revoke",
    REVOKE_PUBLIC_TOKEN,
    "Revoke a public token; it stops working.",
)

# --- keys -------------------------------------------------------------------------------------------

key_app = group("Make API keys, look at them and revoke them; print public keys; add a master key.")

RING_NAME = "master-keys.json"


@command(
    key_app,
    "create",
    examples="""helmr key create --role sender --name app-server
helmr key create --person ada@example.com --expires 90d""",
)
def create_key(
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


nouns.add_list(key_app, nouns.KEY, "List API keys, newest first, revoked ones too.")
nouns.add_call(key_app, nouns.KEY, "revoke", REVOKE_API_KEY, "Revoke an API key; it stops working.")


@command(key_app, "public", examples="helmr key public > helmr.pub")
def public(cli: Cli, json: Json = False) -> None:
    """Print the public keys that verify the runtime's session files, newest first."""
    with cli.client() as client:
        found = client.keys.public()
    if json:
        printing.write_json_list(found.items, found.next_cursor)
        return
    for one in found.items:
        printing.write_line(one.key)


@command(key_app, "rotate-master")
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


# --- people -----------------------------------------------------------------------------------------

person_app = group("Look at people and their signing keys; let one act no more, or again.")

nouns.add_list(person_app, nouns.PERSON, "List people by id.")
nouns.add_call(person_app, nouns.PERSON, "show", GET_PERSON, "Show a person.")


@command(person_app, "disable", examples='helmr person disable ada --reason "has left"')
def disable(
    cli: Cli,
    person: Annotated[str, nouns.PERSON_NAME],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; Helmr records it.")
    ] = None,
    json: Json = False,
) -> None:
    """Let a person act no more, from now on.

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


@command(person_app, "add-key", examples="helmr person add-key ada @id_ed25519.pub")
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
    person_app,
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


@command(person_app, "signers", examples="helmr person signers > allowed_signers")
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


nouns.add_call(
    person_app,
    nouns.PERSON,
    "enable",
    ENABLE_PERSON,
    "Let a person act again; what disabling has ended stays ended.",
)
nouns.add_call(
    person_app,
    nouns.PERSON,
    "unbind",
    UNBIND_PERSON,
    "Forget what a person has signed in as; the next sign-in with their e-mail binds them.",
)


def register_signing_in(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "login", examples="helmr login --url https://helmr.example.com --device")(login)
    command(app, "logout")(logout)
    command(app, "whoami")(whoami)


def login(
    cli: Cli,
    device: Annotated[
        bool, typer.Option("--device", help="With a browser of another machine, by a code.")
    ] = False,
) -> None:
    """Sign in at the runtime's issuer; commands, console and programs of this user are then you."""
    from helmr.client import find_runtime
    from helmr.client.discovery import normal_url
    from helmr.client.sign_in import IssuerFlow, KeptTokens, sign_in

    found = find_runtime(url=cli.url, data_dir=cli.data_dir)
    url = normal_url(found.url)

    def run(flow: IssuerFlow) -> KeptTokens:
        return flow.by_device(url, _tell_device) if device else flow.by_browser(url, _show_page)

    with cli.client() as client:
        sign_in(os.environ, url, client.people.sign_in(), run)
    whoami(cli)


def _tell_device(page: str, code: str) -> None:
    printing.note(
        f"Open {one_line(page, None)} in a browser and check the code {one_line(code, 40)}."
    )


def _show_page(page: str) -> None:
    import webbrowser

    if not webbrowser.open(page):
        printing.note("No browser opened here: open this page on this machine, or use --device.")
    printing.note(one_line(page, None))


def logout(cli: Cli) -> None:
    """Forget your sign-in at the runtime, here and at the issuer."""
    from helmr.client import find_runtime
    from helmr.client.discovery import normal_url
    from helmr.client.sign_in import sign_out

    url = normal_url(find_runtime(url=cli.url, data_dir=cli.data_dir).url)
    was_there = sign_out(os.environ, url)
    printing.write(f"signed out of {url}" if was_there else f"no one was signed in at {url}")


def whoami(cli: Cli, json: Json = False) -> None:
    """Say who you are to the runtime, and what you may do."""
    with cli.client() as client:
        found = client.people.whoami()
    describe.show(found, json)


# --- schedules --------------------------------------------------------------------------------------

schedule_app = group(
    "Start sessions by the clock: make schedules, look at them, pause, run and delete them."
)


class Missed(StrEnum):
    """What `--missed` takes."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What `--overlap` takes."""

    SKIP = "skip"
    ALLOW = "allow"


nouns.add_list(schedule_app, nouns.SCHEDULE, "List schedules by name, with when each is due next.")
nouns.add_call(schedule_app, nouns.SCHEDULE, "get", GET_SCHEDULE, "Show a schedule in full.")


@command(
    schedule_app,
    "create",
    examples="""helmr schedule create nightly sweep --cron "0 3 * * mon-fri" --zone Europe/Berlin
helmr schedule create poll fetch --every 15m --payload '{"source": "billing"}'""",
)
def create_schedule(
    cli: Cli,
    name: Annotated[str, nouns.SCHEDULE_NAME],
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task whose sessions it starts.")],
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Minute, hour, day of month, month and day of week, in one argument.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Due at whole multiples of this time, as in 15m."),
    ] = None,
    zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Time zone of --cron, as in Europe/Berlin.")
    ] = "UTC",
    missed: Annotated[
        Missed, typer.Option(help="What to do with due times that passed while no runtime was up.")
    ] = Missed.LATEST,
    overlap: Annotated[
        Overlap, typer.Option(help="What to do if the last session is still active at a due time.")
    ] = Overlap.SKIP,
    payload: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="What the task gets; null if not given.")
    ] = "null",
    json: Json = False,
) -> None:
    """Make a schedule; its due times count from now."""
    data = arguments.json_argument(payload, option="--payload")
    with cli.client() as client:
        made = client.schedules.create(
            name,
            task=task,
            payload=data,
            cron=cron,
            every=every,
            zone=zone,
            missed=missed.value,
            overlap=overlap.value,
        )
    describe.show(made, json)


for _name, _row, _text in (
    ("pause", PAUSE_SCHEDULE, "Pause a schedule until it is resumed, also over restarts."),
    (
        "resume",
        RESUME_SCHEDULE,
        "Resume a paused schedule; due times during the pause do not count as missed.",
    ),
    (
        "run",
        RUN_SCHEDULE,
        "Start a session now, as the schedule would; its due times stay as they are.",
    ),
    (
        "delete",
        DELETE_SCHEDULE,
        "Delete a schedule that no code declares; the sessions that it started stay.",
    ),
):
    nouns.add_call(schedule_app, nouns.SCHEDULE, _name, _row, _text)
