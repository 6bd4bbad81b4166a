"""Text chosen with the mouse in a widget that draws its own lines: what it is, and how it looks.

Places are (character, line) with lines counted from the top of the content, as Textual's own widgets have them.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.segment import Segment
from rich.style import Style
from textual.selection import Selection
from textual.strip import Strip

LINES_MAX = 10_000
"""Longest selection that is copied; what is more is cut, and says so."""
_CHOSEN = Style(reverse=True)


def chosen_text(selection: Selection, line: Callable[[int], str], count: int) -> str:
    """The text between the ends, line by line without the space that fills them.

    Args:
        line: The text of a line.
        count: How many lines there are.
    """
    first = selection.start.y if selection.start is not None else 0
    last = selection.end.y if selection.end is not None else count - 1
    last = min(last, count - 1)
    found = []
    for number in range(first, min(last, first + LINES_MAX - 1) + 1):
        span = selection.get_span(number)
        if span is not None:
            start, end = span
            text = line(number)
            found.append(text[start : None if end == -1 else end].rstrip())
    if last - first >= LINES_MAX:
        found.append(f"… cut: {last - first + 1 - LINES_MAX} more lines")
    return "\n".join(found)


def highlighted(strip: Strip, span: tuple[int, int] | None) -> Strip:
    """The line with its chosen part reversed."""
    if span is None:
        return strip
    start, end = span
    found: list[Segment] = []
    at = 0
    for text, style, _ in strip:
        stop = len(text) if end == -1 else max(0, end - at)
        begin = min(max(0, start - at), stop)
        reversed_style = style + _CHOSEN if style else _CHOSEN
        pieces = ((text[:begin], style), (text[begin:stop], reversed_style), (text[stop:], style))
        found += [Segment(piece, how) for piece, how in pieces if piece]
        at += len(text)
    return Strip(found, strip.cell_length)
