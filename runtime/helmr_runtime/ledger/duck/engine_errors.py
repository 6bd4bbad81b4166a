"""Which of the engine's errors pass with time, and which are the file's own."""

from __future__ import annotations

from pathlib import Path

import duckdb

from helmr.errors import DataError, HelmrError, StoreUnavailable

_PASSING = (OSError, duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException)
"""Of the machine: its disk, its memory, its rights."""

_LASTING = (
    *("orrupt", "does not match", "not a valid", "Could not read enough bytes"),
    *("version number", "newer version", "older version"),
)
"""What input and output errors say that are about what stands in the file; the engine has no class for that."""


def unopened(path: Path, error: Exception) -> HelmrError:
    """The error of a ledger that the engine, or the system, does not open."""
    said = str(error).splitlines()[0]
    of_file = said.replace(str(path), "")
    if isinstance(error, _PASSING) and not any(sign in of_file for sign in _LASTING):
        return StoreUnavailable(f"{path} can't be opened: {said}")
    return DataError(
        f"{path} can't be opened: {said}",
        hint="Trying again mends nothing. Keep a copy of the data directory as it is, then try `helmr repair`, which "
        "keeps the old file too. Else go on with a backup, or with a copy that was made while the runtime was stopped.",
    )
