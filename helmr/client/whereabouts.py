"""Paths of the files by which clients find a runtime, and a check that the process that wrote one still runs.

It imports no slow module, because a status line calls it every few seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from helmr import platform

TYPE_CHECKING = False  # `typing` takes long
if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIALS_FILE = "credentials.json"
CREDENTIALS_BYTES_MAX = 64 * 1024
DATA_DIR_NAME = ".helmr"
DATA_DIR_VARIABLE = "HELMR_DATA_DIR"
START_SLACK_S = 2.0
"""Tolerance of start times: they are known to a hundredth of a second, the boot time only to a second."""


def named_data_dir(environ: Mapping[str, str]) -> Path | None:
    """The data directory that the environment names."""
    named = environ.get(DATA_DIR_VARIABLE)
    return Path(named) if named else None


def nearest_data_dir(start: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The data directory that the environment names, else the `.helmr/` that is nearest to `start`, there or above."""
    if (named := named_data_dir(environ)) is not None:
        return named
    folders = (folder / DATA_DIR_NAME for folder in (start, *start.parents))
    return next((folder for folder in folders if folder.is_dir()), None)


def pointer_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of the pointers to this user's running runtimes."""
    state = environ.get("XDG_STATE_HOME")
    if state and Path(state).is_absolute():  # the XDG standard: a relative path is to be ignored
        return Path(state) / "helmr" / "runtimes"
    home = environ.get("HOME")
    return (Path(home) if home else Path.home()) / ".local" / "state" / "helmr" / "runtimes"


def sign_ins_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of this user's sign-ins, with a file for each runtime."""
    return pointer_dir(environ).parent / "sign-ins"


def is_live(pid: int, *, written_at_s: float) -> bool:
    """True if the process that wrote its pid at that time still runs; a later process with its number is another."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    except OverflowError:
        return False
    found = platform.look(pid)
    if found is None:
        return True  # it is there, and the system does not show it: no /proc, or one that hides others' processes
    if found[0] in platform.ENDED:
        return False
    started_at_s = platform.started_at_s(pid)
    return started_at_s is None or started_at_s <= written_at_s + START_SLACK_S
