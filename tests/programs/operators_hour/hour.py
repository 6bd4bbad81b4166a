"""One hour: what is asked, who else answers, the restart; and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.programs.operators_hour.operators import Operator
from tests.programs.operators_hour.plan import LEGAL_S, Asked, Fate, by_number
from tests.programs.operators_hour.report import Measured, measured
from tests.programs.operators_hour.runtime import Calls, Runtime
from tests.programs.operators_hour.whole_frames import WholeFrames

FIRST_SHARE = 0.6
"""So much is there when the operator begins; the rest comes in waves."""
WAVE = 10
ENDS_WITHIN_S = LEGAL_S + 60.0
HOUR_S = 1800.0
"""No hour takes longer: what hangs, be it the gateway, the console or the operator, ends it."""
TYPED = "typed.jsonl"
"""When the operator typed what, in the hour's folder."""
LOOKS_EVERY_S = 0.5
"""So often the list is read for what has come: oftener, it would take the processor from who is being timed."""


class Hour:
    """The world around one operator.

    Args:
        calls: Of a runtime that is started.
        asked: The hour's waits.
        restart: Kills the runtime and starts it again, in the middle of the hour; None if that is left out.
    """

    def __init__(
        self,
        calls: Calls,
        asked: Sequence[Asked],
        *,
        restart: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.calls = calls
        self.plan = by_number(asked)
        self._coming = [one for one in asked if one.fate is not Fate.EXPIRES]
        self._legal = [one for one in asked if one.fate is Fate.EXPIRES]
        self._rivals = [one for one in asked if one.fate is Fate.RIVAL]
        self._count = len(self._coming)
        self._restart = restart
        self._restarts_at = len(asked) // 2
        self.sessions: dict[int, dict[str, Any]] = {}
        self.waits: dict[int, str] = {}
        self.confirmed_numbers: set[int] = set()
        self.outage: tuple[float, float] | None = None
        self._asking = asyncio.Lock()
        self._arrivals: list[asyncio.Task[None]] = []

    async def begins(self) -> None:
        """The first waits; those that others answer stand far down the list."""
        first = round(len(self._coming) * FIRST_SHARE)
        for one in [*self._rivals, *self._coming[:first]]:
            await self._ask(one)
        await self._all_wait()

    async def _ask(self, one: Asked) -> None:
        if one.number not in self.sessions:
            self.sessions[one.number] = await self.calls.ask(one)

    async def _pending(self) -> set[int]:
        async with self.calls.http() as http:
            items = (await http.get("/v1/waits", params={"limit": 200})).json()["items"]
        found = {int(one["subject"].partition("#")[2][:3]): one["id"] for one in items}
        self.waits |= found
        return set(found)

    async def _all_wait(self) -> None:
        async with asyncio.timeout(ENDS_WITHIN_S):
            while await self._pending() and self._unseen():
                await asyncio.sleep(LOOKS_EVERY_S)

    def _unseen(self) -> set[int]:
        """What was in no list: neither is what the operator answered between two looks."""
        return self.sessions.keys() - self.waits.keys() - self.confirmed_numbers

    # --- around the operator

    async def opened(self, number: int) -> None:
        """Another is faster, or the machine dies, while this form is open."""
        one = self.plan[number]
        if one.fate is Fate.RACED or one in self._rivals:
            # Who is that far down the list already has found what another was about to answer.
            self._rivals = [other for other in self._rivals if other != one]
            await self._rival_answers(one)
        elif self._restart is not None and len(self.confirmed_numbers) >= self._restarts_at:
            restart, self._restart = self._restart, None
            await self._all_arrived()
            began_s = time.time()
            await restart()
            self.outage = (began_s, time.time())

    async def confirmed(self, number: int) -> None:
        """More comes; others answer what stands in the list.

        What nobody is to look at comes once the operator's filter hides it, which is so from the first answer on.
        """
        self.confirmed_numbers.add(number)
        is_wave = not len(self.confirmed_numbers) % WAVE
        if is_wave and self._rivals:
            await self._rival_answers(self._rivals.pop())
        self._arrivals.append(asyncio.create_task(self._arrive(WAVE if is_wave else 0)))

    async def _arrive(self, count: int) -> None:
        """What is asked next comes while the operator goes on."""
        async with self._asking:
            for one in self._legal:
                await self._ask(one)
            arrived = [one for one in self._coming if one.number not in self.sessions][:count]
            for one in arrived:
                await self._ask(one)
            if arrived:
                await self._all_wait()

    async def _all_arrived(self) -> None:
        while self._arrivals:
            await self._arrivals.pop()

    async def _rival_answers(self, one: Asked) -> None:
        data = one.answer["reply"] if one.kind == "chat" else dict(one.answer)
        await self.calls.answer(self.waits[one.number], data, person="bo")

    async def is_finished(self) -> bool:
        """Whether everything was asked and nothing of it waits."""
        await self._all_arrived()
        for one in self._coming:
            if one.number not in self.sessions:
                await self._ask(one)
        await self._all_wait()
        while self._rivals:
            await self._rival_answers(self._rivals.pop())
        legal = {one.number for one in self._legal}
        return not await self._pending() - legal

    async def ended(self) -> list[dict[str, Any]]:
        """Each wait with `number`, and `result` of its run, once all of them are over."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            while await self._pending():
                await asyncio.sleep(0.5)
        found = []
        async with self.calls.http() as http:
            for number in self.sessions.keys() - self.waits.keys():
                of_it = {
                    "session_id": self.sessions[number]["session"]["id"],
                    "status": "fulfilled",
                }
                [wait] = (await http.get("/v1/waits", params=of_it)).json()["items"]
                self.waits[number] = wait["id"]
            for number, wait_id in sorted(self.waits.items()):
                wait = (await http.get(f"/v1/waits/{wait_id}")).json()
                run_id = self.sessions[number]["run"]["id"]
                while (run := (await http.get(f"/v1/runs/{run_id}")).json())["status"] == "running":
                    await asyncio.sleep(0.05)
                found.append({**wait, "number": number, "result": run.get("result")})
        return found


async def one_hour(
    way: type[Operator], checkout: Path, folder: Path, asked: Sequence[Asked], *, has_desk: bool
) -> Measured:
    """One operator's hour over the runtime of a checkout.

    Args:
        way: Who answers.
        checkout: Whose runtime and whose commands.
        folder: For what they leave; not there yet.
        asked: What is asked.
        has_desk: Whether this commit has claims and notices.
    """
    runtime = Runtime(checkout, folder, has_desk=has_desk, tasks=way.TASKS, people=way.PEOPLE)
    terminal = WholeFrames(*way.SIZE, python=str(runtime.python))
    async with AsyncExitStack() as ending:
        ending.push_async_callback(runtime.stop)
        ending.push_async_callback(terminal.close)
        async with asyncio.timeout(HOUR_S):
            await runtime.start()
            hour = Hour(runtime, asked, restart=runtime.restart)
            operator = way(terminal, hour.plan, hour)
            ending.push_async_callback(operator.ends)
            ending.callback(lambda: operator.tally.write_typed(folder / TYPED))
            await hour.begins()
            await operator.begins(runtime.url, runtime.key, folder / "operator")
            await operator.works()
            waits = await hour.ended()
        return measured(hour.plan, operator.tally, waits, runtime.told(), outage=hour.outage)
