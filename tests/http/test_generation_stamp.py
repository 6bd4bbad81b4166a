"""A gateway that does not know its ledger's generation asks for it once at a time, and holds nobody up for long."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from helmr.errors import Unavailable
from helmr_runtime.http import exchange as module
from helmr_runtime.http.exchange import GenerationHeader
from helmr_runtime.service.exports import Copies


class Ledger:
    """Says its stamp when it is there."""

    def __init__(self) -> None:
        self.is_there = asyncio.Event()
        self.asked = 0

    async def stamp(self) -> str:
        self.asked += 1
        await self.is_there.wait()
        return "stamp"


class Request:
    """One that says nothing of generations."""

    method = "GET"
    headers: dict[str, str] = {}  # noqa: RUF012 - read only


REQUEST = cast("Any", Request())


def over(ledger: Ledger) -> GenerationHeader:
    return GenerationHeader(cast("Copies", ledger))


async def test_requests_of_one_time_share_a_question() -> None:
    ledger = Ledger()
    generations = over(ledger)
    meeting = [asyncio.create_task(generations.meet(REQUEST)) for _ in range(50)]
    await asyncio.sleep(0)
    ledger.is_there.set()
    await asyncio.gather(*meeting)
    assert ledger.asked == 1
    assert generations._stamp == "stamp"


async def test_a_ledger_that_is_away_holds_up_only_who_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STAMP_WITHIN_S", 0.05)
    ledger = Ledger()
    generations = over(ledger)
    await generations.meet(REQUEST)
    for _ in range(20):
        meeting = generations.meet(REQUEST)
        async with asyncio.timeout(0.04):
            await meeting
    await asyncio.sleep(0)
    assert ledger.asked == 2
    ledger.is_there.set()
    await asyncio.sleep(0.01)
    await generations.meet(REQUEST)
    assert generations._stamp == "stamp"
    assert ledger.asked == 2


async def test_a_caller_who_goes_away_leaves_the_question_to_the_others() -> None:
    ledger = Ledger()
    generations = over(ledger)
    first = asyncio.create_task(generations.meet(REQUEST))
    second = asyncio.create_task(generations.meet(REQUEST))
    await asyncio.sleep(0)
    first.cancel()
    ledger.is_there.set()
    await second
    assert generations._stamp == "stamp"


async def test_an_error_of_the_ledger_is_not_the_requests() -> None:
    class Failing(Ledger):
        async def stamp(self) -> str:
            raise Unavailable("away")

    await over(Failing()).meet(REQUEST)
