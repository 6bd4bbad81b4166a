"""Where what outlives a console is kept: drafts (those of `helmr next` too), saved filters, the key map, its log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/helmr/console`."""
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "helmr" / "console"


def config_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/helmr`; the key map and saved filters are read from here."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "helmr"


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step, mode 0600: a crash leaves the old text or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
