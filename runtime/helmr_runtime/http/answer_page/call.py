"""The card of a page that asks leave for a tool's call: the tool, a row for each argument, what an answer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helmr.forms import MISSING, Argument
from helmr.forms.tool_call import ARGUMENTS
from helmr.models import SUBJECT_MAX
from helmr_runtime.http.answer_page.fields import Form, Question, build_form
from helmr_runtime.http.answer_page.prefill import first_values
from helmr_runtime.http.answer_page.texts import clean, clean_block

ROWS_MAX = 200
VALUE_CHARS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class CallRow:
    """One argument; `before` says what it was, if that is not what it is."""

    label: str
    text: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class CallCard:
    """What stands in place of a call's JSON. `more` rows were left out.

    `outcomes` says what each decision does, as a word and a sentence; of an answer there is the one.
    """

    tool: str
    rows: tuple[CallRow, ...]
    more: int
    outcomes: tuple[tuple[str, str], ...]
    is_whole: bool
    """The page's text says nothing else."""


def call_card(form: Form, body: str | None, answer: Any = MISSING) -> CallCard | None:
    """The card of a form that asks leave for a call, under this answer; None for any other form."""
    call = form.call
    if call is None:
        return None
    rows = call.arguments(answer)
    effect = call.effect(answer)
    outcomes = (("Decided", effect),) if effect else call.outcomes()
    return CallCard(
        clean(call.tool, SUBJECT_MAX),
        tuple(_row(one) for one in rows[:ROWS_MAX]),
        max(0, len(rows) - ROWS_MAX),
        tuple((word.capitalize(), clean_block(text, VALUE_CHARS_MAX)) for word, text in outcomes),
        call.is_told_by(body),
    )


def arguments_of(form: Form) -> Question | None:
    """The fields in which a call's arguments are changed; None if there are none."""
    inner = form.root.inner if form.call is not None else ()
    return next((one for one in inner if one.field.path == (ARGUMENTS,) and one.inner), None)


def is_edited(form: Form, values: Mapping[str, Sequence[str]], problems: Mapping[str, str]) -> bool:
    """Whether somebody was at the arguments: what they typed must be in sight."""
    asked = arguments_of(form)
    if asked is None:
        return False
    begun = first_values(build_form(form.model.schema, initial=form.model.initial))
    if any(one.id in problems for one in asked.walk()):
        return True
    names = [_name(one) for one in asked.walk() if one.control not in ("group", "const")]
    return any(list(values.get(name, ())) != begun.get(name, []) for name in names)


def _name(question: Question) -> str:
    """The control that tells whether somebody was at it."""
    if question.control == "rows":
        return question.rows_name
    return question.variant_name if question.control == "union" else question.name


def _row(one: Argument) -> CallRow:
    label = clean(one.name, SUBJECT_MAX) or "(no name)"
    now = "left out" if one.now is None else clean_block(one.now, VALUE_CHARS_MAX)
    if not one.is_changed:
        return CallRow(label, now)
    was = "not asked for" if one.asked is None else f"was {clean_block(one.asked, VALUE_CHARS_MAX)}"
    return CallRow(label, now, was)
