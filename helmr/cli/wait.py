"""`helmr wait …`: the inbox."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr import filters
from helmr.cli import (
    amend_all,
    completing,
    correcting,
    describe,
    describe_access,
    finding,
    listing,
    many,
    next,
    printing,
    wait_answer,
)
from helmr.cli.app import All, Cli, Cursor, Json, Limit, command, group
from helmr.cli.clock import now
from helmr.cli.filtering import Filter, Profile, waits_filter
from helmr.cli.wording import Said, Words
from helmr.errors import UsageError
from helmr.models import AnswerLinkInfo, Page, WaitInfo
from helmr.review.sending import HOLD_S
from helmr.review.words import dry_run_end

app = group("See what waits for people, and answer it.")

Wait = Annotated[
    str,
    typer.Argument(
        metavar="WAIT", help="Its id, or part of it, or `last`.", autocompletion=completing.waits
    ),
]

OverrideClaim = Annotated[bool, typer.Option("--override-claim", help="Also if another is at it.")]


@command(app, "list", examples="helmr wait list --filter 'stream:approval due<1h'")
def list_(
    cli: Cli,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="pending if not given")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="input, token or timer; may be repeated."),
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK")] = None,
    stream: Annotated[str | None, typer.Option(metavar="STREAM")] = None,
    session: Annotated[str | None, typer.Option(metavar="SESSION")] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="PRIORITY", help="low, normal or high")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Of the wait or of its session.")
    ] = None,
    assignee: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    filter_: Filter = None,
    profile: Profile = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    every: All = False,
    output: listing.Output = listing.Form.TABLE,
    watch: listing.Watch = False,
    json: Json = False,
) -> None:
    """List waits, soonest end first."""
    wanted = waits_filter(cli, filter_, profile)
    me = cli.on_behalf_of
    snoozed = next.snoozes().read(now()) if wanted.says("snoozed") else {}
    begun = next.drafted(wanted)

    def passes(one: WaitInfo) -> bool:
        facts = filters.wait_facts(
            one, now(), me, snoozed=one.id in snoozed, drafted=one.id in begun
        )
        return wanted.matches(facts, now())

    with cli.client(is_patient=watch) as client:
        session = finding.session(client, session) if session is not None else None
        is_narrowed = any((status, kind, task, stream, session, priority, tag, assignee, wanted))
        listing.show(
            lambda after, count: client.waits.page(
                status=status,
                kind=kind,
                task=task,
                stream=stream,
                session_id=session,
                priority=priority,
                tag=tag,
                assignee=assignee,
                limit=count,
                cursor=after,
            ),
            listing.Table(
                columns=describe.WAIT_COLUMNS,
                row=describe.wait_row,
                narrow=describe.wait_lines,
                nothing="no such wait" if is_narrowed else "nothing waits for people",
            ),
            listing.Wanted(
                limit=limit,
                cursor=cursor,
                every=every,
                json=json,
                output=output,
                watch=watch,
                passes=passes if wanted else None,
            ),
        )


@command(app, "get")
def get(cli: Cli, wait: Wait, json: Json = False) -> None:
    """Show a wait with its text and what an answer must look like."""
    with cli.client() as client:
        found = client.waits.get(finding.wait(client, wait))
    printing.show(
        found,
        lambda one: [("session", one.session_id), ("task", one.task), *describe.wait_fields(one)],
        json,
    )


wait_answer.register(app)


@command(app, "claim", examples="helmr wait claim wait_01… --expires-in 30m --on-behalf-of ada")
def claim(
    cli: Cli,
    wait: Wait,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="15m if not given, at most 24h")
    ] = None,
    override_claim: OverrideClaim = False,
    json: Json = False,
) -> None:
    """Say that you are at this wait, so that no other answers it meanwhile; again, renew that."""
    with cli.client() as client:
        wait_id = finding.wait(client, wait)
        done = client.waits.claim(wait_id, expires_in=expires_in, override_claim=override_claim)
    printing.show(done, describe.claim_fields, json)


@command(app, "release", examples="helmr wait release wait_01… --on-behalf-of ada")
def release(cli: Cli, wait: Wait, json: Json = False) -> None:
    """End your claim of this wait; without one nothing changes."""
    with cli.client() as client:
        done = client.waits.release(finding.wait(client, wait))
    printing.show(done, describe.claim_fields, json)


@command(app, "assign", examples="helmr wait assign wait_01… ada")
def assign(
    cli: Cli,
    wait: Wait,
    assignee: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="no one if not given")
    ] = None,
    json: Json = False,
) -> None:
    """Say whom this wait concerns from now on."""
    with cli.client() as client:
        done = client.waits.assign(finding.wait(client, wait), assignee=assignee)
    printing.show(
        done, lambda one: [("wait", one.wait_id), ("assignee", one.assignee or "nobody")], json
    )


@command(
    app,
    "link",
    examples="helmr wait link wait_01… --person ada --expires-in 2h",
)
def link(
    cli: Cli,
    wait: Wait,
    person: Annotated[
        str, typer.Option(metavar="NAME", help="On whose behalf the answer is recorded.")
    ],
    expires_in: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="until the wait's deadline, at most 7d, if not given"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make a link by which one person answers this wait, once; its URL is shown this once."""
    with cli.client() as client:
        made = client.waits.link(finding.wait(client, wait), person=person, expires_in=expires_in)
    printing.show(made, describe_access.fields_of, json)


@command(app, "links")
def links(cli: Cli, wait: Wait, json: Json = False) -> None:
    """List the links of a wait, newest first; revoked and expired ones too."""
    with cli.client() as client:
        wait_id = finding.wait(client, wait)
        listing.show(
            lambda after, count: Page[AnswerLinkInfo](items=list(client.waits.links(wait_id))),
            listing.Table(
                columns=describe_access.LINK_COLUMNS,
                row=describe_access.link_row,
                nothing="it has no links",
            ),
            listing.Wanted(every=True, json=json),
        )


@command(app, "unlink")
def unlink(
    cli: Cli,
    wait: Wait,
    link: Annotated[str, typer.Argument(metavar="LINK", help="The link's id.")],
    json: Json = False,
) -> None:
    """Revoke a link; its URL opens nothing from now on."""
    with cli.client() as client:
        revoked = client.waits.unlink(finding.wait(client, wait), link_id=link)
    printing.show(revoked, describe_access.fields_of, json)


@command(app, "dry-run", examples="helmr wait dry-run last decision=approve")
def dry_run(
    cli: Cli,
    wait: Wait,
    words: Words = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON|@FILE|-", help="The answer.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what an answer would set off, up to the first thing that touches the world; nothing of it happens."""
    said = Said(words, data)
    if not said:
        raise UsageError("a dry run needs the answer", hint="key=value, or --data JSON|@FILE|-")
    with cli.client() as client:
        wait_id = finding.wait(client, wait)
        value = wait_answer.value_for(client, wait_id, said)
        found = client.waits.dry_run(wait_id, value)
    if json:
        printing.write_json(found)
        return
    printing.table(describe.OP_COLUMNS, [describe.op_row(one) for one in found.ops])
    printing.write(f"ends: {dry_run_end(found)}")


@command(
    app,
    "amend",
    examples="""helmr wait amend wait_01… --preview
helmr wait amend wait_01… decision=reject --reason "misread the diff" --yes
helmr wait amend --all --batch monday decision=reject --reason "wrong column" --preview""",
)
def amend(
    cli: Cli,
    wait: Annotated[
        str | None,
        typer.Argument(
            metavar="WAIT",
            help="Its id, or part of it, or `last`.",
            autocompletion=completing.waits,
        ),
    ] = None,
    words: Words = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="JSON|@FILE|-", help="The answer that it should have had. Required."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that --batch has answered, each shown first.")
    ] = False,
    batch: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --all: which batch was wrong.")
    ] = None,
    undo_for: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="With --all: how long it can be taken back, 0 to 60s; 5s if not given, 0 with --yes.",
        ),
    ] = None,
    reason: correcting.Reason = None,
    ask_again: correcting.AskAgain = False,
    keep_children: correcting.KeepChildren = False,
    preview: correcting.Preview = False,
    yes: correcting.Yes = False,
    json: Json = False,
) -> None:
    """Give a wait that is over another answer, or all of a batch: its run goes back to it and on with that."""
    wait, said = wait_answer.said_to(wait, words, data)
    if every != (batch is not None) or every == (wait is not None):
        raise UsageError(
            "name one wait, or a batch", hint="helmr wait amend WAIT …, or --all --batch NAME …"
        )
    if undo_for is not None and not every:
        raise UsageError("--undo-for goes with --all", hint="One amendment is asked about instead.")
    if not said and (every or not preview):
        raise UsageError(
            "an amendment needs the new answer", hint="key=value, or --data JSON|@FILE|-"
        )
    why = None if preview else correcting.require_reason(reason)
    with cli.client(is_patient=every) as client:
        if batch is not None:
            hold_s = next.hold_seconds(undo_for, otherwise=0.0 if yes else HOLD_S)
            code = amend_all.run(
                client,
                batch,
                lambda one: said.to(one.json_schema, one.initial),
                reason=why,
                keep_answers=not ask_again,
                keep_children=keep_children,
                asked=many.Asked(preview=preview, yes=yes, json=json, hold_s=hold_s),
            )
            raise typer.Exit(code)
        wait_id = finding.wait(client, wait or "")
        seen = client.waits.preview_amend(
            wait_id, keep_answers=not ask_again, keep_children=keep_children
        )
        if preview:
            printing.write_json(seen) if json else correcting.show(seen)
            return
        value = wait_answer.value_for(client, wait_id, said)
        if correcting.confirmed(seen, yes=yes, json=json):
            done = client.waits.amend(wait_id, value, preview=seen, reason=why or "")
            printing.show(done, describe.run_fields, json)
