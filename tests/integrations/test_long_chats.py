"""A chat of each framework over many runs: nothing is stored twice, nothing is lost, nothing is executed again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from statistics import median

import pytest

from helmr.integrations.conversation import folded
from helmr.testing import Harness, HarnessSession
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.replay.durable_context import Resumes
from tests.integrations.long_chats import BARE, CHATS, PAY, Turn, executed, reply, returned
from tests.longer import long_but

APPROVE = {"decision": "approve"}
TASKS = {chat.id: chat for chat in CHATS}
SAID = ("pens", f"{PAY} ada", "ink", f"{PAY} eve")
"""Messages, of which some need leave."""

each = pytest.mark.parametrize("name", TASKS)
pytestmark = pytest.mark.allows_blocking  # frameworks look at files when they are first used


def expected() -> list[str]:
    """The replies, by models that knew all that was said before."""
    found = [reply(turn, returned(said)) for turn, said in enumerate(SAID, 1)]
    executed.clear()
    return found


async def speak(session: HarnessSession, said: str) -> None:
    """One message, and leave if it is asked for."""
    await session.send("messages", said)
    if said.startswith(PAY):
        await session.answer(APPROVE)


async def once(name: str, every: int) -> Counter[str]:
    """What is executed if nothing happens to the session."""
    executed.clear()
    async with Harness(TASKS[name]) as harness:
        session = await harness.start(name, every)
        for said in SAID:
            await speak(session, said)
    return executed.copy()


@each
@pytest.mark.parametrize("every", [1, 3], ids=["a run a turn", "three turns a run"])
@long_but(1, "how", ["park", "kill"])
async def test_a_chat_that_leaves_memory_at_each_await_knows_what_was_said(
    name: str, every: int, how: str
) -> None:
    replies = expected()
    wanted = await once(name, every)
    executed.clear()
    async with Harness(TASKS[name]) as harness:
        session = await harness.start(name, every)
        for said in SAID:
            await getattr(session, how)()
            await session.send("messages", said)
            if said.startswith(PAY):
                await getattr(session, how)()
                await session.answer(APPROVE)
        assert await session.outputs("replies") == replies
    assert executed == wanted
    assert set(executed.values()) == {1}


@each
@pytest.mark.parametrize(
    "every",
    [
        pytest.param(16, id="at every sixteenth"),
        pytest.param(1, id="at each", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
async def test_a_chat_that_is_killed_goes_on_and_repeats_nothing_recorded(
    name: str, every: int
) -> None:
    replies = expected()
    wanted = await once(name, 2)
    whole = await story(name)
    for killed_at in range(2, whole, every):
        executed.clear()
        assert await story(name, killed_at, replies=replies) >= whole
        # What was under way when it was killed may be executed once more; nothing else is.
        assert not wanted - executed, killed_at
        assert (executed - wanted).total() <= 1, (killed_at, executed)


async def story(name: str, killed_at: int | None = None, replies: list[str] | None = None) -> int:
    """A session that is killed once, as soon as so many entries are stored; how many it has in the end."""
    async with Harness(TASKS[name]) as harness:
        session = await harness.start(name, 2, settle=False)
        for said in SAID:
            await session.send("messages", said, settle=False)
        while killed_at is not None:
            if len(harness.entries()) >= killed_at:
                await session.kill()
                break
            await answered(session, settle=False)
            await asyncio.sleep(0)
        await harness.settle()
        while await answered(session):
            pass
        found = await session.outputs("replies")
        assert replies is None or found == replies, killed_at
        return len(harness.entries())


async def answered(session: HarnessSession, *, settle: bool = True) -> bool:
    """Give leave if it is asked for."""
    wait = (await session.state()).wait
    if wait is None or wait.stream == "messages":
        return False
    await session.answer(APPROVE, settle=settle)
    return True


@each
async def test_a_late_turn_stores_and_asks_no_more_than_an_early_one(name: str) -> None:
    count = 16
    async with Harness(TASKS[name]) as harness:
        session = await harness.start(name, 1)
        by_turn: list[list[Entry]] = []
        for turn in range(count):
            before = (await session.state()).seq
            await session.send("messages", f"pen {turn:03}")
            by_turn.append([e for e in await session.transcript() if e.seq > before])
    sizes = [sum(entry.size_bytes for entry in entries) for entries in by_turn]
    kinds = [Counter(entry.kind for entry in entries) for entries in by_turn]
    assert kinds[1] == kinds[-1]
    assert kinds[1][EntryKind.HISTORY_READ] == 1
    assert max(sizes[1:]) <= 1.02 * min(sizes[1:]), sizes


SIZES = (10, 50, 200, 400)
TRIES = 20
RESUMES = 5
NEAR = 5


@each
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_turn_four_hundred_costs_what_turn_ten_costs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes, the CPU of a resume, the least of some, and Helmr's part of a turn's CPU, the middle of some."""
    sizes, resumed_s, own_s = {}, {}, {}
    taken_s: list[float] = []
    monkeypatch.setattr(Resumes, "note", lambda _self, took_s, _run, _ops: taken_s.append(took_s))
    async with Harness(TASKS[name]) as harness:
        session = await harness.start(name, 1)
        turn = 0

        async def say() -> float:
            nonlocal turn
            turn += 1
            began_s = time.process_time()
            await session.send("messages", f"pen {turn:03}")
            return time.process_time() - began_s

        for size in SIZES:
            while turn < size - TRIES - RESUMES:
                await say()
            before = (await session.state()).seq
            more_s: list[float] = []
            for _ in range(
                TRIES // NEAR
            ):  # else the framework alone would be behind a shorter conversation
                bare = await BARE[name](folded(await session.outputs("turns"), "turns"))
                more_s += [await say() - await cpu_s(bare) for _ in range(NEAR)]
            own_s[size] = median(more_s)
            entries = [entry for entry in await session.transcript() if entry.seq > before]
            sizes[size] = sum(entry.size_bytes for entry in entries) / TRIES
            taken_s.clear()
            for _ in range(RESUMES):
                await session.kill()
                await say()
            resumed_s[size] = min(taken_s)
    assert max(sizes.values()) <= 1.3 * min(sizes.values()), sizes
    assert resumed_s[400] <= 3 * resumed_s[10], resumed_s
    # Turns of Helmr less one of the framework alone, which took turns. At turn 400 both take ten times as long as they
    # differ by, and how long depends on what else runs: half of the bound is for that. (The least of each, one of them
    # in a quiet moment, differed by 3 times and more beside other tests.) That no JSON is made of old messages is
    # counted in `test_changed_conversations.py`.
    assert own_s[400] <= 3 * own_s[10], own_s


async def cpu_s(turn: Turn) -> float:
    """Of one more turn of the framework alone."""
    began_s = time.process_time()
    await turn()
    return time.process_time() - began_s
