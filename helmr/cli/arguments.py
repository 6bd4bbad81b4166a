"""Parses arguments: ids (whole, a beginning, an end, or `last`), `key=value` words, files, and JSON (inline,
`@file` or `-`).

Ids begin with the time, so that those of one day begin alike; their ends differ. What was found is named on stderr.
On Tab the shell offers what the runtime has, or nothing.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from helmr.cli import printing
from helmr.cli.app import Cli, now
from helmr.errors import BadDuration, BadJson, HelmrError, NotFound, TooLarge, UsageError
from helmr.models import HTTP_BODY_BYTES_MAX, WaitInfo
from helmr.person.forms import MISSING, assignments
from helmr.wire import durations, ids, jsonio
from helmr.wire.operations import (
    LIST_API_KEYS,
    LIST_PUBLIC_TOKENS,
    LIST_RUNS,
    LIST_SESSIONS,
    LIST_TOKENS,
    LIST_WAITS,
)
from helmr.wire.safe_text import one_line

if TYPE_CHECKING:
    from helmr.client import Client
    from helmr.models import Page
    from helmr.signing import Sign, ToSign
    from helmr.wire.operation import Operation


LAST = "last"
"""The newest one; of waits, of those that wait for people."""

PART = re.compile(r"[0-9a-z]{4,25}")
"""The part of an id that is looked for: fewer characters name too much."""

WHOLE = 26
"""Characters of an id behind its prefix."""

PAGE = 200
PAGES_MAX = 25
"""Pages searched, newest first: 5,000 items."""

SHOWN_MAX = 6

ENDED = ("fulfilled", "timed_out", "cancelled")
"""Waits that are looked through when no pending one fits."""

Pages = Callable[[str | None], "Page[Any]"]


def _pages(client: Client, row: Operation[Any], **query: Any) -> Pages:
    from helmr.client.sync import ask

    return lambda cursor: ask(client, row, query={**query, "limit": PAGE, "cursor": cursor})


def finder(kind: str, noun: str, row: Operation[Any]) -> Callable[[Client, str], str]:
    """Finds the id of a thing that an operation lists."""
    return lambda client, text: _found(text, kind, noun, [_pages(client, row)])


session = finder(ids.SESSION, "session", LIST_SESSIONS)
run = finder(ids.RUN, "run", LIST_RUNS)
token = finder(ids.TOKEN, "token", LIST_TOKENS)
public_token = finder(ids.PUBLIC_TOKEN, "public-token", LIST_PUBLIC_TOKENS)
key = finder(ids.API_KEY, "key", LIST_API_KEYS)


def wait(client: Client, text: str) -> str:
    """Find a wait's id; pending waits match before those that are over."""
    pages = [_pages(client, LIST_WAITS, status=one) for one in (None, *ENDED)]
    return _found(text, ids.WAIT, "wait", pages)


def only_wait(client: Client, text: str) -> str:
    """Find a wait's id for an irreversible call: `last` is the pending wait, if there is only one.

    Raises:
        UsageError: `last`, and several wait.
    """
    if text == LAST:
        found = client.waits.page(limit=SHOWN_MAX + 1).items
        if len(found) > 1:
            shown = [f"{one.id} ({one_line(one.subject or one.stream, 40)})" for one in found]
            more = " and more" if len(found) > SHOWN_MAX else ""
            raise UsageError(
                f"last: several waits are pending: {', '.join(shown[:SHOWN_MAX])}{more}",
                hint="Name the one that you mean.",
                matching=[one.id for one in found],
            )
    return wait(client, text)


def _found(text: str, kind: str, noun: str, sources: list[Pages]) -> str:
    if not text.strip():
        raise UsageError(
            f"the id of the {noun} is empty",
            hint=f"An empty variable of a script? `helmr {noun} list` shows ids.",
        )
    part = text.removeprefix(f"{kind}_")
    if text != LAST and not PART.fullmatch(part):
        return text  # whole, or no part of an id: the client says so
    for pages in sources:
        matching = [one for one in _ids(pages) if _fits(one, text, part)]
        if text == LAST and matching:
            matching = [max(matching)]
        if len(matching) == 1:
            printing.note(f"{noun} {matching[0]}")
            return matching[0]
        if matching:
            raise _ambiguous(text, noun, matching)
    what = "there is none" if text == LAST else f"no id begins or ends with {part!r}"
    raise NotFound(f"{text}: {what}", hint=f"`helmr {noun} list` shows what there is.")


def _fits(found: str, text: str, part: str) -> bool:
    body = found.rpartition("_")[2]
    return text == LAST or body.startswith(part) or (text == part and body.endswith(part))


def _ids(pages: Pages) -> Iterable[str]:
    cursor = None
    for _ in range(PAGES_MAX):
        page = pages(cursor)
        yield from (one.id for one in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return


def _ambiguous(text: str, noun: str, matching: list[str]) -> UsageError:
    shown = ", ".join(matching[:SHOWN_MAX])
    more = f" and {len(matching) - SHOWN_MAX} more" if len(matching) > SHOWN_MAX else ""
    return UsageError(
        f"{text!r} matches {len(matching)} {noun}s: {shown}{more}",
        hint="Give more characters of the id; the last ones differ.",
        matching=matching,
    )


def moment(text: str) -> datetime:
    """Read a time: `14d` from now, `2026-12-20` or `2026-12-20T08:00` in UTC, or one with its offset.

    Raises:
        UsageError: It is none of these.
    """
    with suppress(BadDuration):
        return now() + timedelta(seconds=durations.seconds(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text[:40]!r} is no time", hint="Write 14d, 2026-12-20 or 2026-12-20T08:00+01:00."
        ) from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


OFFERED_MAX = 50
"""More are no choice but a list."""

OFFERED = re.compile(r"[\w.:/@+-]+")
"""Values offered; people must quote any other name for their shell."""

AS_TEXT = str.maketrans("[]\\", "()/", "`'\"$")
"""zsh evaluates what it is offered, and Typer reads Rich's markup in it: a wait's subject may be anyone's text."""

Offer = tuple[str, str]
Complete = Callable[[typer.Context, str], list[Offer]]


def offers(found: Callable[[Client], Iterable[tuple[str, str | None]]]) -> Complete:
    def complete(ctx: typer.Context, incomplete: str) -> list[Offer]:
        try:
            with _client(ctx) as client:
                fitting = (
                    one
                    for one in found(client)
                    if one[0].startswith(incomplete) and OFFERED.fullmatch(one[0])
                )
                return [
                    (value, one_line(text or "", 60).translate(AS_TEXT))
                    for value, text in itertools.islice(fitting, OFFERED_MAX)
                ]
        except (HelmrError, OSError):  # a prompt is not a place for errors
            return []

    return complete


@contextmanager
def _client(ctx: typer.Context) -> Iterator[Client]:
    """The client that the options typed so far name."""
    given = {**ctx.find_root().params, **{k: v for k, v in ctx.params.items() if v is not None}}
    data_dir, key_file = given.get("data_dir"), given.get("key_file")
    cli = Cli(
        url=given.get("url"),
        at=given.get("at"),
        data_dir=Path(data_dir) if data_dir else None,
        key_file=Path(key_file) if key_file else None,
    )
    with cli.with_context(os.environ).client() as client:
        yield client


def _offers_of(row: Operation[Any], says: Callable[[Any], str | None]) -> Complete:
    return offers(lambda client: ((one.id, says(one)) for one in _pages(client, row)(None).items))


sessions = _offers_of(LIST_SESSIONS, lambda one: f"{one.task} {one.activity}")
runs = _offers_of(LIST_RUNS, lambda one: f"{one.task} {one.status}")
waits = _offers_of(LIST_WAITS, lambda one: one.subject or one.stream)
tokens = _offers_of(LIST_TOKENS, lambda one: one.subject or one.status)
tasks = offers(lambda client: ((one.id, None) for one in client.tasks.list()))
people = offers(lambda client: ((one.id, one.email) for one in client.people.list()))
limits = offers(lambda client: ((one.name, None) for one in client.limits.list()))
notice_targets = offers(lambda client: ((one.name, one.type) for one in client.notices.list()))
streams = offers(
    lambda client: {one.name: (one.name, None) for one in client.streams.list()}.values()
)
inputs = offers(
    lambda client: {
        one.name: (one.name, None) for one in client.streams.list() if one.direction == "input"
    }.values()
)
outputs = offers(
    lambda client: {
        one.name: (one.name, None) for one in client.streams.list() if one.direction == "output"
    }.values()
)

# --- arguments --------------------------------------------------------------------------------------


def argument(metavar: str, complete: Complete | None = None) -> Any:
    """Return the argument that names a thing on the command line."""
    help_text = "Its id, or part of it, or `last`."
    return typer.Argument(metavar=metavar, help=help_text, autocompletion=complete)


Session = Annotated[str, argument("SESSION", sessions)]
Run = Annotated[str, argument("RUN", runs)]
Wait = Annotated[str, argument("WAIT", waits)]
Token = Annotated[str, argument("TOKEN", tokens)]
PublicToken = Annotated[str, argument("PUBLIC_TOKEN")]
Key = Annotated[str, argument("KEY")]


def json_argument(text: str, *, option: str) -> Any:
    """The value of `JSON`, `@file` or `-`.

    Raises:
        BadJson: Not strict JSON; says where.
        UsageError: The file can't be read.
        TooLarge: Over what the gateway takes.
    """
    try:
        return jsonio.loads(read_source(text))
    except BadJson as error:
        hint = None
        if not text.startswith(("@", "-")):
            hint = f'Quote JSON for the shell: {option} \'{{"key": "text"}}\', or use @file or -.'
        raise BadJson(f"{option}: {error.message}", hint=hint, **error.facts) from error


def json_object(text: str, *, option: str) -> dict[str, Any]:
    """Parse like `json_argument`, but accept only an object."""
    value = json_argument(text, option=option)
    if not isinstance(value, dict):
        raise UsageError(f"{option}: expected a JSON object, not {type(value).__name__}")
    return value


def read_source(text: str) -> bytes:
    """The bytes that an argument stands for."""
    if text != "-" and not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    with open_source(text) as file:
        raw = file.read(HTTP_BODY_BYTES_MAX + 1)
    if len(raw) > HTTP_BODY_BYTES_MAX:
        raise TooLarge(f"{source_name(text)} holds more than {HTTP_BODY_BYTES_MAX} bytes")
    return raw


def open_source(text: str) -> BinaryIO:
    """The file of `@file`, or standard input for `-`.

    Raises:
        UsageError: It can't be opened.
    """
    if text == "-":
        return sys.stdin.buffer
    path = Path(text.removeprefix("@"))
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error


def source_name(text: str) -> str:
    """Return a source's name for messages."""
    return "standard input" if text == "-" else text.removeprefix("@")


def signer(shown: WaitInfo | None = None, *, may_ask: bool = False) -> Sign:
    """Return a signer for waits that take signed answers only, by the person's SSH agent or key.

    Args:
        shown: The wait as the person saw it, if they did.
        may_ask: A passphrase can be asked for on the terminal.
    """

    def sign(asked: ToSign) -> str | Awaitable[str]:
        from helmr.signing import SshSigner, as_shown

        made = SshSigner(may_ask=may_ask, say=printing.note)
        return made(asked) if shown is None else as_shown(shown, made)(asked)

    return sign


Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Its fields; KEY:=JSON for JSON as it stands. One text, number or choice: the word alone.",
    ),
]


class Said:
    """Data given on the command line, as words or as JSON.

    Args:
        words: Data as `key=value`.
        data: Data as JSON.

    Raises:
        UsageError: Both are given.
    """

    def __init__(
        self, words: list[str] | None, data: str | None, *, option: str = "--data"
    ) -> None:
        if words and data is not None:
            raise UsageError(
                f"it is given twice, by key=value and by {option}", hint="Give one of them."
            )
        self._given = assignments.read(words or [])
        self._data = data
        self.value = MISSING if data is None else json_argument(data, option=option)

    def __bool__(self) -> bool:
        return bool(self._given) or self._data is not None

    @property
    def needs_schema(self) -> bool:
        """True if only the schema says what the words mean."""
        return bool(self._given)

    def to(
        self,
        schema: Mapping[str, Any] | bool | None,
        initial: Any = MISSING,
        *,
        base: Any = MISSING,
    ) -> Any:
        """The data, for what has this schema; the words change `base`, if there is one.

        Raises:
            UsageError: A word names no field of it, or is not of the field's type.
        """
        if not self._given:
            return self.value
        return assignments.assigned(self._given, schema, initial=initial, base=base)


DEVICES = (Path("/dev"), Path("/dev/fd"))


@contextmanager
def replacing(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """Write a file that takes its name only when complete; a failed command leaves the old one.

    Devices, pipes and `/dev/stdout` are written directly. A link stays a link, but is refused for a private file:
    another user may have planted it.

    Args:
        path: Its name.
        is_private: A file that is made is for this user alone.

    Raises:
        UsageError: It can't be written.
    """
    if is_private and path.is_symlink() and path.parent not in DEVICES:
        raise UsageError(f"{path} is a link", hint="Name the file itself, or another.")
    is_file = not path.exists() or (path.is_file() and path.parent not in DEVICES)
    whole = path.resolve()
    beside = whole.with_name(f".{whole.name}.{os.getpid()}.part") if is_file else whole
    try:
        file = open(beside, "wb", opener=_opener(is_private) if is_file else None)  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from error
    try:
        with file:
            yield file
        if is_file:
            beside.replace(whole)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        if is_file:
            beside.unlink(missing_ok=True)


def _opener(is_private: bool) -> Callable[[str, int], int]:
    """Create a new file; fails if the name exists, a planted link included."""
    mode = 0o600 if is_private else 0o666

    def opened(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, mode)

    return opened
