"""`helmr session` starts sessions, shows, follows, closes, cancels and forks them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import arguments, bulk, correcting, describe, nouns, printing
from helmr.cli.app import Cli, Json, command, group
from helmr.cli.entry_lines import EntryTable
from helmr.models import BulkVerb
from helmr.wire.operations import CANCEL_SESSION

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import SessionInfo


app = group(
    "Start sessions, look at them, end them.",
    {
        **dict.fromkeys(
            ("export", "verify", "replay"), "helmr.cli.session_file:register_session_file"
        ),
        "what-if": "helmr.cli.check:register_what_if",
    },
)

Payload = Annotated[
    str,
    typer.Option(
        "--payload", metavar="JSON|@FILE|-", help="What the task gets; null if not given."
    ),
]

TREE_MAX = 1_000
"""Sessions that a tree shows."""

ENDS = ("session.closed", "session.cancelled", "run.succeeded", "run.failed", "run.cancelled")
"""Entries after which a session may be over."""


@command(
    app,
    "start",
    examples="""helmr session start newsletter --payload '"otters"' --wait 10s
helmr session start publish-review --payload @pull_request.opened.json --external-id pr-2""",
)
def start(
    cli: Cli,
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="The task's id.", autocompletion=arguments.tasks)
    ],
    payload: Payload = "null",
    external_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Your name for the session.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="May be repeated.")] = None,
    metadata: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="A JSON object to keep with it.")
    ] = "{}",
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="A second start with this key returns the first session."),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Return when the run waits or ends, or after this time."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Start a session and its first run, or return the open one with that external id."""
    data = arguments.json_argument(payload, option="--payload")
    kept = arguments.json_object(metadata, option="--metadata")
    with cli.client() as client:
        given: dict[str, Any] = {
            "external_id": external_id,
            "tags": tag or [],
            "metadata": kept,
            "idempotency_key": idempotency_key,
        }
        if wait is None:
            started = client.sessions.start(task, data, **given)
        else:
            started = client.sessions.start_and_wait(task, data, timeout=wait, **given)
    if json:
        printing.write_json(started.receipt)
        return
    printing.fields(
        [
            ("session", started.id),
            ("run", started.started_run.id),
            ("created", "yes" if started.created else "no, it was there"),
            ("run status", started.started_run.status),
            *describe.outcome_fields(started.started_run),
        ]
    )
    if started.session.wait is not None:
        printing.write("")
        printing.fields(describe.wait_fields(started.session.wait))


nouns.add_list(
    app,
    nouns.SESSION,
    "List sessions, newest first.",
    examples="helmr session list --filter 'activity:waiting quiet>1h'",
)


@command(app, "get")
def get(cli: Cli, session: arguments.Session, json: Json = False) -> None:
    """Show a session, with its active wait in full."""
    with cli.client() as client:
        found = client.sessions.open(arguments.session(client, session)).get()
    if json:
        printing.write_json(found)
        return
    printing.fields(describe.session_fields(found))
    printing.write("")
    if found.wait is None:
        printing.write("No active wait.")
        if found.activity == "blocked":
            printing.note(f"Why it is blocked: helmr run list --session {found.id}")
        return
    printing.write("Active wait")
    printing.fields(describe.wait_fields(found.wait), indent=2)
    if found.wait.kind == "session":
        printing.note(f"What they wait for: helmr session tree {found.id}")
    elif found.wait.kind != "timer":
        printing.note(f"Answer it: helmr wait answer {found.wait.id} KEY=VALUE")


@command(app, "tree", examples="helmr session tree last")
def tree(cli: Cli, session: arguments.Session, json: Json = False) -> None:
    """Show a session with its children, and theirs, oldest first."""
    with cli.client() as client:
        root = client.sessions.open(arguments.session(client, session)).get()
        found = itertools.islice(_tree(client, root, 0), TREE_MAX)
        if json:
            printing.write_json_list((one for _, one in found), None)
            return
        rows = [describe.branch_row(depth, one) for depth, one in found]
    printing.table(describe.BRANCH_COLUMNS, rows)
    if len(rows) == TREE_MAX:
        printing.note(f"Only the first {TREE_MAX} are shown.")


def _tree(client: Client, one: SessionInfo, depth: int) -> Iterator[tuple[int, SessionInfo]]:
    yield depth, one
    for child in reversed(list(client.sessions.list(parent=one.id, limit=200))):
        yield from _tree(client, child, depth + 1)


@command(app, "transcript")
def transcript(
    cli: Cli,
    session: arguments.Session,
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="Only entries after it.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Entries at most; all if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Show everything that happened in a session."""
    with cli.client() as client:
        entries = itertools.islice(
            client.sessions.open(arguments.session(client, session)).transcript(after=after), limit
        )
        if json:
            printing.write_json_list(entries, None)
            return
        shown = EntryTable()
        for entry in entries:
            shown.write(entry)


@command(app, "follow")
def follow(
    cli: Cli,
    session: arguments.Session,
    after: Annotated[
        int, typer.Option(min=0, metavar="OFFSET", help="Only entries after this feed offset.")
    ] = 0,
    json: Json = False,
) -> None:
    """Show entries as they happen, from the beginning, until the session is over or Ctrl-C."""
    with cli.client(is_patient=True) as client:
        handle = client.sessions.open(arguments.session(client, session))
        shown = EntryTable()
        last_seq = _last_seq(handle.get())
        if last_seq is None:
            entries = handle.follow(after=after)
        else:  # nothing more comes that would end the loop
            entries = (one for one in handle.transcript() if one.feed_offset > after)
        for entry in entries:
            if json:
                printing.write_json(entry)
            else:
                shown.write(entry)
            if entry.kind in ENDS and last_seq is None:
                last_seq = _last_seq(handle.get())
            if last_seq is not None and entry.seq >= last_seq:
                return


def _last_seq(session: SessionInfo) -> int | None:
    """Return the last seq of a finished session: closed or cancelled, with no run left. None for others."""
    is_over = session.status != "open" and session.activity == "idle"
    return session.last_seq if is_over else None


@command(
    app,
    "close",
    examples="""helmr session close last
helmr session close --all --filter 'task:chat quiet>30d' --end-input --preview""",
)
def close(
    cli: Cli,
    session: Annotated[str | None, arguments.argument("SESSION", arguments.sessions)] = None,
    end_input: Annotated[
        bool,
        typer.Option("--end-input", help="Tell a run that waits for input that no more will come."),
    ] = False,
    every: bulk.EverySession = False,
    filter_: bulk.Words = None,
    batch: bulk.Batch = None,
    preview: bulk.Preview = False,
    yes: bulk.Yes = False,
    undo_for: bulk.UndoFor = None,
    json: Json = False,
) -> None:
    """Close a session, or many: they take no more input."""
    said = bulk.BulkWords(
        every=every, words=filter_, batch=batch, preview=preview, yes=yes, undo_for=undo_for
    )
    said.refuse_one(session, "session")
    with cli.client(is_patient=every) as client:
        if session is not None:
            handle = client.sessions.open(arguments.session(client, session))
            describe.show(handle.close(end_input=end_input), json)
            return
        code = bulk.do(cli, client, BulkVerb.CLOSE, said, end_input=end_input, json=json)
        raise typer.Exit(code)


nouns.add_call(
    app,
    nouns.SESSION,
    "cancel",
    CANCEL_SESSION,
    "Cancel a session with its run, waits and tokens.",
)


@command(app, "note")
def note(
    cli: Cli,
    session: arguments.Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="One argument; quote it.")],
    json: Json = False,
) -> None:
    """Write a note into a session's transcript."""
    with cli.client() as client:
        receipt = client.sessions.open(arguments.session(client, session)).note(text)
    describe.show(receipt, json)


@command(
    app,
    "fork",
    examples="""helmr session fork last --to-op 4 --reason "what if"
helmr session fork ses_01… --to-wait wait_01… --answer '{"decision": "reject"}' --reason "what if" """.rstrip(),
)
def fork(
    cli: Cli,
    session: arguments.Session,
    to_op: correcting.ToOp = None,
    to_wait: correcting.ToWait = None,
    reason: correcting.Reason = None,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer",
            metavar="JSON|@FILE|-",
            help="The answer to the wait at that op, in the fork.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Start a session that begins with another's past up to an op; steps before it do not run again."""
    correcting.require_place(to_op, to_wait)
    why = correcting.require_reason(reason)
    given: dict[str, Any] = {}
    if answer is not None:
        given["answer"] = arguments.json_argument(answer, option="--answer")
    with cli.client() as client:
        session_id = arguments.session(client, session)
        wait_id = arguments.wait(client, to_wait) if to_wait is not None else None
        started = client.sessions.open(session_id).fork(
            to_op=to_op, wait_id=wait_id, reason=why, **given
        )
    describe.show(started.session, json)
