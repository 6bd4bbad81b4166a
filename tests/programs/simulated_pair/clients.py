"""Callers: a call goes to one address and then to the other, with its operation id, until one answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from helmr.errors import Conflict, HelmrError, LedgerSuperseded, NotFound
from helmr.wire import ids
from helmr_runtime.core.commands import OperationKey, Prune
from helmr_runtime.core.tokens import CompleteToken, CreateToken, NewToken
from helmr_runtime.ports import StartSession
from helmr_runtime.rpc.calls import CallError
from tests.ledger.sessions import ALICE, start_of

if TYPE_CHECKING:
    from tests.programs.simulated_pair.pair import Pair

PATIENCE_S = 4.0
"""A client that hears nothing for so long tries the other address; a real one five seconds."""

AGAIN_S = 0.3
BUSY = 3
"""Of those that call without a pause."""

NEWEST = 8
"""Among so many of the newest tokens a client chooses."""


class GivesUp(Exception):
    """A client has ended before it heard what became of its call."""


class Clients:
    """All of them.

    Args:
        pair: Whom they call.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._tasks: list[asyncio.Task[None]] = []
        self._is_busy = False
        self._at = 0
        """The address that answered last."""
        self._started: list[str] = []
        """Sessions whose client will not ask for their start any more."""

    def begin(self, number: int) -> None:
        """One more calls; what, and how, is the plan's."""
        random = self._pair.random(f"client {number}")
        kinds: list[tuple[Callable[[Random, str], Coroutine[Any, Any, None]], int]] = [
            (self._create, 5),
            (self._complete, 5),
            (self._start, 3),
            (self._read, 3),
            (self._prune, 2),
        ]
        (act,) = random.choices([one for one, _ in kinds], [weight for _, weight in kinds])
        self._tasks.append(
            self._pair.outside.lane.create_task(self._act(act, random, f"op-{number}"))
        )

    @property
    def under_way(self) -> int:
        """Calls that are not over."""
        self._tasks = [one for one in self._tasks if not one.done()]
        return len(self._tasks)

    @contextmanager
    def without_pause(self, name: str) -> Iterator[None]:
        """Meanwhile some call that runtime one time after the other, whatever it answers; no other."""
        lane = self._pair.outside.lane
        for number in range(BUSY):
            self._tasks.append(lane.create_task(self._call_again(name, f"busy-{number}")))
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    async def _call_again(self, name: str, said: str) -> None:
        for number in count():
            if not self._is_busy:
                return
            random = self._pair.random(f"{said}-{number}")
            call = _create_token(random, f"{said}-{number}")
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._pair.network.call(name, "fact", (call,), {})
            except (TimeoutError, HelmrError, CallError):
                await asyncio.sleep(AGAIN_S)

    async def _act(
        self, act: Callable[[Random, str], Coroutine[Any, Any, None]], random: Random, name: str
    ) -> None:
        try:
            await act(random, name)
        except (GivesUp, Conflict, NotFound) as error:
            self._pair.counts.reached(f"call: {getattr(error, 'code', 'given up')}")

    async def _create(self, random: Random, name: str) -> None:
        await self._repeated(random, "fact", _create_token(random, name))

    async def _complete(self, random: Random, name: str) -> None:
        known = list(self._pair.truth.tokens)[-NEWEST:]
        if not known:
            return
        token_id = random.choice(known)
        complete = CompleteToken(
            principal=ALICE, operation=_operation(name), token_id=token_id, data=name
        )
        receipt = await self._repeated(random, "fact", complete)
        self._pair.truth.completed(token_id, name)
        self._pair.counts.reached(f"completed: {receipt['outcome']}")

    async def _start(self, random: Random, name: str) -> None:
        start: StartSession = start_of(payload=name, operation=_operation(name))
        self._pair.runs[start.session_id] = start.run_id
        try:
            await self._repeated(random, "start", start)
        finally:
            self._started.append(start.session_id)

    async def _prune(self, random: Random, name: str) -> None:
        """What is over goes; not what somebody may ask for once more, or whose start may still be on its way."""
        truth, starts = self._pair.truth, self._pair.starts
        is_over = truth.closed - truth.pruned
        some = [one for one in self._started if one in is_over and starts[one].are_over]
        if some:
            chosen = random.sample(some, random.randint(1, min(len(some), 3)))
            prune = Prune(principal=ALICE, age_s=0.0, is_archived=False, session_ids=tuple(chosen))
            await self._answered(random, "prune", prune)

    async def _read(self, random: Random, name: str) -> None:
        await self._answered(random, "feed_head")

    async def _repeated(self, random: Random, method: str, call: Any) -> Any:
        """A call that changes something; now and then it is made again when it was answered."""
        receipt = await self._answered(random, method, call)
        while random.random() < 0.3:
            await asyncio.sleep(random.random() * 12.0)
            await self._answered(random, method, call)
        return receipt

    async def _answered(self, random: Random, method: str, *call: Any) -> Any:
        """What the first one says that answers.

        Raises:
            GivesUp: The client ends first.
            HelmrError: The pair refuses.
        """
        at = self._at
        while True:
            try:
                if method == "start":
                    self._pair.starts[call[0].session_id].sent += 1
                async with asyncio.timeout(PATIENCE_S):
                    answer = await self._pair.network.call("ab"[at], method, call, {})
            except (TimeoutError, HelmrError, CallError) as error:
                is_refused = isinstance(error, Conflict | NotFound)
                if is_refused and not isinstance(error, LedgerSuperseded):
                    raise
                self._pair.counts.reached(f"call: {getattr(error, 'code', 'timeout')}")
                if random.random() < 0.02 and not self._pair.is_calm:
                    raise GivesUp from error
                at = 1 - at
                await asyncio.sleep(AGAIN_S * (0.5 + random.random()))
                continue
            self._at = at
            return answer


def _create_token(random: Random, name: str) -> CreateToken:
    new = NewToken(
        token_id=ids.new_id(ids.TOKEN),
        public_token_id=ids.new_id(ids.PUBLIC_TOKEN),
        key_id="test",
        callback_hash=f"callback {name}",
        public_token_hash=f"hash {name}",
        timeout_s=random.choice((5.0, 3_600.0)),
    )
    return CreateToken(principal=ALICE, operation=_operation(name), new=new)


def _operation(name: str) -> OperationKey:
    return OperationKey(id=name, request_hash="ab" * 32)
