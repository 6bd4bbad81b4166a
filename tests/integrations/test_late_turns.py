"""What a late turn of a long chat does more often than an early one, counted: a busy machine counts the same.

Pydantic AI and the OpenAI Agents SDK; `test_changed_conversations.py` counts what LangGraph's turns make of messages.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

import helmr
import helmr_runtime
from helmr.integrations import _openai_agents, _pydantic_ai
from helmr.integrations.conversation import (
    ADD,
    READ_CHARS,
    ItemForm,
    ReadConversation,
    folded,
    records_of,
)
from helmr.testing import Harness
from helmr_runtime.core.entries import RUNTIME, Entry, EntryKind, Watermark, body_text
from helmr_runtime.replay.replay_log import outcome_of
from helmr_runtime.replay.steps import step_loop
from helmr_runtime.session.histories import Histories
from tests.integrations.long_chats import BARE, chat_openai_agents, chat_pydantic_ai

OURS = tuple(f"{Path(str(one.__file__)).parent}/" for one in (helmr, helmr_runtime, json))
"""Where Helmr's functions stand, and those that it makes JSON with."""


class Calls:
    """How often each function is called, by its code, in the threads that have been told."""

    def __init__(self) -> None:
        self.of: Counter[CodeType] = Counter()
        self._is_on = self._is_over = False

    def _heard(self, frame: FrameType, event: str, argument: object) -> None:
        if self._is_on:
            self.of[frame.f_code] += event == "call"
        elif self._is_over:
            sys.setprofile(None)

    @contextlib.contextmanager
    def in_new_threads(self) -> Iterator[None]:
        """Tell those that begin meanwhile, and that of all steps, until the next count is over."""
        self._is_over = False
        threading.setprofile(self._heard)
        step_loop().loop.call_soon_threadsafe(sys.setprofile, self._heard)
        try:
            yield
        finally:
            threading.setprofile(None)

    @contextlib.contextmanager
    def counted(self) -> Iterator[Counter[CodeType]]:
        """What is called meanwhile."""
        found: Counter[CodeType] = Counter()
        self.of = found
        before = sys.getprofile()
        self._is_on = True
        sys.setprofile(self._heard)
        try:
            yield found
        finally:
            sys.setprofile(before)
            self._is_on, self._is_over = False, True


def of_files(calls: Counter[CodeType], places: Sequence[str]) -> Counter[str]:
    """Those of functions that stand there, by their names."""
    found: Counter[str] = Counter()
    for code, count in calls.items():
        if any(place in code.co_filename for place in places):
            found[f"{code.co_filename}:{code.co_qualname}"] += count
    return found


# --- Helmr's own: what a turn makes of a conversation


def pydantic_turn(number: int) -> list[Any]:
    said, reply = UserPromptPart(f"pen {number}"), TextPart(f"{number}: done".ljust(400, "."))
    call = ToolCallPart("look_up", {"what": f"pen {number}"}, tool_call_id=f"call-{number}")
    given = ToolReturnPart("look_up", "done".ljust(150, "."), tool_call_id=f"call-{number}")
    asks = [ModelRequest([said]), ModelResponse([call]), ModelRequest([given])]
    return [*asks, ModelResponse([reply])]


def openai_turn(number: int) -> list[Any]:
    text = {"type": "output_text", "text": f"{number}: done".ljust(400, "."), "annotations": []}
    call = {"type": "function_call", "call_id": f"call-{number}", "name": "look_up"}
    return [
        {"role": "user", "content": f"pen {number}"},
        {**call, "arguments": json.dumps({"what": f"pen {number}"})},
        {"type": "function_call_output", "call_id": f"call-{number}", "output": "done".ljust(150)},
        {"type": "message", "role": "assistant", "content": [text]},
    ]


FORMS: dict[str, tuple[ItemForm[Any], Callable[[int], list[Any]]]] = {
    "pydantic-ai": (_pydantic_ai.FORM, pydantic_turn),
    "openai-agents": (_openai_agents.FORM, openai_turn),
}


@functools.cache
def stored(framework: str) -> list[Any]:
    """The records of a long conversation."""
    form, turn = FORMS[framework]
    return [{ADD: form.write(turn(number))} for number in range(400)]


def history_read(through_seq: int) -> Entry:
    body = {"stream": "turns", "direction": "output", "from_seq": 1, "through_seq": through_seq}
    return Entry(
        session_id="ses_1",
        seq=1,
        recorded_at=datetime(2030, 1, 1, tzinfo=UTC),
        kind=EntryKind.HISTORY_READ,
        run_id=None,
        op=1,
        principal=RUNTIME,
        body=body,
        body_json=body_text(body),
        hash=b"",
    )


def read_and_add(
    histories: Histories, read: Entry, form: ItemForm[Any], new: list[Any]
) -> ReadConversation[Any]:
    """What a turn does with a conversation, on its host and in its run."""
    records = histories.of(read.session_id, Watermark.of(read.body))
    assert records is not None
    found: Any = outcome_of(None, read, records).payload  # type: ignore[arg-type]
    texts = [record.data for record in found]
    known = ReadConversation(form, texts, "turns", WeakKeyDictionary())
    known.items()
    for record in records_of({ADD: form.write(new)}):
        known.append(record)
    return known


@pytest.mark.parametrize("framework", FORMS)
def test_none_of_helmrs_functions_is_called_more_often_in_a_late_turn(framework: str) -> None:
    form, turn = FORMS[framework]
    records = stored(framework)
    counts, read_chars, chars = {}, list[int](), list[int]()

    def reading(text: str) -> list[Any]:
        read_chars.append(len(text))
        return form.read(text)

    for turns in (10, 400):
        histories, watermark = Histories(), Watermark("turns", "output", 1, turns)
        bodies = [
            {"record_id": f"rec_{seq}", "stream": "turns", "stream_seq": seq, "data": data}
            for seq, data in enumerate(records[:turns], 1)
        ]
        histories.keep("ses_1", watermark, bodies)
        read, new = history_read(turns), turn(turns)
        read_chars.clear()
        calls = Calls()
        with calls.counted() as found:
            known = read_and_add(histories, read, ItemForm(reading, form.write), new)
        counts[turns] = of_files(found, OURS)
        # Each character is read once, in pieces that need no memory of their own.
        chars = [len(json.dumps(one, separators=(",", ":"))) for one in records[:turns]]
        assert sum(read_chars) <= sum(chars)
        assert max(read_chars) <= READ_CHARS + max(chars)
        assert known.items()[-4:] == form.read(json.dumps(form.write(new)))
    more = counts[400] - counts[10]
    pieces = sum(chars) // READ_CHARS + 1
    assert not {name for name, count in more.items() if count > pieces}, more


# --- the frameworks: what they do more of, because Helmr asks


@pytest.mark.parametrize(
    ("chat", "places"),
    [
        (chat_pydantic_ai, ["/pydantic_ai/", "/pydantic/"]),
        (chat_openai_agents, ["/agents/", "/openai/"]),
    ],
    ids=["pydantic-ai", "openai-agents"],
)
@pytest.mark.allows_blocking
@pytest.mark.timeout(300)
async def test_a_framework_does_no_more_for_a_late_turn_than_alone(
    chat: Any, places: Sequence[str]
) -> None:
    """What it does in a turn of thirteen that it does not in one of three."""
    calls, hot, alone = Calls(), {}, {}
    async with Harness(chat) as harness:
        session = await harness.start(chat, 1)

        async def say(turn: int) -> None:
            await session.send("messages", f"pen {turn:03}")

        for turn in range(1, 15):
            if turn not in (4, 14):
                # The next one's run, and its thread, begin in the turn before.
                with calls.in_new_threads() if turn in (3, 13) else contextlib.nullcontext():
                    await say(turn)
                continue
            bare = await BARE[chat.id](folded(await session.outputs("turns"), "turns"))
            hot[turn] = await counted(calls, functools.partial(say, turn), places)
            alone[turn] = await counted(calls, bare, places)
    more, more_alone = hot[14] - hot[4], alone[14] - alone[4]
    assert more_alone.total() > 500
    assert not more - more_alone


async def counted(
    calls: Calls, do: Callable[[], Awaitable[object]], places: Sequence[str]
) -> Counter[str]:
    """What it calls of a framework."""
    with calls.counted() as found:
        await do()
    return of_files(found, places)
