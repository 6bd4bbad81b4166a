"""What no caller waits for takes turns: many at once while nobody calls, few beside a caller."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from helmr_runtime.core.commands import (
    CancelSession,
    OperationKey,
    Resume,
    Send,
    TokenEnded,
    is_paced,
)
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.session import pace as pace_module
from helmr_runtime.session.pace import BESIDE_MAX, TURNS_MAX, HostPace


class Work:
    """Counts how much of it is under way."""

    def __init__(self, pace: HostPace, families: int) -> None:
        self.pace, self.families = pace, families
        self.under_way = self.most = self.done = 0

    async def one(self, number: int) -> None:
        async with self.pace.turn(f"family {number % self.families}"):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
        self.done += 1


async def most_at_once(pace: HostPace, count: int, families: int = 1) -> int:
    work = Work(pace, families)
    await asyncio.gather(*(work.one(number) for number in range(count)))
    assert work.done == count
    return work.most


async def test_a_family_takes_many_turns_at_once_while_nobody_calls_and_one_beside_a_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = HostPace()
    assert await most_at_once(pace, 200) == TURNS_MAX
    pace.called()
    assert await most_at_once(pace, 200) == BESIDE_MAX
    assert await most_at_once(pace, 200, families=3) == 3 * BESIDE_MAX
    assert await most_at_once(pace, 200, families=100) == TURNS_MAX, "sessions of nobody's go on"
    monkeypatch.setattr(pace_module, "CALLED_FOR_S", 0.0)
    assert await most_at_once(pace, 200) == TURNS_MAX


async def test_turns_come_in_the_order_of_asking() -> None:
    pace, order = HostPace(), list[int]()
    pace.called()

    async def one(number: int) -> None:
        async with pace.turn("tree"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(number) for number in range(50)))
    assert order == list(range(50))


async def test_a_turn_lasts_until_the_code_waits_and_no_longer_than_a_quick_one_takes() -> None:
    pace = HostPace()
    pace.called()
    rested = [asyncio.Event() for _ in range(3)]
    begun: list[int] = []

    async def one(number: int) -> None:
        async with pace.turn("tree", rested[number].wait):
            begun.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(3)]
    await asyncio.sleep(0.005)
    assert begun == [0], "the others wait for one that goes on"
    rested[0].set()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)  # the second never rests
    assert begun == [0, 1, 2]


async def test_what_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "TURN_MAX_S", 0.05)
    pace = HostPace()
    pace.called()
    never = asyncio.Event()

    async def hangs() -> None:
        async with pace.turn("family 0"):
            await never.wait()

    hanging = asyncio.create_task(hangs())
    await asyncio.sleep(0)
    assert await asyncio.wait_for(most_at_once(pace, 5), 5) == BESIDE_MAX
    never.set()
    await hanging
    assert await most_at_once(pace, 5) == BESIDE_MAX, "a turn is given back once"


async def test_who_gives_up_waiting_and_what_fails_leave_their_turn_to_others() -> None:
    pace = HostPace()
    pace.called()
    holding = asyncio.Event()

    async def held() -> None:
        async with pace.turn("tree"):
            await holding.wait()

    async def fails() -> None:
        async with pace.turn("tree"):
            raise ValueError("no")

    holders = [asyncio.create_task(held()) for _ in range(BESIDE_MAX)]
    waiting = [asyncio.create_task(held()), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holding.set()
    await asyncio.gather(*holders)
    with pytest.raises(ValueError, match="no"):
        await waiting[1]
    assert await most_at_once(pace, 10) == BESIDE_MAX


def test_what_the_directory_sends_from_its_list_is_paced_and_no_callers_command() -> None:
    ended = TokenEnded(
        principal=RUNTIME,
        wait_id="wait_1",
        token_id="tok_1",
        status="completed",
        ended_at=datetime(2026, 11, 28, tzinfo=UTC),
        ended_by=RUNTIME,
    )
    orphaned = CancelSession(principal=RUNTIME, reason="parent_cancelled")
    assert all(map(is_paced, (Resume(principal=RUNTIME), ended, orphaned)))
    send = Send(principal=RUNTIME, record_id="rec_1", stream="go", data=1, next_run_id="run_1")
    asked = CancelSession(principal=RUNTIME, operation=OperationKey(id="1", request_hash="2"))
    assert not any(map(is_paced, (send, asked, None)))


async def test_a_callers_command_waits_for_no_turn_and_narrows_those_of_others() -> None:
    turns, order = HostPace(), list[str]()
    going_on = asyncio.Event()

    async def rests(session_id: str) -> None:
        """At once."""

    async def resumed(number: int) -> None:
        resume = Resume(principal=RUNTIME, family="ses_tree")
        async with turns.of(f"ses_{number}", resume, rests):
            order.append(f"child {number}")
            await going_on.wait()

    send = Send(principal=RUNTIME, record_id="rec_1", stream="go", data=1, next_run_id="run_1")
    async with turns.of("ses_other", send, rests):
        order.append("sent")
    children = [asyncio.create_task(resumed(number)) for number in range(3)]
    await asyncio.sleep(0)
    async with turns.of("ses_other", send, rests):
        order.append("sent again")
    resume = Resume(principal=RUNTIME)
    async with turns.of("ses_own", resume, rests), turns.of_park("shutdown"):
        order.append("another's run")
    assert order == ["sent", "child 0", "sent again", "another's run"]
    going_on.set()
    await asyncio.gather(*children)
    assert order[4:] == ["child 1", "child 2"]
