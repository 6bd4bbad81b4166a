"""The only ways from session text to the screen, and a last check of every line before the terminal.

`text` and `line` turn session text into content, without markup. `LineGuard` catches text typed or pasted into fields,
and mistakes: no control, bidi or zero-width character passes. It works on segments of drawn lines, where the app's own
escape codes are styles and stay untouched.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.content import Content
from textual.filter import LineFilter

from helmr.wire.safe_text import HIDDEN, JOINERS, joins, one_line, plain

TEXT_CELLS_MAX = 64_000
"""Cells drawn of one text; the rest is counted and can be copied."""


def text(value: object, style: str = "", *, limit: int | None = TEXT_CELLS_MAX) -> Content:
    """Session text as content; newlines stay."""
    return Content.styled(plain(value, limit), style)


def line(value: object, style: str = "", *, limit: int | None = TEXT_CELLS_MAX) -> Content:
    """Session text on one line."""
    return Content.styled(one_line(value, limit), style)


class LineGuard(LineFilter):
    """Replaces characters that a terminal could obey by `�`."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments; printable text passes unchanged."""
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
    ord("▓"): "#",  # progress of a batch
    ord("░"): ".",
    **dict.fromkeys(range(0x2400, 0x2440), "?"),  # pictures of control characters in data
    **dict(zip(map(ord, "…•·○◆✓▲▼►▶◀→←—“”⟨⟩\ufffd"), '~o.o++^v>><><-""<>?', strict=True)),
    0x2013: "-",  # en dash
    0x2018: "'",
    0x2019: "'",
    0x00D7: "x",
}


def in_ascii(text: str) -> str:
    """Replace the console's own signs by ASCII of the same width."""
    return text.translate(_ASCII)


class AsciiSigns(LineFilter):
    """Replaces the console's own signs by ones that every terminal has, cell for cell.

    Letters of session text stay: approvers see the text itself, as far as the terminal can show it.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments; ASCII text passes unchanged."""
        if all(text.isascii() for text, _, _ in segments):
            return segments
        return [Segment(in_ascii(text), style, control) for text, style, control in segments]


@lru_cache(2_048)
def clean(text: str) -> str:
    """Replace every hidden character; joiners stay where they join, and take no cell elsewhere."""
    return "".join(_clean(text, place, char) for place, char in enumerate(text))


def _clean(text: str, place: int, char: str) -> str:
    if char in JOINERS:
        return char if joins(text, place) else ""
    return "\ufffd" if unicodedata.category(char) in HIDDEN else char
