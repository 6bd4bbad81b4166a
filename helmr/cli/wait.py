"""`helmr wait …`: the inbox, and answers to one wait, to all that a filter finds, or from a file."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import (
    answer_all,
    arguments,
    correcting,
    describe,
    listing,
    many,
    next,
    nouns,
    printing,
)
from helmr.cli.app import Cli, Filter, Json, Profile, command, group
from helmr.cli.arguments import Said, Words, signer
from helmr.errors import UsageError
from helmr.models import AnswerLinkInfo, Page
from helmr.person.forms import MISSING, assignments
from helmr.person.review import agreement
from helmr.person.review.sending import HOLD_S
from helmr.person.review.words import dry_run_end
from helmr.wire.operations import GET_WAIT, RELEASE_WAIT, WITHDRAW_VOTE

if TYPE_CHECKING:
    from helmr.client import Client


app = group(
    "See what waits for people, and answer it.",
    {"files": "helmr.cli.wait_files:register_wait_files"},
)

OverrideClaim = Annotated[
    bool, typer.Option("--override-claim", help="Even if someone else has claimed it.")
]


nouns.add_list(
    app,
    nouns.WAIT,
    "List waits, soonest end first.",
    examples="helmr wait list --filter 'stream:approval due<1h'",
)
nouns.add_call(
    app,
    nouns.WAIT,
    "get",
    GET_WAIT,
    "Show a wait with its text and what an answer must look like.",
)


ANSWER_EXAMPLES = """\
helmr wait answer last decision=approve note="as agreed"
helmr wait answer wait_01… --data '{"decision": "approve"}' --on-behalf-of ada
helmr wait answer --all decision=approve --filter 'stream:approval tag:spring' --preview
helmr wait answer --csv answers.csv --batch monday
helmr wait answer last"""


def said_to(wait: str | None, words: list[str] | None, data: str | None) -> tuple[str | None, Said]:
    """The wait, if one is named before the words, and the answer.

    Raises:
        UsageError: The answer is given twice, or a word is not key=value.
    """
    fields = words or []
    if wait is not None and assignments.is_assignment(wait):
        return None, Said([wait, *fields], data)
    return wait, Said(fields, data)


@command(app, "answer", examples=ANSWER_EXAMPLES)
def answer(
    cli: Cli,
    wait: Annotated[
        str | None,
        typer.Argument(
            metavar="WAIT",
            help="Its id, or part of it, or `last`; without it, a terminal asks all, like `helmr next`.",
            autocompletion=arguments.waits,
        ),
    ] = None,
    words: Words = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="JSON|@FILE|-",
            help="The answer; if none is given, a terminal asks for it.",
        ),
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(
            "--jsonl",
            metavar="FILE|-",
            help='Answers to many waits, one per line: {"wait": …, "data": …}.',
        ),
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE|-",
            help="Answers to many waits, one per row: a column `wait` or `correlation_id`, then fields.",
        ),
    ] = None,
    undo_for: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long you can take it back, 0 to 60s. If the answer is given: 0, by Ctrl-C; else 5s.",
        ),
    ] = None,
    override_claim: Annotated[
        bool, typer.Option("--override-claim", help="Even if someone else has claimed it.")
    ] = False,
    override_reason: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Admins only: why you answer in place of the people who may."
        ),
    ] = None,
    deputy_for: Annotated[
        str | None,
        typer.Option(
            metavar="PERSON",
            help="For whom you answer as their deputy; needed if you are the deputy of several.",
            autocompletion=arguments.people,
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The batch of answers that this one belongs to."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All waits that --filter finds, 1,000 at most, each shown first; if kinds differ, those like WAIT.",
        ),
    ] = False,
    filter_: Filter = None,
    profile: Profile = None,
    seen: Annotated[
        str | None,
        typer.Option(
            "--seen",
            metavar="@FILE|-",
            help="With --all: only the waits in these lines from --preview --json.",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="With many waits: show them, and send nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With many waits: send without showing and asking.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Answer exactly this wait, all that a filter finds, or those in a file; skips waits that are over."""
    if seen == "-" and data == "-":
        raise UsageError("--seen and --data can't both be standard input", hint="--data @FILE")
    wait, said = said_to(wait, words, data)
    with_all = {"--filter": filter_ is not None, "--profile": profile is not None}
    with_all["--seen"] = seen is not None
    with_many = {"--preview": preview, "--yes": yes}
    if override_reason is not None and (every or jsonl or csv or not said):
        raise UsageError(
            "--override-reason is for one wait and one answer",
            hint='helmr wait answer WAIT key=value --override-reason "…"',
        )
    if deputy_for is not None and (every or jsonl or csv or not said):
        raise UsageError(
            "--deputy-for is for one wait and one answer",
            hint="helmr wait answer WAIT key=value --deputy-for NAME",
        )
    if jsonl is not None or csv is not None:
        _check_file(jsonl, csv, wait, said, {"--all": every, **with_all})
        code = answer_all.answer_from_file(
            cli,
            answer_all.Source(csv or jsonl or "", is_csv=csv is not None),
            batch_id=batch,
            hold_s=next.hold_seconds(undo_for, otherwise=0.0 if yes else HOLD_S),
            override_claim=override_claim,
            preview=preview,
            yes=yes,
            json=json,
        )
        raise typer.Exit(code)
    if not every:
        _refuse(with_all, "goes with --all only", "--all, or name the WAIT")
        _refuse(with_many, "goes with --all, --jsonl or --csv", "--all, or name the WAIT")
    if not said:
        needing = {"--json": json, "--batch": batch is not None, "--all": every}
        _refuse(needing, "needs the answer", "key=value, or --data JSON|@FILE|-")
        next.answer(cli, wait, undo_for, override_claim=override_claim)
        return
    if wait is None and not every:
        raise UsageError(
            "the answer is for one wait", hint="Name it: helmr wait answer WAIT key=value"
        )
    if every:
        _all(
            cli, wait, said, filter_=filter_, profile=profile, seen=seen, batch=batch, undo_for=undo_for,
            override_claim=override_claim, preview=preview, yes=yes, json=json,
        )  # fmt: skip
        return
    done = _answer_one(
        cli, wait or "", said, next.hold_seconds(undo_for, otherwise=0.0),
        override_claim=override_claim, override_reason=override_reason, batch_id=batch,
        deputy_for=deputy_for,
    )  # fmt: skip
    describe.show(done, json)


def _answer_one(cli: Cli, wait: str, said: Said, hold_s: float, **details: Any) -> Any:
    """Answer after the undo time; returns the receipt."""
    with cli.client() as client:
        wait_id = arguments.only_wait(client, wait)
        value = value_for(client, wait_id, said)
        if hold_s:
            printing.note(f"sends in {hold_s:g} s; Ctrl-C takes it back")
            time.sleep(hold_s)
        return client.waits.answer(
            wait_id, value, sign=signer(may_ask=sys.stdin.isatty()), **details
        )


def _all(
    cli: Cli,
    wait: str | None,
    said: Said,
    *,
    filter_: str | None,
    profile: str | None,
    seen: str | None,
    batch: str | None,
    undo_for: str | None,
    override_claim: bool,
    preview: bool,
    yes: bool,
    json: bool,
) -> None:
    """Give the answer to all that the filter finds.

    Raises:
        typer.Exit: Not every wait that was meant is answered.
    """
    wanted = listing.waits_filter(cli, filter_, profile)
    only = answer_all.read_seen(seen) if seen is not None else None
    with cli.client() as client:
        meant = answer_all.Meant(
            lead=arguments.wait(client, wait) if wait is not None else None,
            waits=listing.MeantWaits(cli, wanted),
            only=only,
            me=cli.me,
        )
        code = answer_all.answer_every(
            client,
            meant,
            lambda one: said.to(one.json_schema, one.initial),
            batch_id=batch,
            hold_s=next.hold_seconds(undo_for, otherwise=0.0 if yes else HOLD_S),
            override_claim=override_claim,
            preview=preview,
            yes=yes,
            json=json,
        )
    if code:
        raise typer.Exit(code)


def _check_file(
    jsonl: str | None, csv: str | None, wait: str | None, said: Said, others: dict[str, bool]
) -> None:
    """Refuse options that the file's rows set.

    Raises:
        UsageError: It is given beside the file.
    """
    if jsonl is not None and csv is not None:
        raise UsageError("--jsonl and --csv are two files", hint="Give one of them.")
    if wait is not None or said:
        raise UsageError(
            "the file names the waits and has the answers", hint="Give the file alone."
        )
    _refuse(others, "does not go with a file", "The file names the waits.")


def _refuse(given: dict[str, bool], why: str, hint: str) -> None:
    """Refuse the first of these options that is given.

    Raises:
        UsageError: It says why.
    """
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} {why}", hint=hint)


def value_for(client: Client, wait_id: str, said: Said) -> Any:
    """The answer to a wait, which is read if the answer's words need its schema.

    Once others have voted, words change the newest proposal, which is shown.
    """
    if not said.needs_schema:
        return said.value
    wait = client.waits.get(wait_id)
    base = agreement.proposal_of(wait)
    if base is not MISSING:
        printing.note(agreement.begun_from(wait))
    return said.to(wait.json_schema, wait.initial, base=base)


@command(app, "claim", examples="helmr wait claim wait_01… --expires-in 30m --on-behalf-of ada")
def claim(
    cli: Cli,
    wait: arguments.Wait,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="15m if not given, at most 24h")
    ] = None,
    override_claim: OverrideClaim = False,
    json: Json = False,
) -> None:
    """Claim this wait, so that no one else answers it meanwhile; again, renew the claim."""
    with cli.client() as client:
        wait_id = arguments.wait(client, wait)
        done = client.waits.claim(wait_id, expires_in=expires_in, override_claim=override_claim)
    describe.show(done, json)


nouns.add_call(
    app,
    nouns.WAIT,
    "release",
    RELEASE_WAIT,
    "End your claim of this wait; if you have none, nothing changes.",
    examples="helmr wait release wait_01… --on-behalf-of ada",
)


nouns.add_call(
    app,
    nouns.WAIT,
    "withdraw",
    WITHDRAW_VOTE,
    "Take your vote on this wait back; if you have none, nothing changes.",
    examples="helmr wait withdraw wait_01…",
)


@command(app, "assign", examples="helmr wait assign wait_01… ada")
def assign(
    cli: Cli,
    wait: arguments.Wait,
    assignee: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The new assignee; no one if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Assign this wait to someone, or to no one."""
    with cli.client() as client:
        done = client.waits.assign(arguments.wait(client, wait), assignee=assignee)
    describe.show(done, json)


@command(
    app,
    "link",
    examples="helmr wait link wait_01… --person ada --expires-in 2h",
)
def link(
    cli: Cli,
    wait: arguments.Wait,
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
    """Make a link that lets one person answer this wait, once; its URL is shown only once."""
    with cli.client() as client:
        made = client.waits.link(arguments.wait(client, wait), person=person, expires_in=expires_in)
    describe.show(made, json)


@command(app, "links")
def links(cli: Cli, wait: arguments.Wait, json: Json = False) -> None:
    """List the links of a wait, newest first; revoked and expired ones too."""
    with cli.client() as client:
        wait_id = arguments.wait(client, wait)
        listing.show(
            lambda after, count: Page[AnswerLinkInfo](items=list(client.waits.links(wait_id))),
            listing.ListTable(
                columns=describe.LINK_COLUMNS,
                row=describe.link_row,
                nothing="it has no links",
            ),
            listing.Wanted(every=True, json=json),
        )


@command(app, "unlink")
def unlink(
    cli: Cli,
    wait: arguments.Wait,
    link: Annotated[str, typer.Argument(metavar="LINK", help="The link's id.")],
    json: Json = False,
) -> None:
    """Revoke a link; its URL stops working."""
    with cli.client() as client:
        revoked = client.waits.unlink(arguments.wait(client, wait), link_id=link)
    describe.show(revoked, json)


@command(app, "dry-run", examples="helmr wait dry-run last decision=approve")
def dry_run(
    cli: Cli,
    wait: arguments.Wait,
    words: Words = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON|@FILE|-", help="The answer.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what an answer would set off, up to the first op with outside effects; does none of it."""
    said = Said(words, data)
    if not said:
        raise UsageError("a dry run needs the answer", hint="key=value, or --data JSON|@FILE|-")
    with cli.client() as client:
        wait_id = arguments.wait(client, wait)
        value = value_for(client, wait_id, said)
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
    wait: Annotated[str | None, arguments.argument("WAIT", arguments.waits)] = None,
    words: Words = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="JSON|@FILE|-", help="The answer that it should have had. Required."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All waits that --batch answered, each shown first.")
    ] = False,
    batch: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --all: which batch was wrong.")
    ] = None,
    undo_for: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="With --all: how long you can take it back, 0 to 60s; 5s if not given, 0 with --yes.",
        ),
    ] = None,
    reason: correcting.Reason = None,
    ask_again: correcting.AskAgain = False,
    keep_children: correcting.KeepChildren = False,
    preview: correcting.Preview = False,
    yes: correcting.Yes = False,
    json: Json = False,
) -> None:
    """Give another answer to a wait that is over, or to a batch: the run goes back and on with the new answer."""
    wait, said = said_to(wait, words, data)
    if every != (batch is not None) or every == (wait is not None):
        raise UsageError(
            "name one wait, or a batch", hint="helmr wait amend WAIT …, or --all --batch NAME …"
        )
    if undo_for is not None and not every:
        raise UsageError(
            "--undo-for goes with --all", hint="Without --all, the command asks before it amends."
        )
    if not said and (every or not preview):
        raise UsageError(
            "an amendment needs the new answer", hint="key=value, or --data JSON|@FILE|-"
        )
    why = None if preview else correcting.require_reason(reason)
    with cli.client(is_patient=every) as client:
        if batch is not None:
            hold_s = next.hold_seconds(undo_for, otherwise=0.0 if yes else HOLD_S)
            code = correcting.run(
                client,
                batch,
                lambda one: said.to(one.json_schema, one.initial),
                reason=why,
                keep_answers=not ask_again,
                keep_children=keep_children,
                asked=many.BulkAsked(preview=preview, yes=yes, json=json, hold_s=hold_s),
            )
            raise typer.Exit(code)
        wait_id = arguments.wait(client, wait or "")
        seen = client.waits.preview_amend(
            wait_id, keep_answers=not ask_again, keep_children=keep_children
        )
        if preview:
            printing.write_json(seen) if json else correcting.show(seen)
            return
        value = value_for(client, wait_id, said)
        if correcting.confirmed(seen, yes=yes, json=json):
            done = client.waits.amend(wait_id, value, preview=seen, reason=why or "")
            describe.show(done, json)
