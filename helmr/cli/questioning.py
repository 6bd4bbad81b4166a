"""How a wait and the fields of its form are asked in lines, and which keys mean what. Writes through `printing`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeGuard

from helmr.cli import describe, printing
from helmr.cli.clock import now
from helmr.forms import Field, Form, Kind, ToolCall, example
from helmr.forms.questions import CHOSEN, Offer, Question, Questions, kept_text, keys, labels
from helmr.forms.template import template_text
from helmr.models import WaitInfo, WaitPriority
from helmr.safe_text import json_text, one_line, plain

BODY_LINES = 12
"""So many lines of a body stand above the question; `m` shows the rest."""
VALUE_CELLS = 4_000
"""Of an argument of a call, none of which is left out: what is approved was shown."""


@dataclass(frozen=True, slots=True)
class Key:
    """What one letter does at a question."""

    letter: str
    label: str
    help: str


KEYS = (
    Key("k", "keep", "answer as the draft says"),
    Key("l", "last", "fill in what you answered to a wait like this one last; k then answers so"),
    Key("e", "edit", "write the whole answer in $EDITOR"),
    Key("s", "skip", "go on; what was entered is kept as a draft"),
    Key("u", "undo", "take back the answer that was given last, as long as it is held"),
    Key("c", "claim", "say that you are at this wait, or that you are no more"),
    Key("d", "delegate", "give this wait to somebody"),
    Key("z", "snooze", "put this wait off: you are not asked before that time is over"),
    Key("m", "more", "all of the text of this wait"),
    Key("?", "help", "these lines"),
    Key("q", "quit", "leave when what is held has left; q again sends it now"),
)
"""Every key of a question that is no choice, in the order of its help."""
ANSWER = "a"
"""Begins to ask where the first thing to enter is no choice."""
_TAKEN = frozenset(key.letter for key in KEYS)
DELEGATE = "delegate"
"""Does what `d` does, also where `d` declines."""


def taken(asked: Field) -> frozenset[str]:
    """Letters that choose nothing at this question: those of the keys, but `d` where a choice begins so.

    In the console `d` declines a tool's call, so it does here.
    """
    is_choice = any(name.lower().startswith("d") for name in labels(asked))
    return _TAKEN - {"d"} if is_choice else _TAKEN


def show_wait(wait: WaitInfo, place: str, call: ToolCall | None = None) -> None:
    """What is asked: the question first, then what it belongs to and how long it has, then its text.

    Args:
        wait: The wait.
        place: Which one of how many.
        call: The call that it asks leave for, which is shown in place of a body that says the same.
    """
    printing.write("")
    printing.write(f"{place}  {one_line(subject(wait), None)}")
    printing.write(f"  {one_line(_facts(wait), None)}")
    if call is not None:
        _show_call(call)
        if call.is_told_by(wait.body):
            return
    lines = plain(wait.body or "", None).splitlines()
    for line in lines[:BODY_LINES]:
        printing.write(f"  {line}")
    if is_cut(wait):
        printing.write(f"  … {len(lines) - BODY_LINES} more lines: m shows them")


def _show_call(call: ToolCall) -> None:
    """The tool, what it is to be called with, and what each decision does, a line each."""
    rows = [(one.name, one.now or "") for one in call.arguments()]
    printing.write(f"  tool  {one_line(call.tool, 200)}")
    for name, text in rows:
        printing.write(f"    {one_line(name, 100)}: {one_line(text, VALUE_CELLS)}")
    for decision, does in call.outcomes():
        printing.write(f"  {decision}: {one_line(does, 300)}")


def show_changes(call: ToolCall, answer: object) -> None:
    """What this answer does, and each value that it changes."""
    printing.write(f"  {one_line(call.effect(answer), 300)}")
    for one in call.changed(answer):
        was = "not asked for" if one.asked is None else one_line(one.asked, 200)
        now = "left out" if one.now is None else one_line(one.now, 200)
        printing.write(f"    {one_line(one.name, 100)}: {was} -> {now}")


def show_body(wait: WaitInfo) -> None:
    """All of its text."""
    for line in plain(wait.body or "there is no more text", None).splitlines():
        printing.write(f"  {line}")


def is_cut(wait: WaitInfo) -> bool:
    """Whether its text is longer than what is shown of it."""
    return len(plain(wait.body or "", None).splitlines()) > BODY_LINES


def subject(wait: WaitInfo) -> str:
    """What it asks, in few words; session text."""
    return wait.subject or " ".join(
        part for part in (wait.task, wait.stream or wait.token_id, wait.correlation_id) if part
    )


def _facts(wait: WaitInfo) -> str:
    parts = [wait.task, wait.stream or wait.kind.value, f"due {describe.due(wait) or 'never'}"]
    if wait.priority is not WaitPriority.NORMAL:
        parts.append(f"{wait.priority.value} priority")
    if wait.assignee:
        parts.append(f"for {wait.assignee}")
    parts += [f"#{tag}" for tag in wait.tags]
    if wait.claim is not None and now() < wait.claim.until:
        parts.append(f"claimed by {describe.claim_text(wait.claim)}")
    return " · ".join([*parts, wait.id])


def is_chosen(asked: Question | None) -> TypeGuard[Field]:
    """Whether a key chooses what is asked."""
    return isinstance(asked, Field) and asked.kind in CHOSEN


def show_choices(questions: Questions) -> None:
    """What can be chosen at once, a line each: its number, its letter, its name."""
    asked = questions.current
    if is_chosen(asked):
        _choices(asked, taken(asked))
        if asked.suggested:
            printing.write(f"  suggested: {one_line(asked.suggested, 200)}")


def key_prompt(questions: Questions, wait: WaitInfo, *, has_draft: bool, holds: bool) -> str:
    """The keys that do something now, important ones first."""
    asked = questions.current
    if is_chosen(asked):
        letters = keys(labels(asked), taken(asked))
        first = f"1-{len(labels(asked))}" if len(labels(asked)) > 1 else "1"
        offered = [first, *letters]
    else:
        offered = [f"{ANSWER} answer"]
    useful = {"k": has_draft, "u": holds, "m": is_cut(wait), "e": True, "s": True}
    offered += [f"{key.letter} {key.label}" for key in KEYS if useful.get(key.letter)]
    delegate = DELEGATE if is_chosen(asked) and "d" not in taken(asked) else "d"
    return f"[{', '.join([*offered, 'l', 'c', delegate, 'z', '?', 'q'])}] "


def show_help(questions: Questions) -> None:
    """Every key, a line each."""
    asked = questions.current
    letters = _TAKEN
    if is_chosen(asked):
        letters = taken(asked)
        _choices(asked, letters)
    else:
        printing.write("  a  answer: asks one field after the other")
    for key in KEYS:
        written = key.letter if key.letter in letters else key.label
        label = f"{key.label}: " if written == key.letter else ""
        printing.write(f"  {written}  {label}{key.help}")
    printing.write(
        "  Each key is followed by Enter. Ctrl-D goes back from a field to the question."
    )
    printing.write("  Ctrl-C leaves at once: what is held is not sent, and kept as a draft.")


def show_field(asked: Question) -> None:
    """What there is to know of a field before it is entered: nothing of most."""
    if isinstance(asked, Offer):
        return
    if asked.description:
        printing.write(f"  {one_line(asked.description, 300)}")
    if asked.kind in (*CHOSEN, Kind.MULTI):
        _choices(asked, ())


def field_prompt(asked: Question, questions: Questions) -> str:
    """The field's name, how it is written, and what an empty line says."""
    if isinstance(asked, Offer):
        is_begun = asked.group is not None and questions.is_begun(asked)
        how = (
            "y changes what is there, Enter leaves it" if is_begun else "y fills, Enter leaves out"
        )
        return f"{one_line(asked.label, 200)}: {how} [n] "
    name = one_line(asked.label, 100)
    if asked.kind is Kind.ROWS:
        rows = one_line(kept_text(asked, questions.cells.get(asked.key, ())), 200)
        takes = f" ({asked.range_text()})" if asked.range_text() else ""
        return f"{name}{takes}: {rows}; y adds a row, Enter goes on [n] "
    how = _how(asked, questions.form)
    kept = one_line(kept_text(asked, questions.cells.get(asked.key, "")), 200)
    return f"{name}{f' ({how})' if how else ''}{f' [{kept}]' if kept else ''}: "


def _how(asked: Field, form: Form) -> str:
    parts = []
    if asked.kind is Kind.LINES:
        parts.append("one each line, an empty line ends")
    elif asked.kind is Kind.MULTI:
        parts.append("several, with spaces between")
    elif asked.kind is Kind.JSON:
        like = template_text(asked.schema, form.schema if isinstance(form.schema, dict) else {})
        parts.append(f"JSON{f' like {one_line(like, 200)}' if like else ''}")
    elif asked.kind not in (*CHOSEN, Kind.TEXT, Kind.LONG):
        parts.append(asked.kind.value)
    parts += [text for text in (one_line(asked.range_text(), 80),) if text]
    if example(asked.kind):
        parts.append(f"like {example(asked.kind)}")
    return ", ".join(parts)


def answer_text(shown: object) -> str:
    """An answer on one line, safe."""
    return json_text(json.dumps(shown, ensure_ascii=False))


def _choices(asked: Field, letters: frozenset[str] | tuple[()]) -> None:
    by_place = {place: letter for letter, place in keys(labels(asked), letters).items()}
    for place, name in enumerate(labels(asked)):
        letter = f" {by_place[place]}" if place in by_place else ""
        printing.write(f"  {place + 1}{letter}  {one_line(name, 200)}")
