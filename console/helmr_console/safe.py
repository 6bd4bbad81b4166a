"""The only way from session text to the screen: `helmr.safe_text`, then `Content` without markup."""

from __future__ import annotations

from textual.content import Content

from helmr.safe_text import one_line, plain

TEXT_CELLS_MAX = 64_000
"""What is drawn of one text; the rest is counted and can be copied."""


def text(value: object, style: str = "", *, limit: int | None = TEXT_CELLS_MAX) -> Content:
    """Session text as content; newlines stay."""
    return Content.styled(plain(value, limit), style)


def line(value: object, style: str = "", *, limit: int | None = TEXT_CELLS_MAX) -> Content:
    """Session text on one line."""
    return Content.styled(one_line(value, limit), style)
