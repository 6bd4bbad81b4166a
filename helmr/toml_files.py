"""TOML files that people write: read within a size, and with one error whatever is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from helmr.errors import UsageError


def read_toml(path: Path, *, bytes_max: int) -> dict[str, Any]:
    """What stands in a file.

    Raises:
        FileNotFoundError: There is none.
        UsageError: It can't be read, is no TOML, or has more than `bytes_max`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error
    if len(raw) > bytes_max:
        raise UsageError(f"{path} has more than {bytes_max} bytes")
    return parse_toml(raw, f"{path}")


def parse_toml(raw: bytes, what: str) -> dict[str, Any]:
    """What a text in TOML says.

    Args:
        raw: The text, in UTF-8.
        what: What it is called in the error.

    Raises:
        UsageError: It is none.
    """
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise UsageError(f"{what} can't be read: it is nested too deeply") from error
    except ValueError as error:  # also of a number that has too many digits
        raise UsageError(f"{what} can't be read: {error}") from error
