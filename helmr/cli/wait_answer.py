"""`helmr wait answer`: one wait, all that a filter finds, or those of a file; in words, as JSON, or asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import (
    answer_all,
    answer_file,
    completing,
    describe,
    finding,
    next,
    printing,
)
from helmr.cli.app import Cli, command
from helmr.cli.clock import now
from helmr.cli.filtering import Filter, Profile, waits_filter
from helmr.cli.wording import Said, Words
from helmr.errors import UsageError
from helmr.forms import assignments
from helmr.review.sending import HOLD_S

if TYPE_CHECKING:
    from helmr.client import Client

EXAMPLES = """\
helmr wait answer last decision=approve note="as agreed"
helmr wait answer wait_01… --data '{"decision": "approve"}' --on-behalf-of ada
helmr wait answer --all decision=approve --filter 'stream:approval tag:spring' --preview
helmr wait answer --csv answers.csv --batch monday
helmr wait answer last"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "answer", examples=EXAMPLES)(answer)


def said_to(wait: str | None, words: list[str] | None, data: str | None) -> tuple[str | None, Said]:
    """The wait, if one is named before the words, and the answer.

    Raises:
        UsageError: The answer is given twice, or a word is no key=value.
    """
    fields = words or []
    if wait is not None and assignments.is_assignment(wait):
        return None, Said([wait, *fields], data)
    return wait, Said(fields, data)


def answer(
    cli: Cli,
    wait: Annotated[
        str | None,
        typer.Argument(
            metavar="WAIT",
            help="Its id, or part of it, or `last`; without it a terminal asks all, as `helmr next`.",
            autocompletion=completing.waits,
        ),
    ] = None,
    words: Words = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="JSON|@FILE|-",
            help="The answer; a terminal asks for it if nothing says it.",
        ),
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(
            "--jsonl",
            metavar="FILE|-",
            help='Answers to many waits, one a line: {"wait": …, "data": …}.',
        ),
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE|-",
            help="Answers to many waits, one a row: a column `wait` or `correlation_id`, then fields.",
        ),
    ] = None,
    undo_for: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long it can be taken back, 0 to 60s. Where the answer is given 0, by Ctrl-C; else 5s.",
        ),
    ] = None,
    override_claim: Annotated[
        bool, typer.Option("--override-claim", help="Also if another is at it.")
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Names the many answers that this is one of."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All that --filter finds, 200 at most, each shown first; of several kinds, those like WAIT.",
        ),
    ] = False,
    filter_: Filter = None,
    profile: Profile = None,
    seen: Annotated[
        str | None,
        typer.Option(
            "--seen",
            metavar="@FILE|-",
            help="With --all: only waits that these lines of --preview --json name.",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Of many: show the waits, and send nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Of many: send without showing and asking.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Answer exactly this wait, all that a filter finds, or those of a file; what is over is left alone."""
    if seen == "-" and data == "-":
        raise UsageError("--seen and --data can't both be standard input", hint="--data @FILE")
    wait, said = said_to(wait, words, data)
    with_all = {"--filter": filter_ is not None, "--profile": profile is not None}
    with_all["--seen"] = seen is not None
    with_many = {"--preview": preview, "--yes": yes}
    if jsonl is not None or csv is not None:
        _check_file(jsonl, csv, wait, said, {"--all": every, **with_all})
        code = answer_file.run(
            cli,
            answer_file.Source(csv or jsonl or "", is_csv=csv is not None),
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
    hold_s = next.hold_seconds(undo_for, otherwise=0.0)
    with cli.client() as client:
        wait_id = finding.wait(client, wait or "")
        value = value_for(client, wait_id, said)
        if hold_s:
            printing.note(f"sends in {hold_s:g} s; Ctrl-C takes it back")
            time.sleep(hold_s)
        done = client.waits.answer(wait_id, value, override_claim=override_claim, batch_id=batch)
    printing.show(done, describe.receipt_fields, json)


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
    wanted = waits_filter(cli, filter_, profile)
    only = answer_all.read_seen(seen) if seen is not None else None
    with cli.client() as client:
        meant = answer_all.Meant(
            lead=finding.wait(client, wait) if wait is not None else None,
            wanted=wanted,
            me=cli.on_behalf_of,
            only=only,
            snoozed=next.snoozes().read(now()),
        )
        code = answer_all.run(
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
    """Refuse what a file says itself.

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
    """The first option that is given can't be.

    Raises:
        UsageError: It says why.
    """
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} {why}", hint=hint)


def value_for(client: Client, wait_id: str, said: Said) -> Any:
    """The answer to a wait, which is read if the answer's words need its schema."""
    if not said.needs_schema:
        return said.value
    wait = client.waits.get(wait_id)
    return said.to(wait.json_schema, wait.initial)
