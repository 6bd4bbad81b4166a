"""Event streams are read as the standard says, however they are cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.client import calls
from helmr.client.calls import Event, EventReader
from helmr.errors import Unavailable

STREAM = (
    ": hello\r\nid: 1\r\n\r\n"
    'event: entry\nid: 2\ndata: {"a":1}\n\n'
    "data:no space\rdata: two\r\r"
    "id\nevent: x\ndata\n\n"
    "retry: 5\nunknown: y\ndata: \u2028\u0085\x0b kept\n\n"
    "id: with\0nul\ndata: z\n\n"
    "id: 9\ndata: cut off"
)
EVENTS = [
    Event("entry", '{"a":1}', "2"),
    Event("message", "no space\ntwo", "2"),
    Event("x", "", ""),
    Event("message", "\u2028\u0085\x0b kept", ""),
    Event("message", "z", ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_cut_gives_the_same_events(places: list[int]) -> None:
    reader = EventReader()
    bounds = [0, *sorted(places), len(STREAM)]
    found = [
        event
        for start, end in itertools.pairwise(bounds)
        for event in reader.feed(STREAM[start:end])
    ]
    assert found == EVENTS


def test_an_id_alone_is_remembered_when_it_is_whole() -> None:
    reader = EventReader()
    assert reader.feed("id: 41\n") == []
    assert reader.last_id == ""
    assert reader.feed("\nid: 42\ndata: x") == []
    assert reader.last_id == "41"


@pytest.mark.parametrize("piece", ["data: " + "x" * 50 + "\n", "x" * 50])
def test_an_event_has_a_bound(monkeypatch, piece: str) -> None:
    monkeypatch.setattr(calls, "EVENT_CHARS_MAX", 1000)
    reader = EventReader()

    def feed_on() -> None:
        for _ in range(100):
            reader.feed(piece)

    with pytest.raises(Unavailable, match="longer than 1000"):
        feed_on()


def test_many_short_events_are_no_long_one(monkeypatch) -> None:
    monkeypatch.setattr(calls, "EVENT_CHARS_MAX", 100)
    reader = EventReader()
    for _ in range(100):
        assert len(reader.feed("data: " + "x" * 50 + "\n\n")) == 1
