"""One hash seed for each data directory; removal of temporary folders.

Sets of texts must have the same order in every process that runs a directory's sessions. Python draws a seed for each
process, so code that iterates over a set would ask for other ops after a restart. The first start writes the seed to
a file of the data directory. It is secret, because a known seed lets attackers craft texts that are slow to look up.
The runtime keeps a `PYTHONHASHSEED` that is already set.

Temporary folders hold the evidence of a failed start, such as Ray's logs, and are removed when their owner ends.
`HELMR_KEEP_TEMPORARY` names a folder to move them to instead.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

DATA_DIR = Path(".helmr")
"""The data directory of a runtime that names none."""

VARIABLE = "PYTHONHASHSEED"
FILE = "hash-seed"
SEED_BYTES = 4

is_own_program = False
"""True when the command line is the program of its process and may restart it; False when other code calls it."""


def kept_seed(data_dir: Path) -> str | None:
    """The seed of a data directory; None if it has none that can be used."""
    try:
        text = (data_dir / FILE).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if is_seed(text) else None


def start_with_seed(data_dir: Path, *, makes_one: bool = True) -> None:
    """Replace this process by the same command with the seed, which only a fresh interpreter reads.

    It does nothing in a process that has a seed or is not a program of its own, nor, unless `makes_one`, for a data
    directory without a seed.
    """
    seed = kept_seed(data_dir) or (fresh_seed() if makes_one else None)
    if os.environ.get(VARIABLE) or seed is None or not is_own_program:
        return
    os.environ[VARIABLE] = seed
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the caller has closed it
            stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def fresh_seed() -> str:
    """Return a random seed."""
    return str(int.from_bytes(os.urandom(SEED_BYTES), "big"))


def is_seed(text: str) -> bool:
    """Return True when Python accepts it as a fixed seed; `random` is none."""
    return text.isascii() and text.isdigit() and int(text) < 256**SEED_BYTES


KEEP_VARIABLE = "HELMR_KEEP_TEMPORARY"


def remove_folder(folder: Path) -> None:
    """Remove a temporary folder, or move it into the folder `HELMR_KEEP_TEMPORARY`; harmless if it is gone.

    A folder on another file system can't be moved and stays in place.
    """
    kept_in = os.environ.get(KEEP_VARIABLE)
    if not kept_in:
        shutil.rmtree(folder, ignore_errors=True)
        return
    Path(kept_in).mkdir(mode=0o700, parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=kept_in))
    try:
        folder.rename(place)
    except OSError:
        place.rmdir()
