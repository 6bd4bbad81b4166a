"""The last look at every line before it goes to the terminal: no control, bidi or zero-width character passes.

`safe` is the door for session text; this catches what is typed or pasted into fields, and mistakes. It works on
segments of drawn lines, so the app's own escape codes, which are styles there, are not touched.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class Guard(LineFilter):
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


@lru_cache(2_048)
def clean(text: str) -> str:
    """The text with everything hidden replaced."""
    return "".join("\ufffd" if unicodedata.category(char) in _HIDDEN else char for char in text)


def typed(text: str) -> tuple[str, int]:
    """Text for a field without what can't be shown in one, and how many characters that were.

    Newlines and tabs stay.
    """
    kept = "".join(
        char for char in text if char in "\n\t" or unicodedata.category(char) not in _HIDDEN
    )
    return kept, len(text) - len(kept)
