"""A chat of each framework on a real runtime, whose host is killed around each entry that a turn stores."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from helmr.client import Client
from helmr.errors import Conflict, Unavailable
from helmr.integrations.conversation import folded
from helmr.wire import ids
from tests.integrations.killed_chats import AFTER, AT, BEFORE, DONE, EXECUTED
from tests.integrations.long_chats import CHATS, PAY, reply
from tests.programs.benchmarks.processes import free_port
from tests.stack.live import LiveRuntime, until

T = TypeVar("T")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.allows_blocking]
each = pytest.mark.parametrize("task", [chat.id for chat in CHATS])
MODULES = ["tests.integrations.killed_chats"]

ITEMS_A_TURN = 4
"""A message, the model's call of a tool, what the tool gave, the reply."""
EXECUTED_A_TURN = 3
"""Two requests of the model, and a tool."""
FLUSHES_A_TURN_MIN = 5
"""A step is executed once its start is stored, and a person is asked before they answer: these are four ends of a flush
within a turn, and its own is the fifth. The rest is as slow as the machine: what waits meanwhile goes in one."""
STEP_ENDS = ("step.succeeded", "step.failed")
WITHIN_S = 120.0


class Chat:
    """A session of a runtime, a run for each turn; each turn pays, which needs leave."""

    def __init__(self, live: LiveRuntime, task: str) -> None:
        self._live = live
        self.id = live.begin(task, 1)
        self.turns = 0
        self.open_steps = 0
        """How many were under way at all kills."""
        self.entries = 0
        """How many the newest turn stored in which nothing was killed."""
        self._until_it_waits()

    def say(self, offset: int = 0, moment: str = AFTER) -> int:
        """A turn whose host is killed around that entry of it.

        Args:
            offset: Of the entry, from 1; none for 0.

        Returns:
            Which entry of the turn was the last one of the flush; 0 if the turn had fewer.
        """
        at, done = self._live.marks / AT, self._live.marks / DONE
        base = self._last_seq()
        done.unlink(missing_ok=True)
        if offset:
            at.write_text(f"{base + offset} {moment}")
        self.turns += 1
        operation_id = ids.new_id(ids.OPERATION)

        def send(client: Client) -> bool:
            messages = client.sessions.open(self.id).input("messages")
            messages.send(f"{PAY} {self.turns}", operation_id=operation_id)
            return True

        self._asked_until(send)
        self._until_it_waits()
        at.unlink(missing_ok=True)
        if not done.exists():
            self.entries = self._last_seq() - base
            return 0
        stored_seq, last_seq = map(int, done.read_text().split())
        self.open_steps += self._open_steps(stored_seq)
        return last_seq - base

    def _last_seq(self) -> int:
        return self._asked_until(lambda client: client.sessions.open(self.id).get()).last_seq

    def _asked_until(self, ask: Callable[[Client], T | None]) -> T:
        """What the runtime says, once it does."""

        def asked() -> T | None:
            # What was shown may be older than an answer, and what was killed is not there at once.
            with contextlib.suppress(Unavailable, Conflict):
                return ask(self._live.client)
            return None

        return until(asked, within_s=WITHIN_S, what="an answer", seen=self._seen)

    def _seen(self) -> str:
        return self._live.seen_of(self.id)

    def _until_it_waits(self) -> None:
        """Until all turns have their replies and the code waits for the next message; gives leave on the way."""

        def waits(client: Client) -> bool:
            wait = client.sessions.open(self.id).get().wait
            if wait is not None and wait.stream != "messages":
                client.waits.answer(wait.id, {"decision": "approve"})
            return wait is not None and wait.stream == "messages" and self._count() == self.turns

        self._asked_until(waits)

    def _count(self) -> int:
        return len(self.read("replies"))

    def read(self, stream: str) -> list[Any]:
        """All records."""
        session = self._live.client.sessions.open(self.id)
        return [one.data for one in session.output(stream).read()]

    def _open_steps(self, seq: int) -> int:
        """How many steps were under way when entries were stored through that one."""
        entries = [one for one in self._live.transcript(self.id) if one.seq <= seq]
        begun = {(one.run_id, one.op) for one in entries if one.kind == "step.started"}
        ended = {(one.run_id, one.op) for one in entries if one.kind in STEP_ENDS}
        return len(begun - ended)

    def check(self) -> None:
        """Nothing is lost, and nothing that was recorded is executed again."""
        paid = [f"done {PAY} {turn} " for turn in range(1, self.turns + 1)]
        assert self.read("replies") == [reply(turn, found) for turn, found in enumerate(paid, 1)]
        assert len(folded(self.read("turns"), "turns")) == ITEMS_A_TURN * self.turns
        executed = Counter(self._live.lines(EXECUTED))
        assert len(executed) == EXECUTED_A_TURN * self.turns
        # What was under way when it was killed may be executed once more.
        repeated = executed - Counter(executed.keys())
        assert repeated.total() <= self.open_steps, repeated
        assert set(repeated.values()) <= {1}


@each
@pytest.mark.parametrize("moment", [BEFORE, AFTER])
def test_a_chat_whose_process_is_killed_at_each_entry_loses_and_repeats_nothing(
    tmp_path: Path, task: str, moment: str
) -> None:
    live = LiveRuntime(
        tmp_path,
        modules=MODULES,
        linger="10m",
        in_process=True,
        port=free_port(),
        program="tests.stack.restarted",
    )
    try:
        chat = Chat(live.start(), task)
        offset = kills = 0
        while stored := chat.say(offset + 1, moment):
            offset, kills = stored, kills + 1
        assert offset >= chat.entries > 0  # around each of them
        assert kills >= FLUSHES_A_TURN_MIN
        chat.check()
    finally:
        live.stop()


@pytest.mark.ray
def test_chats_go_on_in_another_host_when_theirs_is_killed(tmp_path: Path) -> None:
    live = LiveRuntime(tmp_path, modules=MODULES, linger="10m")
    try:
        live.start()
        for chat in (Chat(live, chat.id) for chat in CHATS):
            (live.marks / EXECUTED).unlink(missing_ok=True)
            assert chat.say(1, BEFORE)
            assert chat.say(8, BEFORE)
            assert chat.say(8, AFTER)
            chat.check()
    finally:
        live.stop()
