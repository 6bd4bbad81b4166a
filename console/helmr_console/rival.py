"""Another's answer that was first, beside what was entered here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.content import Content

from helmr.difflines import diff, summary
from helmr.forms import Built, Form, pretty, redacted
from helmr_console import safe
from helmr_console.widgets.panes import head

LINES_MAX = 20


def whole(form: Form, theirs: Any) -> list[Content]:
    """Their answer in full, without secrets."""
    return [head("Their answer"), safe.text(pretty(redacted(form, theirs))), Content("")]


def compared(form: Form, theirs: Any, own: Built) -> Sequence[str]:
    """Their answer against one's own; of a form that is not complete, the beginning of theirs."""
    shown = redacted(form, theirs)
    if own.problems:
        return ("their answer:", *_cut(pretty(shown).splitlines()))
    found = diff(shown, redacted(form, own.data))
    lines = [f"{line.sign} {line.path}  {line.text}" for line in found]
    return (f"their answer against yours: {summary(found)}", *_cut(lines))


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - LINES_MAX
    more = [f"… {rest} more; F3 has all of theirs"] if rest > 0 else []
    return [*lines[:LINES_MAX], *more]
