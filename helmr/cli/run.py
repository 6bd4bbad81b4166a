"""`helmr run` shows runs, retries, cancels and rewinds them."""

from __future__ import annotations

from typing import Annotated

import typer

from helmr.cli import arguments, bulk, correcting, describe, nouns, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.models import BulkVerb
from helmr.wire.operations import GET_RUN

app = group("Look at runs, retry and cancel them.")

nouns.add_list(app, nouns.RUN, "List runs, newest first; those of one session with --session.")
nouns.add_call(
    app,
    nouns.RUN,
    "get",
    GET_RUN,
    "Show a run with its result, or why it failed or is blocked.",
)


RunOrAll = Annotated[str | None, arguments.argument("RUN", arguments.runs)]


@command(
    app,
    "retry",
    examples="""helmr run retry last
helmr run retry --all --filter 'is:failed task:pay* quiet<2h' --preview
helmr run retry --all --batch monday --yes""",
)
def retry(
    cli: Cli,
    run: RunOrAll = None,
    every: bulk.EveryRun = False,
    filter_: bulk.WordsOrFailed = None,
    batch: bulk.Batch = None,
    preview: bulk.Preview = False,
    yes: bulk.Yes = False,
    undo_for: bulk.UndoFor = None,
    json: Json = False,
) -> None:
    """Start the next attempt of a failed or blocked run, or of many; recorded steps do not run again."""
    said = bulk.BulkWords(
        every=every, words=filter_, batch=batch, preview=preview, yes=yes, undo_for=undo_for
    )
    said.refuse_one(run, "run")
    with cli.client(is_patient=every) as client:
        if run is not None:
            describe.show(client.runs.retry(arguments.run(client, run)), json)
            return
        raise typer.Exit(bulk.do(cli, client, BulkVerb.RETRY, said, json=json))


@command(
    app,
    "cancel",
    examples="""helmr run cancel last
helmr run cancel --all --filter 'task:crawl run:running' --preview""",
)
def cancel(
    cli: Cli,
    run: RunOrAll = None,
    every: bulk.EveryRun = False,
    filter_: bulk.Words = None,
    batch: bulk.Batch = None,
    preview: bulk.Preview = False,
    yes: bulk.Yes = False,
    undo_for: bulk.UndoFor = None,
    json: Json = False,
) -> None:
    """Cancel a run, or many; their sessions stay open."""
    said = bulk.BulkWords(
        every=every, words=filter_, batch=batch, preview=preview, yes=yes, undo_for=undo_for
    )
    said.refuse_one(run, "run")
    with cli.client(is_patient=every) as client:
        if run is not None:
            describe.show(client.runs.cancel(arguments.run(client, run)), json)
            return
        raise typer.Exit(bulk.do(cli, client, BulkVerb.CANCEL, said, json=json))


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
