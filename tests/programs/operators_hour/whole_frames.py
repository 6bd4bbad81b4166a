"""A terminal that shows frames whole, as today's do: nobody reads half of one screen and half of the next."""

from __future__ import annotations

import os

from tests.console.flow.terminal import Terminal

ASKED = b"\x1b[?2026$p"
"""Whether the terminal knows synchronized output."""
ANSWER = b"\x1b[?2026;2$y"
BEGINS, ENDS = b"\x1b[?2026h", b"\x1b[?2026l"


class WholeFrames(Terminal):
    """What is on the screen, but while a frame is being written what was there before."""

    _answered = False
    _whole = ""
    _whole_of = 0

    def _read(self) -> None:
        super()._read()
        if not self._answered and ASKED in self.raw:
            self._answered = True
            os.write(self.master, ANSWER)

    def _take(self, data: bytes) -> None:
        end = data.rfind(ENDS)
        if end >= 0:  # it is shown, also where the next one begins at once
            end += len(ENDS)
            super()._take(data[:end])
            self._whole, self._whole_of = super().text(), len(self.raw)
        super()._take(data[max(0, end) :])

    def text(self) -> str:
        """The last whole frame."""
        written = len(self.raw)
        if written != self._whole_of and self.raw.rfind(ENDS) >= self.raw.rfind(BEGINS):
            self._whole, self._whole_of = super().text(), written
        return self._whole
