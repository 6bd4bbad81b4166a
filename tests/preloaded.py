"""C sources that are built for a test and loaded by processes before the C library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

PRELOAD = "LD_PRELOAD"


def library(source: Path, folder: Path) -> Path | None:
    """The library of a C file, built in the folder; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    built = folder / f"{source.stem}.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


def together(*environments: Mapping[str, str]) -> dict[str, str]:
    """One environment that loads the libraries of all."""
    both = {name: value for one in environments for name, value in one.items()}
    loaded = [one[PRELOAD] for one in environments if PRELOAD in one]
    return {**both, PRELOAD: ":".join(loaded)} if loaded else both
