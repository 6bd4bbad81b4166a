"""A terminal as lines: one is read while time goes on, nothing is drawn over, nothing needs a cursor.

The terminal's own line editing is left as it is. So it works where TERM is dumb, over a slow link and with a screen
reader, and what is typed ahead is kept whole.
"""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helmr.cli import printing
from helmr.safe_text import typed

LINE_BYTES_MAX = 4_095
"""A terminal that edits lines cuts longer ones without a word (N_TTY of Linux)."""
LOOK_EVERY_S = 0.25
"""How often what time does is looked after while no one types."""


class EndOfInput(Exception):
    """Ctrl-D, or the terminal is gone."""


class LineTooLong(Exception):
    """The terminal cut the line: what is left of it is not what was typed."""


class Lines:
    """Reads lines of the terminal that is standard input.

    Args:
        meanwhile: Called while a line is waited for; gives True if it wrote something, so that the prompt is repeated.
    """

    def __init__(self, meanwhile: Callable[[], bool]) -> None:
        self._fd = sys.stdin.fileno()
        self._meanwhile = meanwhile
        self._begun = b""

    def ask(self, prompt: str) -> str:
        """The next line, without what can't be seen in it.

        Raises:
            EndOfInput: Ctrl-D on an empty line.
            LineTooLong: It was over `LINE_BYTES_MAX` bytes.
            ReaderGone: No one reads the prompt.
        """
        self._meanwhile()
        _prompt(prompt)
        while (line := self._look(LOOK_EVERY_S)) is None:
            if self._meanwhile():
                _prompt(prompt)
        return line

    def ask_hidden(self, prompt: str) -> str:
        """As `ask`, and what is typed is not shown.

        Raises:
            EndOfInput, LineTooLong, ReaderGone: As `ask`.
        """
        with self._without_echo():
            line = self.ask(prompt)
        printing.write("")
        return line

    def ready(self) -> Iterator[str]:
        """Lines that were typed already; one that was cut is empty.

        Raises:
            EndOfInput: The terminal is gone.
        """
        while (line := self.within(0.0)) is not None:
            yield line

    def within(self, within_s: float) -> str | None:
        """The next line if one comes within this time; one that was cut is empty.

        Raises:
            EndOfInput: Ctrl-D on an empty line.
        """
        try:
            return self._look(within_s)
        except LineTooLong:
            return ""

    def _look(self, within_s: float) -> str | None:
        """A line if one is whole within this time."""
        if not select.select([self._fd], [], [], within_s)[0]:
            return None
        try:
            raw = os.read(self._fd, LINE_BYTES_MAX + 1)
        except OSError as error:  # the terminal was hung up
            raise EndOfInput from error
        if not raw and not self._begun:
            raise EndOfInput
        self._begun += raw
        if not self._begun.endswith(b"\n"):
            return None  # Ctrl-D behind something typed
        raw, self._begun = self._begun, b""
        if len(raw) > LINE_BYTES_MAX:
            raise LineTooLong
        return typed(raw.decode("utf-8", "replace").removesuffix("\n"))[0]

    @contextmanager
    def _without_echo(self) -> Iterator[None]:
        before = termios.tcgetattr(self._fd)
        hidden = [*before]
        hidden[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSADRAIN, hidden)
        try:
            yield
        finally:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)


def _prompt(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise printing.ReaderGone from error
