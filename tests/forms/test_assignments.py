"""`key=value` words as data: types by the schema, keys that go down, and one error for what fits nowhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from helmr.approvals import Approval
from helmr.errors import BadJson, UsageError
from helmr.person.forms.assignments import assigned, is_assignment, read


class Address(BaseModel):
    city: str
    zip: int | None = None


class Row(BaseModel):
    sku: str
    qty: int = 1
    tags: list[str] = []


class Order(BaseModel):
    decision: Literal["approve", "reject"] = "approve"
    note: str | None = None
    amount: float = 0
    count: int | None = None
    urgent: bool = False
    level: Literal[1, 2, 3] = 1
    address: Address | None = None
    rows: list[Row] = []
    tags: list[str] = []
    numbers: list[int] = []
    free: Any = None
    options: dict[str, int] = {}
    who: int | str = 0
    dotted: str = Field("", alias="a.b")


class Card(BaseModel):
    kind: Literal["card"]
    digits: str


class Transfer(BaseModel):
    kind: Literal["transfer"]
    iban: str


ORDER = Order.model_json_schema()
PAYMENT = TypeAdapter(Annotated[Card | Transfer, Field(discriminator="kind")]).json_schema()


def data(*words: str, schema: Any = ORDER, initial: Any = None) -> Any:
    return assigned(read(words), schema, initial=initial)


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["decision=approve", "note=as agreed = so"], {"decision": "approve", "note": "as agreed = so"}),
        (["note="], {"note": ""}),
        (["note=null"], {"note": "null"}),
        (["note:=null", "count=null"], {"note": None, "count": None}),
        (["amount=12.5", "count=3", "urgent=yes"], {"amount": 12.5, "count": 3, "urgent": True}),
        (["amount=1e3", "level=2"], {"amount": 1000.0, "level": 2}),
        (["note=5", "who=5"], {"note": "5", "who": 5}),
        (["who=5a"], {"who": "5a"}),
        (["address.city=Bad Homburg", "address[zip]=61348"], {"address": {"city": "Bad Homburg", "zip": 61348}}),
        (["address:={\"city\": \"Rom\"}"], {"address": {"city": "Rom"}}),
        (["rows[0].sku=S1", "rows[0].qty=2", "rows[1].sku=S2"], {"rows": [{"sku": "S1", "qty": 2}, {"sku": "S2"}]}),
        (["rows[].sku=S1", "rows[].sku=S2", "rows[1].tags=x"], {"rows": [{"sku": "S1"}, {"sku": "S2", "tags": ["x"]}]}),
        (["tags=a", "tags=b", "tags[]=c"], {"tags": ["a", "b", "c"]}),
        (["tags=[\"a\", \"b\"]", "numbers=1", "numbers=2"], {"tags": ["a", "b"], "numbers": [1, 2]}),
        (["free=x", "options.low=1"], {"free": "x", "options": {"low": 1}}),
        (["free.deep[0].er=x"], {"free": {"deep": [{"er": "x"}]}}),
        (["a.b=dotted"], {"a.b": "dotted"}),
    ],
)  # fmt: skip
def test_words_become_data_of_the_schemas_types(words: list[str], made: Any) -> None:
    found = data(*words)
    assert found == made
    assert [type(one) for one in found.values()] == [type(one) for one in made.values()]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["decison=approve"], "decison is not a field", "Did you mean decision? Fields: decision, note,"),
        (["address.town=Rom"], "address.town is not a field", "Fields: address.city, address.zip."),
        (["rows[0].size=1"], "rows[0].size is not a field", "Fields: rows[0].sku, rows[0].qty,"),
        (["decision=maybe"], "'maybe' is not one of approve, reject", "decision:="),
        (["count=three"], "'three' is not a whole number", "count:="),
        (["count=1.5"], "'1.5' is not a whole number", "count:="),
        (["amount=much"], "'much' is not a number", "amount:="),
        (["urgent=perhaps"], "'perhaps' is not true or false", "urgent:="),
        (["numbers=one"], "'one' is not a whole number", "numbers:="),
        (["address=Rom"], "'Rom' is not a group of fields", "address:="),
        (["note=a", "note=b"], "note is given twice", None),
        (["rows[2].sku=a"], "the list has 0 rows", "The next one is [0]."),
        (["note.deep=a"], "note has no fields", "note=VALUE"),
        (["rows[x].sku=a"], "rows[x].sku", ""),
        (["note"], "'note' is not key=value", "Fields: decision, note,"),
        (["note=a", "b"], "'b' is not key=value", "Quote"),
        (['{"note": "a=b"}'], "is not key=value", "JSON goes behind --data."),
        (["rows[0=a"], "is not a key", "items[0].qty"),
    ],
)  # fmt: skip
def test_what_fits_nowhere_is_one_error_that_says_what_there_is(
    words: list[str], message: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        data(*words)
    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


def test_json_that_is_none_says_how_a_text_is_written() -> None:
    with pytest.raises(BadJson) as caught:
        data("note:=yes")
    assert caught.value.message.startswith("note:= not JSON")
    assert caught.value.hint == "For a text: note='…'."


def test_fields_of_all_variants_are_known() -> None:
    assert data("kind=transfer", "iban=DE1", schema=PAYMENT) == {"kind": "transfer", "iban": "DE1"}
    with pytest.raises(UsageError, match="bic is not a field"):
        data("bic=x", schema=PAYMENT)


def test_a_group_that_is_named_in_part_begins_as_a_form_would_and_the_rest_is_left_out() -> None:
    initial = {"note": "seen", "address": {"city": "Rom", "zip": 1}, "rows": [{"sku": "a"}]}
    assert data("address.zip=2", "rows[0].qty=3", initial=initial) == {
        "address": {"city": "Rom", "zip": 2},
        "rows": [{"sku": "a", "qty": 3}],
    }
    assert initial["address"] == {"city": "Rom", "zip": 1}


def test_an_approval_is_answered_in_words() -> None:
    schema = Approval.model_json_schema()
    asked = {"decision": "approve", "arguments": {"customer": "ada", "cents": 4200}}
    words = ["decision=approve", "arguments.cents:=1000"]
    assert data(*words, schema=schema, initial=asked) == {
        "decision": "approve",
        "arguments": {"customer": "ada", "cents": 1000},
    }


@pytest.mark.parametrize(
    ("schema", "word", "made"),
    [
        ({"type": "boolean"}, "=yes", True),
        ({"enum": ["a", "b"]}, "=b", "b"),
        (None, "any=x", {"any": "x"}),
        (True, ":=3", 3),
    ],
)
def test_an_answer_that_is_no_object_has_no_key(schema: Any, word: str, made: Any) -> None:
    assert data(word, schema=schema) == made


@pytest.mark.parametrize(
    ("schema", "word", "made"),
    [
        ({"type": "string"}, "it is on its way", "it is on its way"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "12", "12"),
        ({"type": "integer"}, "12", 12),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "1.50", 1.5),
        ({"type": "boolean"}, "no", False),
        ({"enum": ["a", "b"]}, "b", "b"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "array", "items": {"type": "string"}}, "one", ["one"]),
    ],
)
def test_an_answer_that_is_one_value_is_one_word(schema: Any, word: str, made: Any) -> None:
    found = data(word, schema=schema)
    assert (found, type(found)) == (made, type(made))


@pytest.mark.parametrize(
    ("schema", "word", "message", "hint"),
    [
        ({"type": "integer"}, "many", "'many' is not a whole number", "behind --data"),
        ({"enum": ["a", "b"]}, "c", "'c' is not one of a, b", "behind --data"),
        (None, "hello", "may be any JSON", "--data"),
        ({"type": "object"}, "hello", "may be any JSON", "--data"),
        ({"type": "string"}, '{"a": 1}', "is not key=value", "JSON goes behind --data."),
    ],
)
def test_a_word_that_can_not_be_the_answer_says_how_to_give_it(
    schema: Any, word: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        data(word, schema=schema)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_extra_fields_are_welcome_where_the_schema_says_so() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        note: str = ""

    assert data("other=x", schema=Open.model_json_schema()) == {"other": "x"}


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_words_make_data_or_are_refused_in_one_way(words: list[str]) -> None:
    try:
        found = data(*words)
    except (UsageError, BadJson):
        return
    assert all(is_assignment(word) for word in words)
    assert isinstance(found, dict) or not words or all(word[0] in "=:" for word in words)
