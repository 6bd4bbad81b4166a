"""What is sent, as content: the review before it leaves, the JSON of a form, another's answer beside one's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from textual.content import Content

from helmr.forms import Built, Form, pretty, redacted
from helmr.review import words
from helmr.review.outcome import against
from helmr.review.sending import Submission
from helmr_console import safe
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.panes import head, lines


def preview(form: SchemaForm) -> list[Content]:
    """The JSON as it is now, without secrets, and whether it fits."""
    built, title = form.result(), head("What would be sent")
    if built.problems:
        return [title, safe.line("not complete yet", "$c-muted")]
    shown = pretty(redacted(form.form, built.data))
    return [title, safe.text(shown), safe.line("fits the schema", "$c-success")]


def _sent(sent: Submission) -> list[Content]:
    if not sent.spelled:
        return [safe.text(sent.shown)]
    if sent.is_json:
        return [safe.text(sent.shown), head("F2 shows its texts as texts")]
    return [safe.text(sent.spelled), head("F2 shows it as JSON")]


def review(sent: Submission, effects: Sequence[str], identity: str, *, over: str) -> list[Content]:
    """Exactly what leaves, as whom, and what it does; what would have left if `over` says why it can't any more."""
    parts = [
        head("This was to be sent" if over else "This is sent, exactly"),
        *_sent(sent),
        Content(""),
    ]
    if sent.left_out:
        parts.append(head("Not sent, so the task takes its default"))
        parts += [safe.line(f"{name}: {text}", limit=200) for name, text in sent.left_out]
        parts.append(Content(""))
    if not over:
        parts += [head("It will do this"), *map(safe.line, effects), Content("")]
    who = safe.line(identity, "bold")
    parts.append(Content.assemble(("As  ", "$c-muted"), who, ("  recorded with it", "$c-muted")))
    return [*parts, Content("")]


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
            head(f"{words.clock(at)} UTC  {title}"),
            *(safe.text(text, limit=None) for text in told),
            safe.line("yours was not stored; it is kept as a draft", "$c-muted"),
            Content(""),
        ]
    )


def _cut(lines: list[str]) -> list[str]:
    rest = len(lines) - LINES_MAX
    more = [f"… {rest} more; F3 has all of theirs"] if rest > 0 else []
    return [*lines[:LINES_MAX], *more]
