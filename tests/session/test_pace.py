"""What no caller waits for takes turns: many at once while nobody calls, few beside a caller."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from helmr_runtime.core.commands import CancelSession, Operation, Resume, Send, TokenEnded
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.session import pace as pace_module
from helmr_runtime.session.pace import ALONE_MAX, BESIDE_MAX, Pace, is_paced


class Work:
    """Counts how much of it is under way."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.under_way = self.most = self.done = 0

    async def one(self) -> None:
        async with self.pace.turn():
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            self.under_way -= 1
        self.done += 1


async def most_at_once(pace: Pace, count: int) -> int:
    work = Work(pace)
    await asyncio.gather(*(work.one() for _ in range(count)))
    assert work.done == count
    return work.most


async def test_many_take_turns_at_once_while_nobody_calls_and_few_beside_a_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = Pace()
    assert await most_at_once(pace, 200) == ALONE_MAX
    pace.called()
    assert await most_at_once(pace, 200) == BESIDE_MAX
    monkeypatch.setattr(pace_module, "CALLED_FOR_S", 0.0)
    assert await most_at_once(pace, 200) == ALONE_MAX


async def test_turns_come_in_the_order_of_asking() -> None:
    pace, order = Pace(), list[int]()
    pace.called()

    async def one(number: int) -> None:
        async with pace.turn():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(number) for number in range(50)))
    assert order == list(range(50))


async def test_a_turn_lasts_until_the_code_waits_and_no_longer_than_a_quick_one_takes() -> None:
    pace = Pace()
    pace.called()
    rested = [asyncio.Event() for _ in range(3)]
    begun: list[int] = []

    async def one(number: int) -> None:
        async with pace.turn(rested[number].wait):
            begun.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(3)]
    began = time.monotonic()
    await asyncio.sleep(0.005)
    assert begun == [0, 1], "the third waits for one that rests"
    rested[0].set()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert begun == [0, 1, 2]
    await most_at_once(pace, 1)  # when the other two have gone on for too long
    assert time.monotonic() - began < 5


async def test_who_gives_up_waiting_and_what_fails_leave_their_turn_to_others() -> None:
    pace = Pace()
    pace.called()
    holding = asyncio.Event()

    async def held() -> None:
        async with pace.turn():
            await holding.wait()

    async def fails() -> None:
        async with pace.turn():
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
    asked = CancelSession(principal=RUNTIME, operation=Operation(id="1", request_hash="2"))
    assert not any(map(is_paced, (send, asked, None)))
