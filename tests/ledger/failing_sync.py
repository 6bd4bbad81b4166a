"""A library that makes syncing fail while a file is there, for processes that load it before the C library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "HELMR_TEST_SYNC_FAILS"


def library(folder: Path) -> Mapping[str, str] | None:
    """What such a process's environment needs; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    built = folder / "failing_sync.so"
    source = Path(__file__).with_name("failing_sync.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(built), VARIABLE: str(folder / "sync-fails")}
