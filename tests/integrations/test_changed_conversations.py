"""What is stored of a conversation that a graph has changed: what is new, found without the JSON of all the rest.

Pure, with LangChain's own messages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from helmr.current import JsonText
from helmr.integrations import conversation
from helmr.integrations._langgraph_history import FORM
from helmr.integrations.conversation import (
    ADD,
    ItemForm,
    Marks,
    ReadConversation,
    change_of,
    folded,
    mark_of,
    records_of,
)
from tests.budget import examples

Messages = list[BaseMessage]


def a_turn(number: int) -> Messages:
    """Messages of each kind, with all that is changed below."""
    call = {"name": "look_up", "args": {"what": {"pens": [number]}}, "id": f"call-{number}"}
    picture = {"type": "image_url", "image_url": {"url": f"data:{number}"}}
    return [
        HumanMessage(f"pen {number}", id=f"human-{number}"),
        AIMessage("", id=f"asks-{number}", tool_calls=[call]),
        ToolMessage("done", id=f"tool-{number}", tool_call_id=f"call-{number}"),
        AIMessage([{"type": "text", "text": "here"}, picture], id=f"says-{number}"),
    ]


def in_content(message: Any, number: int) -> None:
    """Change a text, or what is deep in a list."""
    if isinstance(message.content, str):
        message.content += f" {number}"
    else:
        message.content[-1]["image_url"]["url"] += f" {number}"


def in_call(message: Any, number: int) -> None:
    """Change what a tool was called with."""
    for call in getattr(message, "tool_calls", []):
        call["args"]["what"]["pens"].append(number)


def in_metadata(message: Any, number: int) -> None:
    """Say what was not said."""
    message.response_metadata["seen"] = message.additional_kwargs["seen"] = [number, None]


def in_field(message: Any, number: int) -> None:
    """Take an id away, or give one."""
    message.id = None if message.id is not None else f"given-{number}"


def in_extra(message: Any, number: int) -> None:
    """Set what is no field."""
    message.seen = {"by": number}


IN_PLACE = (in_content, in_call, in_metadata, in_field, in_extra)


def leave_out(items: Messages, at: int, number: int) -> None:
    """Of `RemoveMessage`."""
    del items[at]


def forget_before(items: Messages, at: int, number: int) -> None:
    """A window that moves on."""
    del items[:at]


def sum_up(items: Messages, at: int, number: int) -> None:
    """A summary in place of what it sums up."""
    items[:at] = [HumanMessage(f"until now: {number}", id=f"sum-{number}")]


def replace(items: Messages, at: int, number: int) -> None:
    """Another message with the id of one, as `add_messages` has it."""
    items[at] = AIMessage(f"instead {number}", id=items[at].id)


def copied(items: Messages, at: int, number: int) -> None:
    """The same in another object."""
    items[at] = items[at].model_copy(deep=True)


def move(items: Messages, at: int, number: int) -> None:
    """To the end."""
    items.append(items.pop(at))


def again(items: Messages, at: int, number: int) -> None:
    """The very object once more."""
    items.insert(at, items[number % len(items)])


def say(items: Messages, at: int, number: int) -> None:
    """What a turn adds."""
    items.extend(a_turn(number))


def change_in_place(items: Messages, at: int, number: int) -> None:
    IN_PLACE[number % len(IN_PLACE)](items[at], number)


def as_stored(record: dict[str, Any]) -> JsonText:
    """Its text in a host."""
    return JsonText(json.dumps(record, ensure_ascii=False, separators=(",", ":")))


EDITS = (leave_out, forget_before, sum_up, replace, copied, move, again, change_in_place)
edits = st.tuples(st.sampled_from([say, *EDITS]), st.integers(0, 99), st.integers(0, 99))


@given(turns=st.lists(st.lists(edits, max_size=4), max_size=5))
@settings(max_examples=examples(400), deadline=None)
def test_however_it_is_changed_what_is_stored_is_what_comparing_all_json_says(
    turns: Sequence[Sequence[Any]],
) -> None:
    records: list[dict[str, Any]] = records_of({ADD: FORM.write([*a_turn(100), *a_turn(101)])})
    texts: list[JsonText] = []
    marks: Marks = WeakKeyDictionary()
    for changes in turns:
        texts += [as_stored(one) for one in records[len(texts) :]]
        known = ReadConversation(FORM, [*texts], "turns", marks)
        items = known.items()
        for edit, at, number in changes:
            if items or edit is say:
                edit(items, at % max(len(items), 1), number)
        written = FORM.write(items)
        change = known.change(items)
        assert change == change_of(folded(records, "turns"), written)
        if change is not None:
            records += records_of(json.loads(json.dumps(change)))
        assert folded(records, "turns") == written


@pytest.mark.parametrize("change", IN_PLACE)
@pytest.mark.parametrize("at", range(4))
def test_a_mark_is_another_when_the_json_is(change: Any, at: int) -> None:
    assert FORM.mark is not None
    message = a_turn(1)[at]
    mark, before = FORM.mark(message), FORM.write([message])
    assert FORM.mark(a_turn(1)[at]) == mark
    change(message, 7)
    assert (FORM.mark(message) == mark) == (FORM.write([message]) == before)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, []),
        ({}, None),
        ("", None),
        ([[]], []),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": "b"}, ["a", "b"]),
        ({"a": "b", "c": "d"}, {"a": "d", "c": "b"}),
        ({"a": {"b": "c"}}, {"a": {}, "b": "c"}),
        ([object()], [object()]),
    ],
)
def test_a_mark_is_of_one_value_alone(one: Any, other: Any) -> None:
    assert mark_of(one) != mark_of(other)
    assert hash(mark_of([one, other])) is not None


class Counted:
    """Of how many messages JSON and marks are made, and how often what is stored is put together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = self.joined = self.marked = 0
        join = conversation.joined_additions

        def joining(texts: Sequence[str]) -> Iterator[str] | None:
            self.joined += 1
            return join(texts)

        monkeypatch.setattr(conversation, "joined_additions", joining)
        self.form = ItemForm(FORM.read, self._write, self._mark)

    def _write(self, items: Sequence[BaseMessage]) -> list[Any]:
        self.written += len(items)
        return FORM.write(items)

    def _mark(self, message: BaseMessage) -> Hashable:
        self.marked += 1
        assert FORM.mark is not None
        return FORM.mark(message)


@functools.cache
def recorded() -> list[JsonText]:
    """The records of a long conversation."""
    return [as_stored({ADD: FORM.write(a_turn(turn))}) for turn in range(400)]


@pytest.mark.parametrize("turns", [10, 400])
@pytest.mark.parametrize(
    ("edit", "written"),
    [(None, 0), (replace, 1), (change_in_place, 1), (sum_up, 1), (leave_out, 0), (copied, 0)],
)
def test_a_turn_makes_the_json_of_what_is_new_however_long_the_conversation_is(
    turns: int, edit: Any, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    marks: Marks = WeakKeyDictionary()
    ReadConversation(counted.form, [*recorded()[: turns - 1]], "turns", marks).items()
    counted.marked = counted.joined = 0
    known = ReadConversation(counted.form, [*recorded()[:turns]], "turns", marks)
    items = known.items()
    assert counted.marked == 4
    if edit is not None:
        edit(items, 17, 5)
    items += a_turn(turns)
    change = known.change(items)
    assert change is not None
    assert counted.written == 4 + written
    # What is stored is decoded once, to read it; and once more to say which part of it stays.
    assert counted.joined == (1 if edit in (None, copied) else 2)
