"""The first of the command line that runs, before anything that takes time to import.

Until a command is there to be interrupted, Ctrl-C ends the process at once and in silence, as it does when the
command has ended and the interpreter puts its things away.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` first makes enums, and Ctrl-C may fall into that
import os
import sys

TYPE_CHECKING = False  # `typing` takes long
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

INTERRUPTED = 130
"""`ExitCode.INTERRUPTED`, whose module is not imported yet."""


def main() -> NoReturn:
    """Run the command of this process, then exit with its code."""
    _signal.signal(_signal.SIGINT, _end)
    if sys.argv[1:] == ["--version"] and sys.stdout is not None:
        _tell_version()
    from helmr.cli.main import main as run

    run()


def _tell_version() -> NoReturn:
    """Say it without the rest of the command line, which takes long to import."""
    from helmr.version import version

    try:
        sys.stdout.write(f"helmr {version()}\n")
        sys.stdout.flush()
    except OSError:  # the reader is gone, or the disk is full
        os._exit(1)
    os._exit(0)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Nothing is written yet that would have to be flushed, and an import is not a place for an exception."""
    os._exit(INTERRUPTED)
