"""Lists as rows: what was entered into a row stays in it, and the list is the JSON that was meant."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from helmr.person.forms import (
    FIELDS_MAX,
    ROWS_MAX,
    Blank,
    Cells,
    Form,
    Kind,
    build,
    carry,
    fill,
    first_cells,
    form_of,
    places,
    redacted,
    revived,
    room,
    with_rows,
)
from helmr.person.forms.model import TABLE_CELLS_MAX, json_text
from helmr.person.forms.reader import READS_MAX


class Part(BaseModel):
    name: str = Field(max_length=20)
    count: int = 1


class Card(BaseModel):
    kind: Literal["card"]
    number: SecretStr


class Bank(BaseModel):
    kind: Literal["bank"]
    iban: str = Field(max_length=34)


class Line(BaseModel):
    sku: str = Field(max_length=10)
    quantity: int = Field(ge=1)
    parts: list[Part] = []
    pay: Annotated[Card | Bank, Field(discriminator="kind")] | None = None
    gift: bool = False


class Order(BaseModel):
    customer: str = Field(max_length=40)
    lines: list[Line] = Field(min_length=1, max_length=4)
    flags: list[bool] | None = None


class Tree(BaseModel):
    name: str = Field(max_length=10)
    children: list[Tree] = []


def form(kind: Any, **given: Any) -> Form:
    return form_of(TypeAdapter(kind).json_schema(), **given)


def lines(cells: Cells, *numbers: int) -> Cells:
    """These cells, with rows of lines."""
    return with_rows(form(Order), {**cells, "lines": numbers})


def test_a_list_of_objects_is_rows_and_begins_with_those_it_needs() -> None:
    order = form(Order)
    leaves = {leaf.key: leaf.kind for leaf in order.leaves()}
    assert leaves == {"customer": Kind.TEXT, "lines": Kind.ROWS, "flags": Kind.ROWS}
    begun = first_cells(order)
    assert begun["lines"] == (0,)
    assert begun["flags"] is Blank.NOT_SENT
    assert {"lines.#0.sku", "lines.#0.parts", "lines.#0.pay.iban@bank"} <= set(begun)


def test_rows_inside_rows_and_a_union_with_a_tag_build_the_json() -> None:
    cells = lines({"customer": "Ada"}, 0, 5)
    cells |= {"lines.#0.sku": "A1", "lines.#0.quantity": "2", "lines.#0.gift": 0}
    cells |= {"lines.#5.sku": "B2", "lines.#5.quantity": "1", "lines.#5.pay": 1}
    cells |= {"lines.#5.pay.iban@bank": "CH93", "lines.#5.parts": (3,)}
    cells |= {"lines.#5.parts.#3.name": "bolt", "flags": (0, 1), "flags.#0": 1, "flags.#1": 0}
    built = build(form(Order), cells)
    assert built.problems == {}
    assert built.data == {
        "customer": "Ada",
        "lines": [
            {"sku": "A1", "quantity": 2, "gift": True},
            {
                "sku": "B2",
                "quantity": 1,
                "parts": [{"name": "bolt"}],
                "pay": {"kind": "bank", "iban": "CH93"},
            },
        ],
        "flags": [False, True],
    }
    Order.model_validate(built.data)


def test_a_row_that_moves_takes_what_was_entered_with_it() -> None:
    cells = lines({"lines.#0.sku": "A", "lines.#1.sku": "B", "lines.#2.sku": "C"}, 2, 0)
    order = [line["sku"] for line in build(form(Order), cells).data["lines"]]
    assert order == ["C", "A"]
    assert places(form(Order), cells)[("lines", 1, "sku")].key == "lines.#0.sku"


@pytest.mark.parametrize(
    ("rows", "key", "why"),
    [
        ((), "lines", "at least 1"),
        ((0, 1, 2, 3, 4), "lines", "at most 4"),
        ((7,), "lines.#7.quantity", "needed"),
        ("no rows", "lines", "needs rows"),
        ((3, 3, -1), "lines.#3.quantity", "needed"),
    ],
)
def test_what_is_wrong_is_said_at_the_row_or_at_the_list(rows: Any, key: str, why: str) -> None:
    cells: Cells = {"customer": "Ada", "lines": rows}
    assert build(form(Order), cells).problems[key] == why


def test_a_list_has_room_for_its_own_most_and_for_the_forms() -> None:
    order, table = form(Order), form(list[Part])
    begun = first_cells(order)
    row = next(leaf for leaf in order.leaves() if leaf.key == "lines")
    assert room(order, row, begun) == ""
    assert room(order, row, {**begun, "lines": (0, 1, 2, 3)}) == "at most 4"
    assert table.root.rows_max == TABLE_CELLS_MAX // 2, "a table of two columns"
    assert room(table, table.root, {"$": tuple(range(table.root.rows_max - 1))}) == ""
    assert "500 rows" in room(table, table.root, {"$": tuple(range(table.root.rows_max))})
    many = tuple(range(ROWS_MAX))
    flags = form(list[bool])
    assert f"{ROWS_MAX} rows" in room(flags, flags.root, {"$": many})
    wide = form_of({"type": "array", "items": {"properties": {f"p{n}": {} for n in range(70)}}})
    assert room(wide, wide.root, {"$": (0,)}) == ""
    assert f"{FIELDS_MAX} fields" in room(wide, wide.root, {"$": (0, 1)})


def test_a_list_that_rows_can_not_show_stays_json_and_keeps_what_it_begins_with() -> None:
    odd = {"lines": [{"sku": "A1", "quantity": 1, "more": True}]}
    begun = form(Order, initial=odd)
    kept = next(leaf for leaf in begun.leaves() if leaf.key == "lines")
    assert (kept.kind, kept.reason) == (Kind.JSON, "rows can't show what it begins with")
    assert build(begun, first_cells(begun)).data["lines"] == odd["lines"]
    long = form(list[bool], initial=[True] * (ROWS_MAX + 1))
    assert long.root.kind is Kind.JSON
    fits = form(Order, initial={"lines": [{"sku": "A1", "quantity": 1}]})
    assert build(fits, first_cells(fits)).data["lines"] == [{"sku": "A1", "quantity": 1}]


def test_a_table_has_two_hundred_rows_whatever_else_the_form_asks() -> None:
    rows = [{"name": f"part {number}", "count": number} for number in range(200)]
    table = form(list[Part], initial=rows)
    assert (table.root.kind, table.root.is_table) == (Kind.ROWS, True)
    assert build(table, first_cells(table)).data == rows
    assert fill(table, rows) == first_cells(table)
    order = form(Order)
    assert not next(one for one in order.leaves() if one.key == "lines").is_table
    parts = next(one for one in order.leaves(templates=True) if one.name == "parts")
    assert parts.is_table
    kept, dropped = carry(table, first_cells(table), table)
    assert (build(table, kept).data, dropped) == (rows, [])


def test_a_type_that_holds_itself_in_a_list_has_rows_to_a_depth_and_then_json() -> None:
    tree = form(Tree)
    kinds = [leaf.kind for leaf in tree.leaves(templates=True)]
    assert kinds.count(Kind.ROWS) == 3
    assert kinds.count(Kind.JSON) == 1
    data = {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}
    cells = fill(tree, data)
    assert cells is not None
    assert build(tree, cells).data == data


def test_a_hostile_schema_of_lists_in_lists_is_read_in_bounds() -> None:
    node = {
        "type": "object",
        "properties": {
            f"l{n}": {"type": "array", "items": {"$ref": "#/$defs/n"}} for n in range(60)
        },
    }
    read = form_of({"$ref": "#/$defs/n", "$defs": {"n": node}})
    assert sum(1 for _ in read.leaves(templates=True)) <= READS_MAX


def test_secrets_in_rows_are_never_shown() -> None:
    data = {"lines": [{"sku": "A", "pay": {"kind": "card", "number": "4111"}}]}
    assert redacted(form(Order), data)["lines"][0]["pay"] == {"kind": "card", "number": "••••••"}
    assert form(Order).has_secret
    assert form(Order).has_free_text


def test_rows_are_carried_to_a_newer_schema_as_far_as_they_match() -> None:
    class Newer(BaseModel):
        lines: list[Part]

    cells = lines({"customer": "Ada", "lines.#0.sku": "A1"}, 0, 2)
    kept, dropped = carry(form(Order), cells, form(Newer))
    assert kept["lines"] == (0, 2)
    assert set(dropped) == {"customer", "sku"}


def test_a_list_kept_as_json_by_an_earlier_release_comes_back_as_rows() -> None:
    order = form(Order)
    kept: Cells = {"customer": "Ada", "lines": '[{"sku": "A1", "quantity": 2}]'}
    found = revived(order, kept)
    assert build(order, found).data == {
        "customer": "Ada",
        "lines": [{"sku": "A1", "quantity": 2}],
    }
    for odd in ("", "[", '[{"more": 1}]', "3"):
        assert "lines" not in revived(order, {"customer": "Ada", "lines": odd})


PARTS = st.lists(
    st.fixed_dictionaries({"name": st.text(max_size=20)}, optional={"count": st.integers(-9, 9)}),
    max_size=4,
)
LINES = st.fixed_dictionaries(
    {"sku": st.text(max_size=10), "quantity": st.integers(1, 99)},
    optional={
        "parts": PARTS,
        "pay": st.none()
        | st.fixed_dictionaries({"kind": st.just("bank"), "iban": st.text(max_size=34)}),
        "gift": st.booleans(),
    },
)


@given(st.lists(LINES, min_size=1, max_size=4), st.none() | st.lists(st.booleans(), max_size=5))
def test_whatever_rows_can_show_comes_back_as_it_was(
    made: list[Any], flags: list[bool] | None
) -> None:
    data = {"customer": "Ada", "lines": made, "flags": flags}
    cells = fill(form(Order), data)
    assert cells is not None
    assert json_text(build(form(Order), cells).data) == json_text(data)
    begun = form(Order, initial=data)
    assert json_text(build(begun, first_cells(begun)).data) == json_text(data)
