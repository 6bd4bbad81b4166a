"""One text through $EDITOR and back."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

EDITED_BYTES_MAX = 2_000_000


class EditorFailed(Exception):
    """The editor could not run or did not end well; the text is as before."""


def editor_command(environ: Mapping[str, str]) -> list[str]:
    """`$VISUAL`, else `$EDITOR`, else vi."""
    return shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "vi")


def edit(text: str, environ: Mapping[str, str], *, suffix: str = ".txt") -> str:
    """What the person left in the editor; the trailing newline that editors add is taken away.

    Blocks until the editor ends, so the app must be suspended around it.

    Raises:
        EditorFailed: Says which command and why.
    """
    command = editor_command(environ)
    handle, name = tempfile.mkstemp(suffix=suffix, prefix="helmr-")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        status = subprocess.run([*command, name], check=False).returncode
        if status:
            raise EditorFailed(f"{command[0]} ended with {status}; the text is as before")
        if path.stat().st_size > EDITED_BYTES_MAX:
            raise EditorFailed("the text is over 2 MB; it is as before")
        return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError as error:
        raise EditorFailed(f"{command[0]}: {error.strerror}; set $EDITOR") from error
    finally:
        path.unlink(missing_ok=True)
