"""From a submitted form to the JSON value it means.

A field that can be left out and was left empty is not sent, one that may only be null is null. What
can't be read is a problem at that field; the caller validates the value that comes out against the
schema (`helmr_runtime.security.schemas`), which has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helmr.forms import Blank, Cells, Field, Kind, build, first_cells
from helmr.forms.model import json_text
from helmr.forms.tool_call import ARGUMENTS, is_declined
from helmr_runtime.http.answer_page.fields import TEXT, Form, Question, Values
from helmr_runtime.security.schemas import Problem


@dataclass(frozen=True, slots=True)
class Decoded:
    """The value, if there are no problems."""

    value: Any
    problems: tuple[Problem, ...] = ()


def decode_form(form: Form, values: Values) -> Decoded:
    """Read a submitted form."""
    reader = _Reader(form, values)
    reader.read(form.root)
    built = build(form.model, reader.cells)
    without = ARGUMENTS if is_declined(form.model, reader.cells) else None
    found = {key: reader.problems.get(key, text) for key, text in built.problems.items()}
    found |= reader.problems
    problems = tuple(
        Problem(each.where, _sentence(each.field, found[each.field.key]))
        for each in form.walk()
        if each.field.key in found and each.field.path[:1] != (without,)
    )
    return Decoded(None, problems) if problems else Decoded(built.data)


def cells_of(form: Form, values: Values) -> Cells:
    """A submitted form as cells, whatever is wrong with it."""
    reader = _Reader(form, values)
    reader.read(form.root)
    return reader.cells


class _Reader:
    """Reads one submission into cells; collects what is not to be read."""

    def __init__(self, form: Form, values: Values) -> None:
        self._values = values
        self._first = first_cells(form.model)
        self.cells: Cells = {}
        self.problems: dict[str, str] = {}

    def read(self, question: Question) -> None:
        """Fill the cells of a question and of those in it that take part."""
        field = question.field
        self.cells[field.key] = _blank(field)
        match question.control:
            case "group":
                # The outermost object and one in a variant are there; another that may be left
                # out is sent only if its box is ticked.
                if not field.may_be_left_out or self._one(field, question.include_name):
                    self.cells[field.key] = 0
                    for each in question.inner:
                        self.read(each)
            case "union":
                self._union(question)
            case "rows":
                if question.rows or (field.required and not field.nullable):
                    self.cells[field.key] = question.rows
                for each in question.inner:
                    self.read(each)
            case "options" | "select":
                self._chosen(question)
            case "const":
                pass
            case _:
                self._typed(question)

    def _union(self, question: Question) -> None:
        field, key = question.field, self._one(question.field, question.variant_name)
        if not key:
            return
        index = question.keys.index(key) if key in question.keys else -1
        inner = question.inner[index]
        if index >= 0 and not field.takes_anything:
            self.read(inner)
        elif index >= 0:
            text = self._one(field, inner.name)
            if text.strip():
                self.cells[field.key] = json_text(text) if key == TEXT else text
            return
        self.cells[field.key] = index

    def _chosen(self, question: Question) -> None:
        field, texts = question.field, [choice.text for choice in question.field.choices]
        if field.kind is Kind.MULTI:
            given = self._values.get(question.name, ())
            if set(given) - set(texts):
                self.problems[field.key] = "Please tick only what is listed."
            elif given or field.required:
                self.cells[field.key] = tuple(
                    index for index, text in enumerate(texts) if text in given
                )
        elif text := self._one(field, question.name).strip():
            self.cells[field.key] = texts.index(text) if text in texts else -1

    def _typed(self, question: Question) -> None:
        field, text = question.field, self._one(question.field, question.name)
        if text.strip() or (field.kind is Kind.LINES and field.required):
            as_typed = field.kind in (Kind.LONG, Kind.SECRET)
            self.cells[field.key] = text if as_typed else text.strip()
        elif self._first.get(field.key) is Blank.EMPTY:
            self.cells[field.key] = Blank.EMPTY  # the question itself said so

    def _one(self, field: Field, name: str) -> str:
        given = self._values.get(name, ())
        if len(given) > 1:
            self.problems[field.key] = "Was sent more than once."
        return given[0].replace("\r\n", "\n") if len(given) == 1 else ""


def _blank(field: Field) -> Blank:
    return Blank.NULL if field.required and field.nullable else Blank.NOT_SENT


_SENTENCES = {
    "choose one": "Please choose one.",
    "not a whole number": "Please enter a whole number, in digits only.",
    "not a number": "Please enter a number, with a point for decimals.",
}


def _sentence(field: Field, text: str) -> str:
    """A problem of a form as this page says it."""
    if text == "needed" or field.is_decision:
        is_choice = field.kind in (Kind.BOOL, Kind.CHOICE, Kind.UNION)
        return "Please choose one." if is_choice else "Please fill this in."
    if text.endswith("."):
        return text
    if field.kind is Kind.JSON:
        return f"Can't be read as JSON: {text}."
    said = f"is {text}" if text[0].isdigit() else text
    return _SENTENCES.get(text) or f"{said[0].upper()}{said[1:]}."
