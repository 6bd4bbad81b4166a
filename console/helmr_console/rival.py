"""Another's answer that was first, beside what was entered here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from textual.content import Content

from helmr.forms import Built, Form, pretty, redacted
from helmr.rivals import against
from helmr_console import countdown, safe
from helmr_console.widgets.panes import head, lines

LINES_MAX = 20


def whole(form: Form, theirs: Any) -> list[Content]:
    """Their answer in full, without secrets."""
    return [head("Their answer"), safe.text(pretty(redacted(form, theirs))), Content("")]


def compared(form: Form, theirs: Any, own: Built) -> Sequence[str]:
    """Their answer against one's own; of a form that is not complete, the beginning of theirs."""
    if own.problems:
        return ("their answer:", *_cut(pretty(redacted(form, theirs)).splitlines()))
    summary, *rest = against(form, theirs, own.data)
    return (summary, *_cut(rest))


def lost(title: str, told: Sequence[str], at: datetime) -> Content:
    """A pending answer that lost, in full, for a page."""
    return lines(
        [
            head(f"{countdown.clock(at)} UTC  {title}"),
            *(safe.text(text, limit=None) for text in told),
            safe.line("yours was not stored; it is kept as a draft", "$c-muted"),
            Content(""),
        ]
    )


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - LINES_MAX
    more = [f"… {rest} more; F3 has all of theirs"] if rest > 0 else []
    return [*lines[:LINES_MAX], *more]
