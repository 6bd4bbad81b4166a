"""`helmr session …` and `helmr run …`: a session's runs, its signed file, and whether code fits it."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from helmr.cli import arguments, bulk, correcting, describe, nouns, printing
from helmr.cli.app import Cli, ExitCode, Json, command, group
from helmr.cli.arguments import open_source, replacing, source_name
from helmr.cli.entry_lines import EntryTable
from helmr.errors import SessionFileDamaged, UsageError
from helmr.models import BulkVerb
from helmr.operations import CANCEL_SESSION, GET_RUN

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import SessionInfo
    from helmr_runtime.security.signed_answers import RecordedAnswer
    from helmr_runtime.security.sshsig import AllowedSigner


app = group("Start sessions, look at them, end them.")

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
    """Of a session that is over: closed or cancelled, and without a run that could do more."""
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


KEYS_FILE_BYTES_MAX = 64 * 1024
SIGNERS_FILE_BYTES_MAX = 16 * 1024 * 1024

File = Annotated[
    str, typer.Argument(metavar="FILE|-", help="A session file, as `session export` writes it.")
]


VERIFY_EXAMPLES = """\
helmr key public > helmr.pub
helmr session verify review.jsonl --key @helmr.pub
helmr session verify review.jsonl --key @helmr.pub --allowed-signers allowed_signers"""


def register_session_file(app: typer.Typer) -> None:
    """Add the commands to the group `session`."""
    command(app, "export", examples="helmr session export ses_01h4 -o review.jsonl")(export)
    command(app, "verify", examples=VERIFY_EXAMPLES)(verify)
    command(app, "replay", examples="helmr session replay review.jsonl tasks.py")(replay)


def export(
    cli: Cli,
    session: arguments.Session,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write there instead of stdout."),
    ] = None,
) -> None:
    """Write a session with all its payloads to a signed file; needs the role admin."""
    with cli.client(is_patient=True) as client:
        handle = client.sessions.open(arguments.session(client, session))
        if out is None:
            _copy(handle.export(), sys.stdout.buffer)
            return
        with replacing(out, is_private=True) as file:
            size_bytes = _copy(handle.export(), file)
    printing.note(f"helmr: {handle.id} written to {out}, {size_bytes} bytes")


def verify(
    cli: Cli,
    file: File,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="PUB|FILE",
            help="A public key of the runtime, or a file of them; may be repeated.",
        ),
    ] = None,
    allowed_signers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Whose keys may sign answers: an allowed-signers file of OpenSSH.",
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write what was signed, and the signatures, for `ssh-keygen -Y verify`.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that a session file is unchanged, who signed it, and who signed each answer. Needs no runtime."""
    from helmr_runtime.core.session_file import FileReader
    from helmr_runtime.security.signatures import check_signature
    from helmr_runtime.security.signed_answers import recorded_answers

    keys = [text for given in key or () for text in _keys(given)]
    allowed = _allowed(allowed_signers) if allowed_signers is not None else None
    with opened(file) as lines:
        reader = FileReader(lines)
        header = reader.header
        answers = []
        for one in recorded_answers(reader.entries(), str(header["session_id"]), allowed):
            if write is not None:
                _write_signed(one, write)
            answers.append(replace(one, signed=None, sshsig=None))
        checked = reader.checked
    signed_by = check_signature(checked, keys) if key else None
    found: dict[str, Any] = {
        "session_id": header["session_id"],
        "task": header["task"],
        "helmr": header["helmr"],
        "code_hash": header["code_hash"],
        "entries": checked.entries,
        "signed_by": signed_by,
        "answers": [_answer_json(one) for one in answers],
    }
    if json:
        printing.write_json(found)
    else:
        _show_verified(found, answers, is_compared=allowed is not None)
    wrong = [one for one in answers if one.problem is not None]
    if wrong:
        raise SessionFileDamaged(
            f"{len(wrong)} of {len(answers)} answers are not as their people signed them: "
            f"entry {wrong[0].seq}: {wrong[0].problem}",
            hint="Keep the file as it is, and ask those people.",
        )


def _show_verified(
    found: Mapping[str, Any], answers: Sequence[RecordedAnswer], *, is_compared: bool
) -> None:
    signed_by = found["signed_by"]
    printing.fields(
        [
            ("session", found["session_id"]),
            ("task", found["task"]),
            ("helmr", found["helmr"]),
            ("code hash", found["code_hash"]),
            ("entries", found["entries"]),
            (
                "signature",
                f"good, of {signed_by}"
                if signed_by
                else "unsigned: no --key says whose signature it must bear",
            ),
        ]
    )
    if answers:
        printing.write("")
        printing.table(
            ("ENTRY", "WAIT", "ASKED", "BY", "WHAT", "SIGNED"),
            [_answer_row(one, is_compared=is_compared) for one in answers],
        )


def _answer_row(one: RecordedAnswer, *, is_compared: bool) -> tuple[object, ...]:
    signed = "no"
    if one.problem is not None:
        signed = f"BAD: {one.problem}"
    elif one.principal is not None:
        signed = f"good, by {one.principal} with {one.key}"
    elif one.key is not None:
        signed = f"with {one.key}: no --allowed-signers say whose that is"
    assert not is_compared or one.key is None or one.principal or one.problem
    return (one.seq, one.wait_id, one.subject, one.person, one.said, signed)


def _answer_json(one: RecordedAnswer) -> dict[str, Any]:
    names = ("seq", "wait_id", "subject", "said", "person", "key", "principal", "problem")
    return {name: getattr(one, name) for name in names}


def _write_signed(one: RecordedAnswer, folder: Path) -> None:
    """`SEQ.json` and `SEQ.sig` of a signed answer, in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if one.signed is not None and one.sshsig is not None:
            (folder / f"{one.seq}.json").write_bytes(one.signed)
            (folder / f"{one.seq}.sig").write_text(one.sshsig)
    except OSError as error:
        raise UsageError(f"{folder} can't be written: {error.strerror or error}") from error


def _allowed(file: Path) -> list[AllowedSigner]:
    from helmr_runtime.security.sshsig import read_allowed_signers

    with open_source(f"@{file}") as found:
        text = found.read(SIGNERS_FILE_BYTES_MAX).decode("utf-8", "replace")
    return read_allowed_signers(text.splitlines())


def replay(
    cli: Cli,
    file: File,
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASKS", help="Files or dotted modules with tasks."),
    ],
    json: Json = False,
) -> None:
    """Replay a session file's newest run with this code; ends with 5 if it does not fit. Needs no runtime.

    The code runs here, up to where the run is, but none of its steps.
    """
    from helmr.testing.recorded import check_recorded
    from helmr_runtime.catalog import load_registry
    from helmr_runtime.clock import SystemClock
    from helmr_runtime.core.session_file import read_session

    with opened(file) as lines:
        recorded = read_session(lines)
    with redirect_stdout(sys.stderr):  # what the code prints is not the answer
        registry, _ = load_registry(tuple(tasks), folder=Path.cwd())
        known = registry.tasks.get(recorded.task)
        code = known.task if known is not None else None
        found = asyncio.run(check_recorded(recorded, code, clock=SystemClock()))
    describe.show(found, json)
    if not found.fits:
        raise typer.Exit(ExitCode.CONFLICT)


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """A session file that an argument names; its lines are read one by one."""
    if file == "-":
        yield sys.stdin.buffer
        return
    with open_source(f"@{file}") as found:
        yield found


def _copy(pieces: Iterator[bytes], file: BinaryIO) -> int:
    size_bytes = 0
    for piece in pieces:
        size_bytes += file.write(piece)
    file.flush()
    return size_bytes


def _keys(given: str) -> list[str]:
    if not given.startswith("@") and Path(given).is_file():
        given = f"@{given}"
    if not given.startswith("@"):
        return [given]
    with open_source(given) as file:
        text = file.read(KEYS_FILE_BYTES_MAX).decode("ascii", "replace")
    keys = text.split()
    if not keys:
        raise UsageError(
            f"{source_name(given)} holds no key", hint="`helmr key public` prints the runtime's."
        )
    return keys


run_app = group("Look at runs, retry and cancel them.")

nouns.add_list(run_app, nouns.RUN, "List runs, newest first; those of one session with --session.")
nouns.add_call(
    run_app,
    nouns.RUN,
    "get",
    GET_RUN,
    "Show a run with its result, or why it failed or is blocked.",
)


RunOrAll = Annotated[str | None, arguments.argument("RUN", arguments.runs)]


@command(
    run_app,
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
    run_app,
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
    run_app,
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
