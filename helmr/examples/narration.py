"""Tells a story on stdout: in colour on a terminal, as plain lines anywhere else."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from helmr.safe_text import plain

BOLD, DIM, GREEN, CYAN, RED = "1", "2", "32", "1;36", "1;31"
INDENT = "   "


class Narrator:
    """Writes headings, commands, what they print, and claims that hold.

    Args:
        out: Where to; stdout if not given.
        err: Where failures go; stderr if not given.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._chapters = 0

    def title(self, text: str) -> None:
        """What this is about."""
        self._write(text, BOLD)

    def chapter(self, text: str) -> None:
        """The next thing that happens."""
        self._chapters += 1
        self._write("")
        self._write(f"{self._chapters}. {text}", CYAN)

    def command(self, text: str) -> None:
        """A command as a person would type it."""
        self._write(f"{INDENT}$ {text}", BOLD)

    def shown(self, text: str) -> None:
        """What a command printed, or other text of several lines."""
        for line in text.rstrip("\n").split("\n"):
            self._write(f"{INDENT}{line}", DIM)

    def says(self, text: str) -> None:
        """A remark."""
        self._write(f"{INDENT}{text}")

    def holds(self, text: str) -> None:
        """Something that was checked."""
        self._write(f"{INDENT}✓ {text}", GREEN)

    def fails(self, message: str, hint: str | None = None) -> None:
        """Why the story ends here: one line, and its hint on a line of its own."""
        self._write(f"helmr demo: {message}", RED, to=self._err)
        if hint:
            self._write(f"hint: {hint}", to=self._err)

    def _write(self, text: str, style: str | None = None, *, to: TextIO | None = None) -> None:
        out = to or self._out
        line = plain(text, None)
        if style is not None and line and _takes_colour(out):
            line = f"\x1b[{style}m{line}\x1b[0m"
        out.write(line + "\n")
        out.flush()


def _takes_colour(out: TextIO) -> bool:
    """Colour on a terminal, unless its user said otherwise. Source: no-color.org."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
