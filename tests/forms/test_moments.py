"""Dates, times and durations: what a form makes of a text fits its schema, and is what the types of tasks take."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from helmr.person.forms import alone, form_of, moments
from helmr_runtime.security.schemas import DataSchema
from tests.budget import examples
from tests.forms.spellings import REFUSED, SPELT, TYPES

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda each: timezone(timedelta(minutes=each)))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "date": st.dates(),
    "time": st.times() | st.times(timezones=ZONES),
    "date-time": st.datetimes(timezones=ZONES),
    "duration": st.timedeltas(),
}
TYPED = [(form, text, sent) for form, spelt in SPELT.items() for text, sent in spelt.items()]


def takes(form: str, text: str) -> bool:
    """Whether the type of a task takes it."""
    try:
        TypeAdapter(TYPES[form]).validate_python(text)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("form", "text", "sent"), TYPED)
def test_what_a_form_makes_of_a_text_fits_its_schema_and_its_type(
    form: str, text: str, sent: str
) -> None:
    schema = {"type": "string", "format": form}
    built = alone(form_of(schema).root, text)
    assert (built.problems, built.data) == ({}, sent)
    assert DataSchema(schema).problems(sent) == []
    assert takes(form, sent)


@pytest.mark.parametrize(
    ("form", "text"), [(form, text) for form, texts in REFUSED.items() for text in texts]
)
def test_what_no_form_takes_fits_no_schema_either(form: str, text: str) -> None:
    schema = {"type": "string", "format": form}
    assert alone(form_of(schema).root, text).problems
    assert DataSchema(schema).problems(text)


@pytest.mark.parametrize("form", VALUES)
@given(st.data())
@settings(max_examples=examples(200))
def test_what_a_task_sends_fits_and_comes_back_from_a_form_as_it_was(
    form: str, data: st.DataObject
) -> None:
    value = data.draw(VALUES[form])
    adapter: TypeAdapter[Any] = TypeAdapter(TYPES[form])
    text = adapter.dump_python(value, mode="json")
    assert moments.FORMATS[form](text)
    assert DataSchema({"type": "string", "format": form}).problems(text) == []
    assert adapter.validate_python(moments.written(form, text)) == value


PARTS = st.sampled_from(
    [*"0123456789", ":", "-", "+", ".", ",", " ", "T", "t", "Z", "z", "P", "W", "D", "Y", "M", "H", "S",
     "00", "59", "60", "24", "2026-11-24", "14:30", "999999999"]
)  # fmt: skip


@pytest.mark.parametrize("form", VALUES)
@given(st.lists(PARTS, max_size=9).map("".join))
@settings(max_examples=examples(400))
def test_whatever_is_typed_becomes_what_fits_and_its_type_takes_or_nothing(
    form: str, text: str
) -> None:
    if moments.FORMATS[form](text):
        assert takes(form, text)
    try:
        sent = moments.written(form, text)
    except ValueError:
        return
    assert moments.FORMATS[form](sent)
    assert takes(form, sent)


@given(st.floats(0, 300_000_000))
@settings(max_examples=examples(200))
def test_a_long_duration_keeps_its_microseconds(seconds: float) -> None:
    whole = round(seconds, 6)
    sent = moments.written("duration", f"{whole:.6f}s")
    read = TypeAdapter(timedelta).validate_python(sent)
    assert abs(read.total_seconds() - whole) < 2e-6


def test_a_moment_without_its_zone_says_so() -> None:
    with pytest.raises(moments.NoZone):
        moments.written("date-time", "2026-11-24 14:30")
    assert moments.written("time", "14:30") == time(14, 30).isoformat()
    assert moments.written("date", date(2026, 1, 2).isoformat()) == "2026-01-02"
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert moments.written("date-time", at.isoformat()) == "2026-01-02T03:04:00Z"
