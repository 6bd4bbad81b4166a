"""One hash seed for each data directory, and how temporary folders end.

A set of texts has the same order in every process that runs a directory's sessions. Python draws a seed for each
process, and code that goes through a set would ask for other ops after a restart. The seed is a file of the data
directory, made at the first start and secret: with a known one, texts can be made that are slow to look up. A
`PYTHONHASHSEED` that is set when the runtime starts stays.

Temporary folders hold what explains a bad start, Ray's logs above all, and go when their owner ends.
`HELMR_KEEP_TEMPORARY` names a folder to which they are moved instead.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

DATA_DIR = Path(".helmr")
"""A runtime's, if none is named."""

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

    Nothing happens in a process that has one, in one that is not a program of its own, and, unless `makes_one`, where
    the data directory has none.
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
    """A seed that no one knows."""
    return str(int.from_bytes(os.urandom(SEED_BYTES), "big"))


def is_seed(text: str) -> bool:
    """Python takes it, and it is not a word for another in each process."""
    return text.isascii() and text.isdigit() and int(text) < 256**SEED_BYTES


KEEP_VARIABLE = "HELMR_KEEP_TEMPORARY"


def remove_folder(folder: Path) -> None:
    """Remove a temporary folder, or move it to where `HELMR_KEEP_TEMPORARY` says; harmless if it is gone.

    One that can't be moved there, because that is another file system, stays where it is.
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
