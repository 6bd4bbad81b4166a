"""What commands read and write: JSON as an argument, from `@file` or `-`, `key=value` words, and files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from helmr import jsonio
from helmr.errors import BadJson, TooLarge, UsageError
from helmr.forms import MISSING, assignments
from helmr.models import HTTP_BODY_BYTES_MAX


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
    """As `json_argument`, when only an object will do."""
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
    """What a source is called in messages."""
    return "standard input" if text == "-" else text.removeprefix("@")


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Its fields; KEY:=JSON for JSON as it stands."),
]


class Said:
    """What the command line says that data is.

    Args:
        words: As `key=value`.
        data: As JSON.

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
        """Only the schema says what the words mean."""
        return bool(self._given)

    def to(self, schema: Mapping[str, Any] | bool | None, initial: Any = MISSING) -> Any:
        """The data, for what has this schema.

        Raises:
            UsageError: A word names no field of it, or is not of the field's type.
        """
        if not self._given:
            return self.value
        return assignments.assigned(self._given, schema, initial=initial)


DEVICES = (Path("/dev"), Path("/dev/fd"))


@contextmanager
def replacing(path: Path, *, is_private: bool = False) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole; a failed command leaves what was there.

    What is not a file (a device, a pipe, `/dev/stdout` wherever that leads) is written into. A link stays one; where
    the file is to be this user's alone it is refused, for it may be another's who waits for that.

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
    """Makes a file that is not there yet: no one has laid a link under its name."""
    mode = 0o600 if is_private else 0o666

    def opened(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, mode)

    return opened
