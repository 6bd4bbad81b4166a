"""The hash seed of a data directory, for the processes of its runtime (`helmr.hash_seed`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from helmr.hash_seed import FILE, VARIABLE, fresh_seed, is_seed, kept_seed
from helmr_runtime.process.orphans import write_private


def give_seed(data_dir: Path) -> None:
    """Have processes that are started from now on take the seed, or a fresh one; `keep_seed` stores it."""
    os.environ.setdefault(VARIABLE, kept_seed(data_dir) or fresh_seed())


def keep_seed(data_dir: Path, say: Callable[[str], None]) -> None:
    """Keep the seed of this environment for the next start; says so if the sessions have begun with another.

    Comes when nothing can refuse the start any more, as keys do.
    """
    given, kept = os.environ.get(VARIABLE, ""), kept_seed(data_dir)
    if kept is None and is_seed(given):
        write_private(data_dir / FILE, f"{given}\n")
    elif kept is not None and given and given != kept:
        say(
            f"{VARIABLE} is {given}, and {kept} in {data_dir / FILE}: sessions that go through a set of texts "
            "may be blocked. Unset it, or remove that file."
        )
