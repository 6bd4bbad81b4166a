"""Panes of text beside a list, and their contents: a wait, its facts, a tool call, entries.

Panes scroll and take no typing. Setting the same text, or one of the same height, moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from helmr.models import (
    BODY_DRAWN_CHARS,
    ClaimInfo,
    EntryInfo,
    WaitInfo,
    WaitStatus,
    above,
    shown_facts,
)
from helmr.person.forms import (
    MISSING,
    Argument,
    Form,
    ToolCall,
    form_of,
    pretty,
    tool_call,
)
from helmr.person.review import agreement, question, words
from helmr.person.review.words import escalation_texts, resolver, short_id, subject_of
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.entry_lines import EntryLine, entry_line, is_said
from helmr_console.views import DUE_ROLE
from helmr_console.widgets.lines import fit
from helmr_console.widgets.markdown import CodeLines, code_block, markdown_parts, unframed


class StillText(Static):
    """Content that is set often, each second or at each key.

    A `Static` lays the whole screen out again at each update; this one only when its height changes.
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(Content(""), id=id, classes=classes, markup=False)
        self._shown = Content("")

    def say(self, content: Content) -> None:
        """Show this content."""
        shown, self._shown = self._shown, content
        if content.plain == shown.plain and content.spans == shown.spans:
            return
        width = self.content_size.width
        is_as_high = width > 0 and self._height(shown, width) == self._height(content, width)
        self.update(content, layout=not is_as_high)

    def _height(self, content: Content, width: int) -> int:
        return content.get_height(self.styles.get_rules(), width)


ANSWER_FIELDS_SHOWN = 12
SAID_SHOWN = 2


class TextPane(VerticalScroll, can_focus=False):
    """A titled pane of content."""

    DEFAULT_CSS = """
    TextPane { border: round $c-border; padding: 0 1; background: $c-background; scrollbar-size-vertical: 1;
               border-title-color: $c-muted; border-subtitle-color: $c-muted; }
    TextPane > Static { width: 1fr; background: $c-background; color: $c-foreground; }
    """

    def __init__(self, title: str = "", *, id: str | None = None) -> None:  # Textual's name
        super().__init__(id=id)
        self._text = StillText()
        self.border_title = Content(title)

    def compose(self) -> Iterable[StillText]:
        """Compose the one text."""
        yield self._text

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """Help for reading a long text."""
        return "The text", (
            "the arrows and pgup pgdn scroll; drag the mouse to choose text, ^c copies it",
        )

    def say(self, content: Content, title: str | None = None) -> None:
        """Show this content; the title must be safe text."""
        if title is not None:
            self.border_title = Content(title)
        self._text.say(content)


def nothing_here(filter_text: str, use: str) -> Content:
    """Text of a pane without a row: its use, or how to clear the filter that hides all."""
    hides = "The filter hides every row; esc clears it." if filter_text else use
    return Content.styled(hides, "$c-muted")


def head(text: str) -> Content:
    """A heading inside a pane; `text` must be our own words."""
    return Content.styled(text, "$c-muted")


def fact(label: str, value: Content | str) -> Content:
    """`label  value`."""
    return Content.assemble((f"{label:<12}", "$c-muted"), value)


def lines(parts: Sequence[Content]) -> Content:
    """Join parts, each on lines of its own."""
    return Content("\n").join(parts)


def wait_ids(wait: WaitInfo) -> list[Content]:
    """The ids of a wait, its correlation id and its session's tags."""
    parts = [
        fact("wait", safe.line(wait.id, limit=80)),
        fact("session", safe.line(wait.session_id, limit=80)),
    ]
    token = [fact("token", safe.line(wait.token_id, limit=80))] if wait.token_id else []
    return [*parts, *wait_elsewhere(wait), *token]


def wait_elsewhere(wait: WaitInfo) -> list[Content]:
    """The correlation id of a wait with a subject, and its session's tags."""
    parts: list[Content] = []
    if wait.correlation_id and wait.subject:
        parts.append(fact("correlation", safe.line(wait.correlation_id, limit=200)))
    if wait.session_tags:
        parts.append(fact("tagged", safe.line(", ".join(wait.session_tags), limit=200)))
    return parts


def wait_due(wait: WaitInfo, due_text: str, due_role: str, now: datetime) -> list[Content]:
    """The asking task and the deadline; once over, the wait's end."""
    what = safe.line(wait.stream or wait.kind.value, limit=60)
    parts = [
        fact("for", Content.assemble(what, ("  on ", "$c-muted"), safe.line(wait.task, limit=60))),
        *wait_more(wait, now),
    ]
    if wait.status is WaitStatus.PENDING:
        when = words.day(wait.ends_at, now) if wait.ends_at else "waits for ever"
        left = Content.styled(due_text, f"bold $c-{due_role}" if due_role else "bold")
        parts.append(fact("due", Content.assemble(left, (f"  {when}", "$c-muted"))))
        return parts
    at = f"  {words.stamp(wait.resolved_at)}" if wait.resolved_at else ""
    ended = wait.status.value.replace("_", " ")
    parts.append(fact("ended", Content.assemble((ended, "bold"), (at, "$c-muted"))))
    if by := resolver(wait):
        parts.append(fact("by", safe.line(by, limit=100)))
    return parts


def wait_more(wait: WaitInfo, now: datetime) -> list[Content]:
    """Optional facts of a wait: priority, assignee, claim, tags, escalation."""
    parts: list[Content] = []
    for name, label, value in shown_facts(wait):
        match value:
            case ClaimInfo():
                if wait.status is WaitStatus.PENDING:
                    until = words.moment(value.until, now)
                    at_it = safe.line(f"{value.label}, until {until}", limit=100)
                    parts.append(fact("claimed", at_it))
            case list():
                if name != "session_tags":
                    parts.append(fact(label, safe.line(", ".join(value), limit=200)))
            case _:
                parts.append(fact(label, safe.line(str(value), limit=100)))
    texts = escalation_texts(wait, lambda at: words.moment(at, now))
    parts += [fact("escalation", safe.line(text, limit=200)) for text in texts]
    return parts


def brief_facts(
    wait: WaitInfo, due_text: str, due_role: str, *, ids_below: bool = False
) -> list[Content]:
    """The wait on one line; without its correlation id if `ids_below` shows that."""
    word, left = "due ", Content.styled(due_text, f"bold $c-{due_role}" if due_role else "bold")
    if wait.status is not WaitStatus.PENDING:
        by = f" by {name}" if (name := resolver(wait)) else ""
        ended = safe.line(f"{wait.status.value.replace('_', ' ')}{by}", "bold", limit=60)
        word, left = "", ended
    parts: list[Content | tuple[str, str]] = [
        safe.line(wait.stream or wait.kind.value, "bold", limit=24),
        ("  ", ""),
        safe.line(wait.task, "$c-muted", limit=20),
        (f"   {word}", "$c-muted"),
        left,
        ("   ", ""),
        safe.line(short_id(wait.session_id), "$c-muted"),
    ]
    if wait.correlation_id and not (ids_below and wait.subject):
        parts += [("   ", ""), safe.line(wait.correlation_id, "$c-muted", limit=30)]
    return [Content.assemble(*parts)]


def who_may(wait: WaitInfo, form: Form, me: str) -> list[Content]:
    """The votes so far, and why this person can't answer; empty where anyone may."""
    parts = [safe.line(text, "$c-accent", limit=600) for text in agreement.agreed(wait, form, me)]
    why = agreement.why_not(wait, me)
    return [*parts, safe.line(why, "$c-warning", limit=600)] if why else parts


def asked(
    wait: WaitInfo,
    *,
    call: ToolCall | None = None,
    answer: Any = MISSING,
    lines_max: int | None = None,
) -> list[Content]:
    """Subject and body of a wait, cut at `lines_max` lines with a count of the rest.

    A tool call shows as this answer would make it, and the body only where it says more than the call.
    """
    parts = list(unframed(asked_parts(wait, call=call, answer=answer)))
    rest = len(parts) - 1 - lines_max if lines_max is not None else 0
    if rest <= 0:
        return parts
    return [*parts[:-rest], Content.styled(f"… {rest} more lines", "$c-muted")]


def asked_parts(
    wait: WaitInfo,
    *,
    call: ToolCall | None = None,
    answer: Any = MISSING,
    is_whole: bool = False,
) -> list[Content | CodeLines]:
    """Like `asked`, with code blocks as parts; `is_whole` above the form that decides."""
    parts: list[Content | CodeLines] = [safe.line(subject_of(wait), "bold")]
    if call is not None:
        parts += _call_parts(call, answer, is_whole=is_whole)
    if text := own_text(wait, call):
        parts += markdown_parts(text)
        if len(text) > BODY_DRAWN_CHARS:
            where = f"the beginning is drawn; all of it: helmr wait get {wait.id}"
            parts.append(safe.line(where, "$c-warning"))
    return [*parts, *_outcomes(call, answer)] if call is not None else parts


def own_text(wait: WaitInfo, call: ToolCall | None) -> str:
    """The wait's evidence, and its body without what the card of its call already says."""
    return above(wait.shown_evidence, call.own_text(wait.body) if call is not None else wait.body)


def needs(form: Form) -> list[Content]:
    """The fields that an answer needs."""
    parts = [Content(""), head("Answer needs")]
    fields = question.needs(form)
    for item, takes in fields[:ANSWER_FIELDS_SHOWN]:
        star = "*" if item.required else " "
        parts.append(
            Content.assemble(
                safe.line(f"{item.label} {star} ", limit=40),
                safe.line(takes, "$c-muted", limit=200),
            )
        )
    if len(fields) > ANSWER_FIELDS_SHOWN:
        parts.append(head(f"… and {len(fields) - ANSWER_FIELDS_SHOWN} more"))
    return parts


def last_said(entries: Sequence[EntryInfo], width: int) -> list[Content]:
    """The last entries by which people and steps said something."""
    telling = [entry for entry in entries if is_said(entry)][-SAID_SHOWN:]
    if not telling:
        return []
    rows = [entry_content(entry_line(entry), width) for entry in telling]
    return [Content(""), head("Said last"), *rows]


def entry_content(entry: EntryLine, width: int) -> Content:
    """One entry as a line of a pane `width` cells wide."""
    role = f"$c-{entry.role}" if entry.role else ""
    text = f"{entry.text}  {entry.by}" if entry.by else entry.text
    room = max(10, width - 14)
    text = fit(text, min(room, cell_len(text)))
    return Content.assemble(
        (f"#{entry.seq:<4} ", "$c-muted"), (f"{entry.word:<7} ", role or "$c-muted"), (text, "")
    )


def wait_content(
    wait: WaitInfo,
    entries: Sequence[EntryInfo],
    *,
    now: datetime,
    me: str,
    loaded: bool,
    width: int,
    narrow: bool,
) -> Content:
    """Everything about one wait; on a narrow screen only the question, the brief facts and the answer."""
    due = words.of_wait(wait, now)
    role = DUE_ROLE.get(due.urgency, "")
    form = form_of(wait.json_schema, initial=agreement.initial_of(wait)) if loaded else None
    what = asked(wait, call=tool_call(form) if form is not None else None)
    brief = brief_facts(wait, due.full_text, role, ids_below=not narrow)
    told = [*brief, *_answered(wait)]
    if form is not None and wait.status is WaitStatus.PENDING:
        told += [*who_may(wait, form, me), *needs(form)]
    if narrow:
        return lines([*what, *told])
    parts = [*what, Content(""), *told, *last_said(entries, width)]
    more = [*wait_more(wait, now), *wait_elsewhere(wait)]
    return lines([*parts, *([Content(""), *more] if more else [])])


def _answered(wait: WaitInfo) -> list[Content]:
    """The end of a wait, and its answer; empty while it is pending."""
    if wait.status is WaitStatus.PENDING:
        return []
    at = [fact("ended", words.stamp(wait.resolved_at))] if wait.resolved_at else []
    if wait.answer is None:
        return at
    return [*at, Content(""), head("Answer"), safe.text(pretty(wait.answer), limit=4_000)]


ROWS_MAX = 12
NAME_CELLS = 24
VALUE_CELLS = 200


WHOLE_ROWS, WHOLE_CELLS = 5_000, 20_000
"""Limits of a card above its decision, large enough to leave nothing out."""


def _call_parts(
    call: ToolCall, answer: Any = MISSING, *, is_whole: bool = False
) -> list[Content | CodeLines]:
    """The call as this answer makes it: its command or diff, and the other arguments.

    Where not all rows fit, changed ones come first.

    Args:
        is_whole: True above the form that decides, where there is room.
    """
    rows_max, cells = (WHOLE_ROWS, WHOLE_CELLS) if is_whole else (ROWS_MAX, VALUE_CELLS)
    rows = call.beside_blocks(answer)
    shown = rows if len(rows) <= rows_max else sorted(rows, key=lambda one: not one.is_changed)
    shown = shown[:rows_max]
    names = [one_line(one.name, 100) for one in shown]
    width = min(NAME_CELLS, max([len("tool"), *map(cell_len, names)]))
    parts: list[Content | CodeLines] = [
        _row("tool", width, safe.line(call.tool, "bold", limit=100))
    ]
    parts += [_row(name, width, _value(one, cells)) for name, one in zip(names, shown, strict=True)]
    if len(rows) > len(shown):
        parts.append(Content.styled(f"… {len(rows) - len(shown)} more", "$c-muted"))
    return [*parts, *(code_block(one.text, one.language) for one in call.blocks(answer))]


def _outcomes(call: ToolCall, answer: Any) -> list[Content]:
    """The effect of the answer; before a decision, the effect of each one."""
    effect = call.effect(answer)
    if effect:
        return [safe.line(effect, "$c-accent", limit=300)]
    width = max(len(decision) for decision, _ in call.outcomes())
    return [_row(name, width, safe.line(does)) for name, does in call.outcomes()]


def call_effects(call: ToolCall | None, answer: Any) -> tuple[str, ...]:
    """Effects of this answer on the call, with a line for each changed value; empty without a call."""
    if call is None:
        return ()
    changed = (f"{one_line(one.name, 60)}: {change_text(one)}" for one in call.changed(answer))
    return (one_line(call.effect(answer), 300), *changed)


def change_text(one: Argument, cells: int = VALUE_CELLS) -> str:
    """`4200 -> 1000`; safe text."""
    was = "not asked for" if one.asked is None else one_line(one.asked, cells)
    now = "left out" if one.now is None else one_line(one.now, cells)
    return f"{was} -> {now}"


def _value(one: Argument, cells: int) -> Content:
    if one.is_changed:
        return Content.styled(change_text(one, cells), "$c-warning")
    return safe.line(one.now or "", limit=cells)


def _row(name: str, width: int, value: Content) -> Content:
    return Content.assemble((f"{fit(name, width)}  ", "$c-muted"), value)
