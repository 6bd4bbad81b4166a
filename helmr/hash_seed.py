"""One hash seed for each data directory: a set of texts has the same order in every process that runs its sessions.

Python draws a seed for each process, and code that goes through a set would ask for other ops after a restart. The seed
is a file of the data directory, made at the first start and secret: with a known one, texts can be made that are slow
to look up. A `PYTHONHASHSEED` that is set by whoever starts the runtime stays.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "PYTHONHASHSEED"
FILE = "hash-seed"
SEED_BYTES = 4

is_own_program = False
"""The command line is its process's program, and may start it again; not where a test or another program calls it."""


def kept_seed(data_dir: Path) -> str | None:
    """The seed of a data directory; None if it has none that can be used."""
    try:
        text = (data_dir / FILE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if is_seed(text) else None


def start_with_seed(data_dir: Path, *, makes_one: bool = True) -> None:
    """Become a process of the same command with the seed: only a fresh interpreter takes it.

    Nothing happens in a process that has one, in one that is no program of its own, and, unless `makes_one`, where the
    data directory has none.
    """
    seed = kept_seed(data_dir) or (fresh_seed() if makes_one else None)
    if os.environ.get(VARIABLE) or seed is None or not is_own_program:
        return
    os.environ[VARIABLE] = seed
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def fresh_seed() -> str:
    """A seed that nobody knows."""
    return str(int.from_bytes(os.urandom(SEED_BYTES), "big"))


def is_seed(text: str) -> bool:
    """Python takes it, and it is no word for another in each process."""
    return text.isascii() and text.isdigit() and int(text) < 256**SEED_BYTES
