"""Which lists are tables, and how wide their columns are."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from helmr.person.forms import form_of
from helmr.person.forms.questions import CELLS_MAX, columns_of


class Flat(BaseModel):
    sku: str
    qty: int
    gift: bool
    note: str | None = None


class Inner(BaseModel):
    name: str


class Deep(BaseModel):
    sku: str
    to: Inner


class Rows(BaseModel):
    sku: str
    parts: list[Inner]


class Wide(BaseModel):
    state: Literal["accepted", "rejected", "postponed", "unknown"]
    other: Literal["accepted", "rejected", "postponed", "unknown"]


def columns(model: type[BaseModel]) -> Any:
    schema = {"type": "array", "items": model.model_json_schema()}
    schema["$defs"] = model.model_json_schema().get("$defs", {})
    return columns_of(form_of(schema).root)


def test_objects_of_fields_of_one_line_are_a_table() -> None:
    found = columns(Flat)
    assert found.heads == (("sku *", "1fr"), ("qty *", 10), ("gift *", 20), ("note", "1fr"))
    fixed = sum(width for width in found.widths if isinstance(width, int))
    assert fixed < CELLS_MAX


@pytest.mark.parametrize("model", [Deep, Rows, Wide])
def test_what_takes_more_than_a_line_or_the_width_stands_in_boxes(model: type[BaseModel]) -> None:
    assert columns(model) is None


def test_lists_that_hold_no_objects_are_none() -> None:
    assert columns_of(form_of({"type": "array", "items": {"type": "boolean"}}).root) is None
    assert columns_of(form_of({"type": "string"}).root) is None


def test_a_long_name_makes_its_column_wider() -> None:
    class Named(BaseModel):
        n: int = Field(title="A very long name of it")

    (label, width), *_ = columns(Named).heads
    assert len(label) <= 18
    assert width >= len(label)
