"""`helmr.toml`: what a runtime is told that is too long for a command line; today its notice targets."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from helmr.errors import UsageError

CONFIG_NAME = "helmr.toml"
CONFIG_BYTES_MAX = 1024 * 1024


def notices_table(config: Path | None, data_dir: Path) -> tuple[dict[str, Any], str]:
    """The table `[notices]` of the file that was named, or else of the one beside the data directory.

    Returns:
        The table, empty without a file, and the file.

    Raises:
        UsageError: The file was named and is not there, or it can't be read, or says something else.
    """
    path = config if config is not None else data_dir.absolute().parent / CONFIG_NAME
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX).decode("utf-8")
        found = tomllib.loads(text)
    except FileNotFoundError as error:
        if config is None:
            return {}, str(path)
        raise UsageError(f"--config {path}: there is no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    unknown = sorted(found.keys() - {"notices"})
    if unknown:
        raise UsageError(
            f"{path}: {unknown[0]!r} is nothing that Helmr knows",
            hint="Notice targets stand in tables [notices.NAME].",
        )
    return found.get("notices", {}), str(path)
