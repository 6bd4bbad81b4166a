"""The terminal and its pipes: writes to stdout and stderr, and reads lines. Whatever a session supplied goes through
`safe_text` here and nowhere else.

To a terminal: tables and colour, by rich, or a block per row where a table has no room.
Otherwise: plain aligned columns, no colour, nothing cut, one line per row. With `--json`: one document, or one line per
item when following.

A line is read while time goes on. The terminal's own line editing is left as it is: so it works where TERM is dumb,
over a slow link and with a screen reader, and what is typed ahead is kept whole.
"""

from __future__ import annotations

import json as json_module
import os
import re
import select
import shutil
import sys
import termios
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from helmr.cli.app import now
from helmr.errors import HelmrError
from helmr.wire.durations import spell
from helmr.wire.safe_text import cells, json_text, one_line, plain, typed

if TYPE_CHECKING:
    from pydantic import BaseModel


GAP = "  "
NOTHING = "-"
UNFOLDED = ("ID", "SEQ")
"""Columns whose cells are for copying."""

TIME = re.compile(r"\b(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z(?! \()")
"""A time in an error's message."""

FOLDED_CELLS_MIN = 8
"""A cell that is folded narrower than this is not read but deciphered."""


class ReaderGone(Exception):
    """The reader of stdout closed the pipe. Not an OSError: Typer has its own way to end on those."""


def is_terminal(stream: TextIO) -> bool:
    """True if a person reads it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def write(text: str) -> None:
    """Write one line to stdout, flushed, so that a pipe sees it at once. The text must be safe already.

    Raises:
        ReaderGone: The pipe is closed.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error


def note(text: str) -> None:
    """A line to stderr for the person, apart from the output."""
    sys.stderr.write(plain(text, None) + "\n")
    sys.stderr.flush()


def error_lines(message: str, hint: str | None) -> None:
    """An error: one line, and its hint on a line of its own."""
    note(f"helmr: {one_line(message, None)}")
    if hint:
        note(f"hint: {one_line(hint, None)}")


def error(failed: HelmrError) -> None:
    """A HelmrError, with the failing paths of its data in the same line."""
    error_lines(error_text(failed), failed.hint)
    if sys.stderr.isatty():  # a program has the exit code, and --json the code
        note(f"see: docs/{failed.page()}")


def error_text(failed: HelmrError) -> str:
    """Describe an error on one safe line, with the failing paths of its data."""
    message = TIME.sub(_with_distance, failed.message)
    found = [(one["path"], one.get("message", "")) for one in failed.errors if one.get("path")]
    untold = [f"{path}: {text}" for path, text in found if not _says(message, path, text)]
    if untold:
        begin = message.rstrip(".") + (": " if len(untold) == len(found) else "; ")
        message = begin + "; ".join([*(one.rstrip(".") for one in untold[:-1]), untold[-1]])
    return one_line(message, None)


def _with_distance(found: re.Match[str]) -> str:
    text = f"{found[1]}Z"
    return f"{text} ({distance(datetime.fromisoformat(text))})"


def distance(moment: datetime) -> str:
    """Return a time's distance from now: `in 7d`, `12s ago`."""
    distance_s = (moment - now()).total_seconds()
    return f"in {spell(distance_s)}" if distance_s > 0 else f"{spell(-distance_s)} ago"


def _says(message: str, path: str, text: str) -> bool:
    """True if a message names the problem at a path, as `path text` or `path: text`."""
    text = text.rstrip(".").lower()
    return any(f"{path}{gap}{text}".lower() in message.lower() for gap in (" ", ": "))


def as_json(value: BaseModel | dict[str, Any]) -> str:
    """Compact JSON text of a wire model, safe for a terminal: controls are escaped, nothing is lost."""
    parts = value if isinstance(value, dict) else value.model_dump(mode="json", by_alias=True)
    return json_text(json_module.dumps(parts, ensure_ascii=False, separators=(",", ":")))


def write_json(value: BaseModel | dict[str, Any]) -> None:
    """Print one JSON document on one line."""
    write(as_json(value))


def write_json_list(items: Iterable[BaseModel], next_cursor: str | None) -> None:
    """A list as one document `{items, next_cursor}`."""
    dumped = [item.model_dump(mode="json", by_alias=True) for item in items]
    write_json({"items": dumped, "next_cursor": next_cursor})


def cell(value: object) -> str:
    """A value as one line of safe text; nothing is `-`."""
    if value is None or value == "" or value == []:
        return NOTHING
    if isinstance(value, list | tuple):
        return one_line(" ".join(str(part) for part in value), None)
    return one_line(value, None)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    narrow: Callable[[], Iterable[str]] | None = None,
) -> None:
    """A table for people; headings are ours, cells are text of sessions.

    `narrow` makes the lines for a terminal that has no room for the table, instead of a block for each row.
    """
    texts = [[cell(value) for value in row] for row in rows]
    widths = [
        max([cells(heading), *(cells(row[index]) for row in texts)])
        for index, heading in enumerate(columns)
    ]
    if is_terminal(sys.stdout):
        width = shutil.get_terminal_size().columns
        if not texts or _least_width(columns, widths) <= width:
            _rich_table(columns, texts)
        elif narrow is not None:
            for line in narrow():
                write(one_line(line, max(20, width)))
        else:
            _blocks(columns, texts)
        return
    for row in [list(columns), *texts]:
        padded = [
            text + " " * (width - cells(text)) for text, width in zip(row, widths, strict=True)
        ]
        write(GAP.join(padded).rstrip())


def fields(pairs: Iterable[tuple[str, object]], *, indent: int = 0) -> None:
    """Names and values, one line each; a value of several lines is indented below its name."""
    shown = list(pairs)
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = NOTHING if value is None or value == "" or value == [] else _field(value)
        label = " " * indent + name.ljust(width)
        if "\n" not in text:
            write(f"{label}{GAP}{text}")
            continue
        write(label.rstrip())
        for line in text.split("\n"):
            write(" " * (indent + 2) + line)


def write_line(text: str) -> None:
    """Print one line of a session's text; a terminal gets it cut to its width."""
    width = None
    if is_terminal(sys.stdout):
        width = max(20, shutil.get_terminal_size().columns)
    write(one_line(text, width))


def write_done(text: str) -> None:
    """Print the result of a command and its next step, uncut: a path may be wider than the terminal."""
    write(one_line(text, None))


def _field(value: object) -> str:
    if isinstance(value, list | tuple):
        return one_line(" ".join(str(part) for part in value), None)
    return plain(value, None)


def _least_width(columns: Sequence[str], widths: Sequence[int]) -> int:
    """Return the least width of a readable table, in cells: headings and ids whole, other cells folded."""
    least = [
        width if heading in UNFOLDED else max(cells(heading), min(width, FOLDED_CELLS_MIN))
        for heading, width in zip(columns, widths, strict=True)
    ]
    return sum(least) + len(GAP) * (len(columns) - 1)


def _blocks(columns: Sequence[str], rows: list[list[str]]) -> None:
    """Print a block per row where a table does not fit, without empty cells."""
    for index, row in enumerate(rows):
        if index:
            write("")
        named = zip((heading.lower() for heading in columns), row, strict=True)
        fields([(name, text) for name, text in named if text != NOTHING])


def _rich_table(columns: Sequence[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in columns:
        # Ids are for copying: they keep their line while there is room; long texts fold.
        shown.add_column(heading, overflow="fold", no_wrap=heading in UNFOLDED)
    for row in rows:
        shown.add_row(*(Text(text) for text in row))
    Console(highlight=False, emoji=False, markup=False).print(shown)


LINE_BYTES_MAX = 4_095
"""A terminal that edits lines cuts longer ones without a word (N_TTY of Linux)."""
LOOK_EVERY_S = 0.25
"""Seconds between two looks at what is due while no one types."""


class EndOfInput(Exception):
    """Ctrl-D, or the terminal is gone."""


class LineTooLong(Exception):
    """The terminal cut the line, so what is left is not what was typed."""


class Lines:
    """Reads lines of the terminal that is standard input.

    Args:
        meanwhile: Called while a line is waited for; gives True if it wrote something, so that the prompt is repeated.
    """

    def __init__(self, meanwhile: Callable[[], bool]) -> None:
        self._fd = sys.stdin.fileno()
        self._meanwhile = meanwhile
        self._begun = b""

    def ask(self, prompt: str) -> str:
        """The next line, without what can't be seen in it.

        Raises:
            EndOfInput: Ctrl-D on an empty line.
            LineTooLong: It was over `LINE_BYTES_MAX` bytes.
            ReaderGone: No one reads the prompt.
        """
        self._meanwhile()
        _prompt(prompt)
        while (line := self._look(LOOK_EVERY_S)) is None:
            if self._meanwhile():
                _prompt(prompt)
        return line

    def ask_hidden(self, prompt: str) -> str:
        """Ask like `ask`, without echo.

        Raises:
            EndOfInput, LineTooLong, ReaderGone: As `ask`.
        """
        with self._without_echo():
            line = self.ask(prompt)
        write("")
        return line

    def ready(self) -> Iterator[str]:
        """Lines that were typed already; one that was cut is empty.

        Raises:
            EndOfInput: The terminal is gone.
        """
        while (line := self.within(0.0)) is not None:
            yield line

    def within(self, within_s: float) -> str | None:
        """The next line if one comes within this time; one that was cut is empty.

        Raises:
            EndOfInput: Ctrl-D on an empty line.
        """
        try:
            return self._look(within_s)
        except LineTooLong:
            return ""

    def _look(self, within_s: float) -> str | None:
        """A line if one is whole within this time."""
        if not select.select([self._fd], [], [], within_s)[0]:
            return None
        try:
            raw = os.read(self._fd, LINE_BYTES_MAX + 1)
        except OSError as error:  # the terminal was hung up
            raise EndOfInput from error
        if not raw and not self._begun:
            raise EndOfInput
        self._begun += raw
        if not self._begun.endswith(b"\n"):
            return None  # Ctrl-D behind something typed
        raw, self._begun = self._begun, b""
        if len(raw) > LINE_BYTES_MAX:
            raise LineTooLong
        return typed(raw.decode("utf-8", "replace").removesuffix("\n"))[0]

    @contextmanager
    def _without_echo(self) -> Iterator[None]:
        before = termios.tcgetattr(self._fd)
        hidden = [*before]
        hidden[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSADRAIN, hidden)
        try:
            yield
        finally:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)


def _prompt(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error
