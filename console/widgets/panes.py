"""Panes of text beside a list: titled lines that scroll and never take part in what is typed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from console import countdown, effects, safe
from console.forms.cells import pretty
from console.forms.model import Field, Form, Kind, form_of
from console.views import EntryLine, entry_line, subject_of, who
from helmr.models import EntryInfo, WaitInfo, WaitKind, WaitStatus

BODY_CELLS = 20_000
ANSWER_FIELDS_SHOWN = 12


class TextPane(VerticalScroll, can_focus=False):
    """A titled pane of content."""

    DEFAULT_CSS = """
    TextPane { border: round $c-border; padding: 0 1; background: $c-background; scrollbar-size-vertical: 1;
               border-title-color: $c-muted; border-subtitle-color: $c-muted; }
    TextPane > Static { width: 1fr; background: $c-background; color: $c-foreground; }
    """

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id)
        self._text = Static(Content(""), markup=False)
        self.border_title = Content(title)

    def compose(self) -> Iterable[Static]:
        """One text."""
        yield self._text

    def say(self, content: Content, title: str | None = None) -> None:
        """Show this. The title is safe text."""
        if title is not None:
            self.border_title = Content(title)
        self._text.update(content)


def head(text: str) -> Content:
    """A heading inside a pane; our own words."""
    return Content.styled(text, "$c-muted")


def fact(label: str, value: Content | str) -> Content:
    """`label  value`."""
    return Content.assemble((f"{label:<12}", "$c-muted"), value)


def lines(parts: Sequence[Content]) -> Content:
    """One under the other."""
    return Content("\n").join(parts)


def wait_facts(wait: WaitInfo, store_now: object, due_text: str, due_role: str) -> list[Content]:
    """The lines that say which wait this is."""
    what = wait.stream or wait.kind.value
    parts = [
        Content.assemble(
            (f"{safe.line(what, limit=60)}", "bold"),
            ("  on ", "$c-muted"),
            safe.line(wait.task, limit=60),
        ),
        fact("wait", safe.line(wait.id, limit=80)),
        fact("session", safe.line(wait.session_id, limit=80)),
    ]
    if wait.correlation_id:
        parts.append(fact("correlation", safe.line(wait.correlation_id, limit=200)))
    if wait.token_id:
        parts.append(fact("token", safe.line(wait.token_id, limit=80)))
    if wait.status is WaitStatus.PENDING:
        when = (
            countdown.stamp(wait.deadline_at) if wait.deadline_at else "no deadline, waits for ever"
        )
        left = Content.styled(due_text, f"bold $c-{due_role}" if due_role else "bold")
        parts.append(fact("due", Content.assemble(left, ("  " + when, "$c-muted"))))
    else:
        ended = wait.status.value.replace("_", " ")
        at = f" {countdown.stamp(wait.resolved_at)}" if wait.resolved_at else ""
        parts.append(fact("ended", Content.assemble((ended, "bold"), (at, "$c-muted"))))
        if wait.resolved_by is not None:
            parts.append(fact("by", safe.line(who(wait.resolved_by), limit=100)))
    return parts


def asked(wait: WaitInfo) -> list[Content]:
    """Subject and body: what the task asks."""
    parts = [Content(""), head("Asked"), safe.line(subject_of(wait), "bold")]
    if wait.body:
        parts += [safe.text(wait.body, limit=BODY_CELLS)]
    return parts


def needs(form: Form) -> list[Content]:
    """What the answer is made of."""
    parts = [Content(""), head("Answer needs")]
    fields = list(form.root.children) if form.root.kind is Kind.GROUP else [form.root]
    for item in fields[:ANSWER_FIELDS_SHOWN]:
        star = "*" if item.required else " "
        parts.append(
            Content.assemble(
                safe.line(f"{item.label} {star} ", limit=40),
                safe.line(_needs(item), "$c-muted", limit=200),
            )
        )
    if len(fields) > ANSWER_FIELDS_SHOWN:
        parts.append(head(f"… and {len(fields) - ANSWER_FIELDS_SHOWN} more"))
    return parts


def effect(wait: WaitInfo) -> list[Content]:
    """What answering does."""
    return [
        Content(""),
        head("Effect of answering"),
        *(safe.line(text) for text in effects.of_answer(wait)),
    ]


def last_entries(entries: Sequence[EntryInfo]) -> list[Content]:
    """The newest lines of the transcript."""
    if not entries:
        return []
    return [
        Content(""),
        head("Last entries"),
        *(entry_content(entry_line(entry)) for entry in entries),
    ]


def entry_content(entry: EntryLine) -> Content:
    """One entry as a line of a pane."""
    role = f"$c-{entry.role}" if entry.role else ""
    by = Content.styled(f"  {entry.by}", "$c-muted") if entry.by else Content("")
    return Content.assemble(
        (f"#{entry.seq:<4} ", "$c-muted"),
        (f"{entry.word:<7} ", role or "$c-muted"),
        safe.line(entry.text, limit=300),
        by,
    )


def json_content(value: object, limit: int = 20_000) -> Content:
    """JSON to read."""
    return safe.text(pretty(value), limit=limit)


def wait_content(
    wait: WaitInfo, entries: Sequence[EntryInfo], due_text: str, due_role: str, loaded: bool
) -> Content:
    """Everything about one wait."""
    parts = wait_facts(wait, None, due_text, due_role)
    parts += asked(wait)
    if loaded:
        parts += needs(form_of(wait.json_schema))
    parts += last_entries(entries)
    if wait.status is WaitStatus.PENDING and wait.kind is not WaitKind.TIMER:
        parts += effect(wait)
    return lines(parts)


def _needs(item: Field) -> str:
    choices = " | ".join(choice.label for choice in item.choices[:8])
    more = " | …" if len(item.choices) > 8 else ""
    what = choices + more if choices else item.kind.value
    bounds = item.range_text()
    optional = "" if item.required else ", optional"
    return f"{what}{' ' + bounds if bounds else ''}{optional}"
