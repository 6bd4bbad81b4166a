"""`helmr notices …`, `helmr listen` and `helmr waiting`: who hears that something waits, and hearing it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmr.cli import arguments, describe, printing
from helmr.cli.app import Cli, ExitCode, Filter, Json, Profile, command, group, now
from helmr.cli.listing import MeantWaits, waits_filter
from helmr.errors import UsageError
from helmr.models import WaitKind
from helmr.models.system import EventName, event_name
from helmr.person import filters

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import EntryInfo, NoticeTargetInfo


app = group("See where notices go; send a test, try again.")

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="Its name in helmr.toml.",
        autocompletion=arguments.notice_targets,
    ),
]

COLUMNS = ("TARGET", "TYPE", "QUEUED", "LATE", "LAST TAKEN", "FAILING SINCE", "ERROR")


@command(app, "list")
def list_(cli: Cli, json: Json = False) -> None:
    """List notice targets, and how far each has got."""
    with cli.client() as client:
        targets = client.notices.list()
    if json:
        printing.write_json_list(targets, None)
        return
    printing.table(COLUMNS, [_row(one) for one in targets])
    if not targets:
        printing.note("no notices are sent: helmr.toml names no notice targets")


@command(app, "test")
def send_test(cli: Cli, target: Target, json: Json = False) -> None:
    """Send a test notice to a target; exit code 6 if the target does not take it."""
    with cli.client() as client:
        told = client.notices.test(target)
    describe.show(told, json)
    if not told.taken:
        raise typer.Exit(ExitCode.UNAVAILABLE)


@command(app, "retry")
def retry(cli: Cli, target: Target, json: Json = False) -> None:
    """Send now the notices that a target has not taken, late ones too."""
    with cli.client() as client:
        describe.show(client.notices.retry(target), json)


def _row(one: NoticeTargetInfo) -> tuple[object, ...]:
    return (
        one.name,
        one.type,
        one.queued,
        one.late,
        describe.time_text(one.last_taken_at) if one.last_taken_at else "none since the start",
        describe.time_text(one.failing_since),
        one.last_error,
    )


PEOPLE = (WaitKind.INPUT, WaitKind.TOKEN)
"""The kinds of waits that people answer."""

COUNTED_MAX = 1_000
PAGE = 200


def register_listening(app: typer.Typer) -> None:
    """Add the commands."""
    command(
        app,
        "listen",
        examples="helmr listen\nhelmr listen --event wait.opened --filter priority:high --jsonl\n"
        "helmr listen --after 1842 --jsonl",
    )(listen)
    command(app, "waiting", examples="helmr waiting\nhelmr waiting --count --filter 'due<1h'")(
        waiting
    )


def listen(
    cli: Cli,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", help="Only this event, e.g. wait.opened; may be repeated."),
    ] = None,
    filter_: Filter = None,
    profile: Profile = None,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="OFFSET", help="Begin after this feed offset; else now."),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--json", "--jsonl", help="A JSON object per line.")
    ] = False,
) -> None:
    """Print the notices that notice targets get, as lines, until Ctrl-C."""
    wanted, names = waits_filter(cli, filter_, profile), _names(event or [])
    with cli.client(is_patient=True) as client:
        for entry in client.events(after=after):
            name = event_name(entry.kind, entry.body)
            told = _told(client, entry, name, wanted, cli) if name in names and name else None
            if told is None:
                continue
            if jsonl:
                printing.write_json(told)
                continue
            about = told.get("subject") or told["task"]
            which = told.get("wait_id") or told["run_id"]
            moment = describe.time_text(entry.recorded_at)
            printing.write_line(f"{moment}  {told['event']:<14}  {about}  {which}")


def waiting(
    cli: Cli,
    filter_: Filter = None,
    profile: Profile = None,
    count: Annotated[
        bool, typer.Option("--count", help="Only the number, for a status line.")
    ] = False,
) -> None:
    """Say in one line what waits for people."""
    meant = MeantWaits(cli, waits_filter(cli, filter_, profile))
    with cli.client() as client:
        found: list[Any] = []
        cursor, has_more = None, True
        while has_more and len(found) < COUNTED_MAX:
            kinds = [kind.value for kind in PEOPLE]
            page = client.waits.page(kind=kinds, limit=PAGE, cursor=cursor)
            found += [one for one in page.items if meant.holds(one)]
            cursor = page.next_cursor
            has_more = cursor is not None
    number = f"{len(found)}{'+' if has_more else ''}"
    if count:
        printing.write(number)
        return
    text = f"{number} {'waits' if len(found) == 1 else 'wait'} for people"
    if found:
        oldest = printing.distance(min(one.opened_at for one in found))
        text += f", the oldest since {oldest.removesuffix(' ago')}"
    ends = [one.ends_at for one in found if one.ends_at is not None]
    if ends:
        text += f", the next ends {printing.distance(min(ends))}"
    printing.write(text)


def _names(given: list[str]) -> frozenset[EventName]:
    known = [one.value for one in EventName if one is not EventName.WAIT_DUE_SOON]
    for name in given:
        if name not in known:
            raise UsageError(f"{name[:80]!r} is not an event", hint=f"One of {', '.join(known)}.")
    return frozenset(EventName(name) for name in given or known)


def _told(
    client: Client, entry: EntryInfo, name: EventName, wanted: filters.Filter, cli: Cli
) -> dict[str, Any] | None:
    """Return the line to print for an entry; None if the filter leaves it out."""
    told: dict[str, Any] = {
        "event": name.value,
        "feed_offset": entry.feed_offset,
        "at": entry.recorded_at.isoformat(),
        "session_id": entry.session_id,
        "run_id": entry.run_id,
    }
    if "wait_id" in entry.body:
        wait = client.waits.get(entry.body["wait_id"])
        if wait.kind not in PEOPLE or not MeantWaits(cli, wanted).holds(wait):
            return None
        shown = {"task", "kind", "status", "subject", "correlation_id", "priority", "assignee"}
        told["wait_id"] = wait.id
        told |= wait.model_dump(mode="json", include=shown | {"tags", "deadline_at"})
        return told
    run = client.runs.get(entry.run_id or "")
    session = client.sessions.open(entry.session_id).get()
    facts: filters.Facts = {
        "session": run.session_id,
        "run": run.id,
        "task": run.task,
        "tag": tuple(session.tags),
    }
    if not wanted.matches(facts, now()):
        return None
    error = (run.error.type or run.error.code) if run.error is not None else None
    return {**told, "task": run.task, "status": run.status.value, "error": error}
