"""`helmr run …`."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import arguments, correcting, describe, many, nouns, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.errors import UsageError
from helmr.operations import CANCEL_RUN, GET_RUN

app = group("Look at runs, retry and cancel them.")

nouns.add_list(app, nouns.RUN, "List runs, newest first; those of one session with --session.")
nouns.add_call(
    app, nouns.RUN, "get", GET_RUN, "Show a run with its result, or why it failed or is blocked."
)


@command(
    app,
    "retry",
    examples="""helmr run retry last
helmr run retry --all --filter 'is:failed task:pay*' --preview""",
)
def retry(
    cli: Cli,
    run: Annotated[str | None, arguments.argument("RUN", arguments.runs)] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="The runs of all sessions that --filter finds, each shown first."
        ),
    ] = False,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="WORDS",
            help="A filter for sessions, as in `helmr session list`; is:failed if not given.",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="With --all: show the runs, and retry none.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --all: retry without showing and asking.")
    ] = False,
    json: Json = False,
) -> None:
    """Start the next attempt of a failed or blocked run, or of many; recorded steps do not run again."""
    if every == (run is not None):
        raise UsageError("name one run, or say --all", hint="helmr run retry RUN, or --all.")
    if not every and (filter_ is not None or preview or yes):
        raise UsageError("--filter, --preview and --yes go with --all", hint="Say --all.")
    with cli.client(is_patient=every) as client:
        if run is not None:
            describe.show(client.runs.retry(arguments.run(client, run)), json)
            return
        asked = many.BulkAsked(preview=preview, yes=yes, json=json)
        raise typer.Exit(many.retry_every(client, filter_, asked))


nouns.add_call(app, nouns.RUN, "cancel", CANCEL_RUN, "Cancel a run; its session stays open.")


@command(
    app,
    "rewind",
    examples="""helmr run rewind last --to-op 4 --preview
helmr run rewind run_01… --to-wait wait_01… --reason "the price was wrong" --yes""",
)
def rewind(
    cli: Cli,
    run: arguments.Run,
    to_op: correcting.ToOp = None,
    to_wait: correcting.ToWait = None,
    reason: correcting.Reason = None,
    ask_again: correcting.AskAgain = False,
    keep_children: correcting.KeepChildren = False,
    preview: correcting.Preview = False,
    yes: correcting.Yes = False,
    json: Json = False,
) -> None:
    """Take a session's newest run back to an op or a wait; what came after is done again, answers are kept."""
    correcting.require_place(to_op, to_wait)
    with cli.client() as client:
        run_id = arguments.run(client, run)
        wait_id = arguments.wait(client, to_wait) if to_wait is not None else None
        seen = client.runs.preview_rewind(
            run_id,
            to_op=to_op,
            wait_id=wait_id,
            keep_answers=not ask_again,
            keep_children=keep_children,
        )
        if preview:
            printing.write_json(seen) if json else correcting.show(seen)
            return
        why = correcting.require_reason(reason)
        if correcting.confirmed(seen, yes=yes, json=json):
            done = client.runs.rewind(run_id, preview=seen, reason=why)
            describe.show(done, json)
