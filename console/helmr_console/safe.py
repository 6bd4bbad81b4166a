"""The only ways from session text to the screen, and a last look at every line before it goes to the terminal.

`text` and `line` make content of session text, without markup. `LineGuard` catches what is typed or pasted into fields,
and mistakes: no control, bidi or zero-width character passes. It works on segments of drawn lines, so the app's own
escape codes, which are styles there, are not touched.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter

from helmr.safe_text import HIDDEN, JOINERS, joins, one_line, plain

TEXT_CELLS_MAX = 64_000
"""What is drawn of one text; the rest is counted and can be copied."""


def text(value: object, style: str = "", *, limit: int | None = TEXT_CELLS_MAX) -> Content:
    """Session text as content; newlines stay."""
    return Content.styled(plain(value, limit), style)


def line(value: object, style: str = "", *, limit: int | None = TEXT_CELLS_MAX) -> Content:
    """Session text on one line."""
    return Content.styled(one_line(value, limit), style)


class LineGuard(LineFilter):
    """Replaces what a terminal could obey by `�`."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments; text that is all printable is passed as it is."""
        if all(text.isprintable() for text, _, _ in segments):
            return segments
        return [
            Segment(clean(text), style, control)
            if not text.isprintable()
            else Segment(text, style, control)
            for text, style, control in segments
        ]


_ASCII = {
    **dict.fromkeys(range(0x2500, 0x2580), "+"),  # boxes: their corners and crossings
    **dict.fromkeys(map(ord, "─━┄┅┈┉═╌╍╴╶╸╺"), "-"),
    **dict.fromkeys(map(ord, "│┃┆┇┊┋║╎╏╵╷╹╻"), "|"),
    **dict.fromkeys(range(0x2580, 0x25A0), "|"),  # blocks: ends of scrollbars, edges
    ord("▌"): ">",  # the cursor
    ord("▓"): "#",  # how far a batch is
    ord("░"): ".",
    **dict.fromkeys(range(0x2400, 0x2440), "?"),  # what control characters in data are shown as
    **dict(zip(map(ord, "…•·○◆✓▲▼►▶◀→←—“”⟨⟩\ufffd"), '~o.o++^v>><><-""<>?', strict=True)),
    0x2013: "-",  # en dash
    0x2018: "'",
    0x2019: "'",
    0x00D7: "x",
}


def in_ascii(text: str) -> str:
    """The text with the console's own signs replaced, as many cells wide."""
    return text.translate(_ASCII)


class AsciiSigns(LineFilter):
    """Draws every sign of the console's own by one that each terminal has, cell for cell.

    Letters of what sessions say stay: what is approved is shown as it is, in as far as the terminal can.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same segments; text that is ASCII is passed as it is."""
        if all(text.isascii() for text, _, _ in segments):
            return segments
        return [Segment(in_ascii(text), style, control) for text, style, control in segments]


@lru_cache(2_048)
def clean(text: str) -> str:
    """The text with everything hidden replaced; joiners stay where they join, and take no cell elsewhere."""
    return "".join(_clean(text, place, char) for place, char in enumerate(text))


def _clean(text: str, place: int, char: str) -> str:
    if char in JOINERS:
        return char if joins(text, place) else ""
    return "\ufffd" if unicodedata.category(char) in HIDDEN else char
