"""One text through $EDITOR and back."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

EDITED_BYTES_MAX = 2_000_000
LOOK_EVERY_S = 0.25
"""Seconds between two calls of `meanwhile` while the editor is open."""


class EditorFailed(Exception):
    """The editor could not run or did not end well; the text is as before."""


def editor_command(environ: Mapping[str, str]) -> list[str]:
    """`$VISUAL`, else `$EDITOR`, else vi."""
    return shlex.split(environ.get("VISUAL") or environ.get("EDITOR") or "vi")


def edit(
    text: str,
    environ: Mapping[str, str],
    *,
    suffix: str = ".txt",
    meanwhile: Callable[[], object] | None = None,
) -> str:
    """Open the text in the person's editor and return the edited text, without the newline that editors append.

    It blocks until the editor exits, so suspend the app around it. It calls `meanwhile` repeatedly, which must not
    write to the terminal.

    Raises:
        EditorFailed: Says which command and why.
    """
    command = editor_command(environ)
    handle, name = tempfile.mkstemp(suffix=suffix, prefix="helmr-")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        status = _run([*command, name], meanwhile)
        if status:
            raise EditorFailed(f"{command[0]} ended with {status}; the text is as before")
        if path.stat().st_size > EDITED_BYTES_MAX:
            raise EditorFailed("the text is over 2 MB; it is as before")
        return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError as error:
        raise EditorFailed(f"{command[0]}: {error.strerror}; set $EDITOR") from error
    finally:
        path.unlink(missing_ok=True)


def _run(command: list[str], meanwhile: Callable[[], object] | None) -> int:
    if meanwhile is None:
        return subprocess.run(command, check=False).returncode
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait(LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                meanwhile()
