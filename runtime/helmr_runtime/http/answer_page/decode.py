"""From a submitted form to the JSON value it means.

A field that can be left out and was left empty is not sent, one that may only be null is null. What
can't be read is a problem at that field; the caller validates the value that comes out against the
schema (`helmr_runtime.security.schemas`), which has the last word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helmr.errors import BadJson
from helmr.jsonio import loads
from helmr_runtime.http.answer_page.fields import (
    MISSING,
    BooleanField,
    ChoiceField,
    ChoicesField,
    ConstField,
    Field,
    Form,
    GroupField,
    JsonField,
    LinesField,
    NumberField,
    TextField,
    UnionField,
)
from helmr_runtime.security.schemas import Problem

Values = Mapping[str, Sequence[str]]
"""Submitted texts by the names of form fields."""

LINES_MAX = 10_000
_NUMBER_CHARS_MAX = 60
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_PLEASE_FILL = "Please fill this in."
_PLEASE_CHOOSE = "Please choose one."


@dataclass(frozen=True, slots=True)
class Decoded:
    """The value, if there are no problems."""

    value: Any
    problems: tuple[Problem, ...] = ()


def decode_form(form: Form, values: Values) -> Decoded:
    """Read a submitted form."""
    reader = _Reader(values)
    value = reader.read(form.root)
    if value is MISSING and not reader.problems:
        reader.refuse(form.root, _PLEASE_FILL)
    if reader.problems:
        return Decoded(None, tuple(reader.problems))
    return Decoded(value)


class _Reader:
    """Reads one submission; collects its problems."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.problems: list[Problem] = []

    def refuse(self, field: Field, message: str) -> Any:
        """Note a problem; the value counts as missing."""
        self.problems.append(Problem(field.path, message))
        return MISSING

    def read(self, field: Field) -> Any:
        """The value of a field, `MISSING` if it is not sent."""
        match field:
            case ConstField():
                return self._const(field)
            case GroupField():
                return self._group(field)
            case UnionField():
                return self._union(field)
            case ChoicesField():
                return self._several(field)
            case LinesField():
                return self._lines(field)
            case TextField():
                return self._text(field)
            case _:
                return self._word(field)

    def _word(self, field: Field) -> Any:
        text = self._one(field, field.name).strip()
        if not text:
            needs_choice = isinstance(field, BooleanField | ChoiceField)
            return self._empty(field, _PLEASE_CHOOSE if needs_choice else _PLEASE_FILL)
        match field:
            case NumberField():
                return self._number(field, text, is_integer=field.is_integer)
            case BooleanField():
                known = {"true": True, "false": False}
                return known[text] if text in known else self.refuse(field, _PLEASE_CHOOSE)
            case ChoiceField():
                chosen = [choice.value for choice in field.choices if choice.text == text]
                return chosen[0] if chosen else self.refuse(field, _PLEASE_CHOOSE)
            case JsonField():
                return self._json(field, text)
            case _:
                raise AssertionError(f"no reader for a {field.kind} field")

    def _empty(self, field: Field, message: str) -> Any:
        if not field.is_required:
            return MISSING
        return None if field.is_nullable else self.refuse(field, message)

    def _one(self, field: Field, name: str) -> str:
        given = self._values.get(name, ())
        if len(given) > 1:
            self.refuse(field, "Was sent more than once.")
            return ""
        return given[0].replace("\r\n", "\n") if given else ""

    def _const(self, field: ConstField) -> Any:
        return field.value if field.is_required or field.is_default else MISSING

    def _text(self, field: TextField) -> Any:
        text = self._one(field, field.name)
        if not text.strip():
            return self._empty(field, _PLEASE_FILL)
        return text if field.input_type is None else text.strip()

    def _number(self, field: Field, text: str, *, is_integer: bool) -> Any:
        if len(text) <= _NUMBER_CHARS_MAX and _INTEGER.fullmatch(text):
            return int(text)
        if is_integer:
            return self.refuse(field, "Please enter a whole number, in digits only.")
        if len(text) <= _NUMBER_CHARS_MAX and _DECIMAL.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
        return self.refuse(field, "Please enter a number, with a point for decimals.")

    def _json(self, field: Field, text: str) -> Any:
        try:
            return loads(text)
        except BadJson as error:
            return self.refuse(field, f"Can't be read as JSON: {error.message}.")

    def _several(self, field: ChoicesField) -> Any:
        given = self._values.get(field.name, ())
        by_text = {choice.text: choice.value for choice in field.choices}
        if any(text not in by_text for text in given):
            return self.refuse(field, "Please tick only what is listed.")
        chosen = [choice.value for choice in field.choices if choice.text in given]
        return MISSING if not chosen and not field.is_required else chosen

    def _lines(self, field: LinesField) -> Any:
        lines = [line.strip() for line in self._one(field, field.name).split("\n")]
        items = [line for line in lines if line]
        if len(items) > LINES_MAX:
            return self.refuse(field, f"Has more than {LINES_MAX} lines.")
        if not items and not field.is_required:
            return MISSING
        if field.item == "string":
            return items
        before = len(self.problems)
        numbers = []
        for line in items:
            numbers.append(self._number(field, line, is_integer=field.item == "integer"))
            if len(self.problems) > before:
                return MISSING
        return numbers

    def _group(self, field: GroupField) -> Any:
        # The outermost object and one in a variant are there; another that may be left out is
        # sent only if its box is ticked.
        if field.may_be_left_out and not self._one(field, field.include_name):
            return None if field.is_required else MISSING
        read = {str(child.path[-1]): self.read(child) for child in field.fields}
        return {name: value for name, value in read.items() if value is not MISSING}

    def _union(self, field: UnionField) -> Any:
        key = self._one(field, field.variant_name)
        if not key:
            return self._empty(field, _PLEASE_CHOOSE)
        for variant in field.variants:
            if variant.key == key:
                return self.read(variant.field)
        return self.refuse(field, _PLEASE_CHOOSE)
