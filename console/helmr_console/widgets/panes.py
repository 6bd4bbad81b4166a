"""Panes of text beside a list, and what stands in them: a wait, its facts, a tool's call, entries.

Panes scroll and never take part in what is typed. A text that says the same again, or something else that is as high,
moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from helmr.forms import (
    MISSING,
    Argument,
    Form,
    ToolCall,
    form_of,
    pretty,
    tool_call,
)
from helmr.models import BODY_DRAWN_CHARS, ClaimInfo, EntryInfo, WaitInfo, WaitStatus, shown_facts
from helmr.review import agreement, question, words
from helmr.review.words import escalation_texts, resolver, short_id, subject_of
from helmr.safe_text import one_line
from helmr_console import safe
from helmr_console.entry_lines import EntryLine, entry_line, is_said
from helmr_console.views import DUE_ROLE
from helmr_console.widgets.lines import fit
from helmr_console.widgets.markdown import CodeLines, code_block, markdown_parts, unframed


class StillText(Static):
    """Content that is set often: each second, at each key.

    A `Static` lays the whole screen out again with each update; this one only if its height changes.
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(Content(""), id=id, classes=classes, markup=False)
        self._shown = Content("")

    def say(self, content: Content) -> None:
        """Show this."""
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
        """One text."""
        yield self._text

    def focus_help(self) -> tuple[str, Sequence[str]]:
        """How one reads a long text."""
        return "The text", (
            "the arrows and pgup pgdn scroll; drag the mouse to choose text, ^c copies it",
        )

    def say(self, content: Content, title: str | None = None) -> None:
        """Show this. The title is safe text."""
        if title is not None:
            self.border_title = Content(title)
        self._text.say(content)


def nothing_here(filter_text: str, use: str) -> Content:
    """What a pane says while its list has no row: what it is for, or how rows come back."""
    hides = "The filter hides every row; esc clears it." if filter_text else use
    return Content.styled(hides, "$c-muted")


def head(text: str) -> Content:
    """A heading inside a pane; our own words."""
    return Content.styled(text, "$c-muted")


def fact(label: str, value: Content | str) -> Content:
    """`label  value`."""
    return Content.assemble((f"{label:<12}", "$c-muted"), value)


def lines(parts: Sequence[Content]) -> Content:
    """One under the other."""
    return Content("\n").join(parts)


def wait_ids(wait: WaitInfo) -> list[Content]:
    """The ids that a wait goes by."""
    parts = [
        fact("wait", safe.line(wait.id, limit=80)),
        fact("session", safe.line(wait.session_id, limit=80)),
    ]
    token = [fact("token", safe.line(wait.token_id, limit=80))] if wait.token_id else []
    return [*parts, *wait_elsewhere(wait), *token]


def wait_elsewhere(wait: WaitInfo) -> list[Content]:
    """What people elsewhere call what it is about, and the tags of its session."""
    parts: list[Content] = []
    if wait.correlation_id and wait.subject:
        parts.append(fact("correlation", safe.line(wait.correlation_id, limit=200)))
    if wait.session_tags:
        parts.append(fact("tagged", safe.line(", ".join(wait.session_tags), limit=200)))
    return parts


def wait_due(wait: WaitInfo, due_text: str, due_role: str, now: datetime) -> list[Content]:
    """Who asks, and until when; of a wait that is over, how it ended."""
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
    """What some waits have: priority, assignee, claim, tags, escalation."""
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
    """Which wait this is, on one line; without its correlation id if that stands below it."""
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
    """Who agrees with whom, and why this person can't answer, as far as a wait says who may."""
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
    """Subject and body: what the task asks. What is over `lines_max` lines is cut and says so.

    A tool's call is shown as it would be under this answer, and the body as far as it says more than the call.
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
    """As `asked`, code as one part; `is_whole` where it is decided below it."""
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
    """The wait's body, as far as the card of its call does not say the same."""
    return call.own_text(wait.body) if call is not None else wait.body or ""


def needs(form: Form) -> list[Content]:
    """What the answer is made of."""
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
    """The last that people and steps said in the transcript."""
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
    """Everything about one wait; on a narrow screen what matters first."""
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
    """What ended it, and what it was answered with."""
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
"""Of a card above the decision about it: nothing of the call is left out there."""


def _call_parts(
    call: ToolCall, answer: Any = MISSING, *, is_whole: bool = False
) -> list[Content | CodeLines]:
    """The call under this answer: its command or diff, and the arguments that these do not say.

    Where there is no room for all rows, those that were changed come first.

    Args:
        is_whole: It is decided below it, so there is room.
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
    """What the answer does; as long as nothing is decided, what each decision does."""
    effect = call.effect(answer)
    if effect:
        return [safe.line(effect, "$c-accent", limit=300)]
    width = max(len(decision) for decision, _ in call.outcomes())
    return [_row(name, width, safe.line(does)) for name, does in call.outcomes()]


def call_effects(call: ToolCall | None, answer: Any) -> tuple[str, ...]:
    """What sending this answer does to the call, a line for each value that it changes; nothing without a call."""
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
