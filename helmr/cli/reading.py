"""Reads JSON that a person or a script gives: as an argument, from `@file`, or from standard input (`-`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

from helmr import jsonio
from helmr.errors import BadJson, TooLarge, UsageError
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
        raise UsageError(f"{option}: a JSON object is wanted, not {type(value).__name__}")
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
