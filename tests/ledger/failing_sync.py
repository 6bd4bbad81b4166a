"""A library that makes syncing fail while a file is there, for processes that load it before the C library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests import preloaded

VARIABLE = "HELMR_TEST_SYNC_FAILS"


def library(folder: Path) -> Mapping[str, str] | None:
    """What such a process's environment needs; None where there is no C compiler."""
    built = preloaded.library(Path(__file__).with_name("failing_sync.c"), folder)
    if built is None:
        return None
    return {preloaded.PRELOAD: str(built), VARIABLE: str(folder / "sync-fails")}
