"""What is sent, as content: the review before it leaves, and the JSON of a form as it is filled."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from helmr.forms import pretty, redacted
from helmr_console import safe
from helmr_console.submission import Submission
from helmr_console.widgets.form import SchemaForm
from helmr_console.widgets.panes import head


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
