"""Calls between processes: frames that take their time, get lost with their connection, and come in any order.

The rules are those of `helmr_runtime.rpc`: a frame is for one incarnation of a process; end of file behind a sent
request means that it may have run; only what changes nothing ends with its caller.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, cast

from helmr_runtime.rpc.calls import (
    LONG_POLLS,
    ActorDied,
    ActorNotFound,
    ActorUnavailable,
    CallError,
    CallFailure,
    is_of_runtime,
    kind_of,
    serve,
)
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.scheduler import Lane, Process, Scheduler

FRAME_S = 0.0002
"""A frame's usual time; see `Network.delay_s`."""


class Call:
    """A call that is not answered yet."""

    __slots__ = ("actor", "answer", "args", "caller", "is_here", "kwargs", "method", "task", "to")

    def __init__(
        self,
        caller: Lane,
        to: Process,
        actor: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.caller = caller
        self.to = to
        self.actor = actor
        self.method = method
        self.args = args
        self.kwargs = kwargs
        self.answer = caller.create_future()
        self.is_here = False
        """It has arrived."""
        self.task: asyncio.Task[Any] | None = None


class Network:
    """Every connection between the processes, and who answers to which name.

    Args:
        random: Decides how long frames take.
        on_call: Told of each call that arrives.
        on_bug: Told of what an actor raised that is no error of Helmr's.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        counts: Counts,
        on_call: Callable[[Call], None],
        on_bug: Callable[[str], None],
    ) -> None:
        self.scheduler = scheduler
        self.counts = counts
        self.calls = SimulatedCalls(self)
        self.slow_until_s = 0.0
        """Until then frames take up to seconds."""
        self.slow_processes: dict[Process, float] = {}
        """Until when frames to and from a process take up to seconds, though those of others do not."""
        self.watched: str | None = None
        """Calls that have this text are printed."""
        self._random = random
        self._on_call = on_call
        self._on_bug = on_bug
        self._actors: dict[str, tuple[Process, object]] = {}
        self._gone: dict[str, str] = {}
        """Actors that are dead for good: of what."""
        self.open: dict[Call, None] = {}
        self._crashes: dict[str, list[asyncio.Future[str]]] = {}

    def register(self, name: str, process: Process, target: object) -> None:
        """The process answers to that name from now on."""
        self._actors[name] = process, target

    def names(self) -> list[str]:
        """Actors that can be called."""
        return [name for name in self._actors if name not in self._gone]

    def processes(self) -> list[Process]:
        """All that have answered to a name, in the order in which they came."""
        return [process for process, _ in self._actors.values()]

    def process(self, name: str) -> Process | None:
        """Who answers to the name, or has."""
        found = self._actors.get(name)
        return found[0] if found is not None else None

    def delay_s(self, *ends: Process) -> float:
        """How long a frame between them takes: mostly next to nothing, now and then so long that any overtakes it."""
        draw = self._random.random()
        slow_until_s = max(
            [self.slow_until_s, *(self.slow_processes.get(end, 0.0) for end in ends)]
        )
        if self.scheduler.now_s < slow_until_s:
            return draw * draw * 4.0
        if draw < 0.9:
            return draw * FRAME_S
        return draw * 0.005 if draw < 0.995 else draw * 0.3

    # --- a call -------------------------------------------------------------------------------------

    async def call(self, actor: str, method: str, args: Any, kwargs: Any) -> Any:
        """One call, from the process that has its turn."""
        here = cast(Lane, asyncio.get_running_loop())
        found = self._actors.get(actor)
        if found is None:
            raise ActorNotFound(actor=actor, method=method)
        if actor in self._gone:
            await asyncio.sleep(self.delay_s())
            raise ActorDied(actor=actor, method=method, cause=self._gone[actor])
        if found[0].is_dead:
            await asyncio.sleep(self.delay_s())
            raise ActorUnavailable(actor=actor, method=method, detail="refused")
        call = Call(here, found[0], actor, method, args, kwargs)
        self.open[call] = None
        self._after(self._delay_of(call), call.to.lane, self._arrive, call, found[1])
        try:
            answer = await call.answer
        except asyncio.CancelledError:
            if method in LONG_POLLS:
                self._after(self._delay_of(call), call.to.lane, _cancel, call)
            raise
        finally:
            self.open.pop(call, None)
        if isinstance(answer, CallFailure):
            raise answer.error()
        return answer

    def _arrive(self, call: Call, target: object) -> None:
        call.is_here = True
        self._on_call(call)
        call.task = call.to.lane.create_task(self._serve(call, target))

    async def _serve(self, call: Call, target: object) -> None:
        self._show(call, "calls", call.args, call.kwargs)
        answer = await serve(target, call.method, call.args, call.kwargs)
        self._show(call, "gets", answer)
        if isinstance(answer, CallFailure) and answer.message.startswith(f"{call.method}: "):
            self._on_bug(
                f"{call.actor} {answer.message}"
            )  # what `serve` makes of an unexpected error
        self._after(self._delay_of(call), call.caller, self._answered, call, answer)

    def _answered(self, call: Call, answer: Any) -> None:
        if not call.answer.done():
            call.answer.set_result(answer)

    def _show(self, call: Call, verb: str, *what: object) -> None:
        if self.watched is not None and self.watched in (text := repr((call.args, *what))):
            at_s, by = self.scheduler.now_s, call.caller.process.name
            print(f"{at_s:9.4f} {by} {verb} {call.actor}.{call.method} {text[:800]}")  # noqa: T201

    def _delay_of(self, call: Call) -> float:
        return self.delay_s(call.caller.process, call.to)

    def _after(self, delay_s: float, lane: Lane, call: Callable[..., None], *args: Any) -> None:
        lane.call_later(delay_s, call, *args)

    # --- what goes wrong ------------------------------------------------------------------------------

    def cut(self, call: Call) -> None:
        """The connection ends over this call: the caller does not know whether it has run or will."""
        if call in self.open and not call.answer.done():
            self.counts.reached(f"cut:{'answer' if call.is_here else 'request'}")
            self._fail(call, ActorUnavailable(actor=call.actor, method=call.method, detail="cut"))

    def _fail(self, call: Call, error: CallError) -> None:
        self.open.pop(call, None)
        self._after(self.delay_s(), call.caller, _raise, call, error)

    def died(
        self,
        process: Process,
        names: list[str],
        cause: str,
        *,
        for_good: bool,
        is_gone: bool = True,
    ) -> None:
        """A process has ended: those that wait for it are told. Not `is_gone`: it only can't be reached."""
        for name in names:
            if for_good:
                self._gone[name] = cause
                for crash in self._crashes.pop(name, ()):
                    lane = cast(Lane, crash.get_loop())
                    self._after(self.delay_s(), lane, _resolve, crash, cause)
        for call in list(self.open):
            if call.caller.process is process:
                if is_gone:
                    del self.open[call]
            elif call.to is process and not call.answer.done():
                error: CallError
                if for_good:
                    error = ActorDied(actor=call.actor, method=call.method, cause=cause)
                else:
                    error = ActorUnavailable(actor=call.actor, method=call.method, detail=cause)
                self._fail(call, error)

    async def crash_of(self, name: str) -> str:
        """Return when that actor is dead for good: of what."""
        if name in self._gone:
            return self._gone[name]
        died = asyncio.get_running_loop().create_future()
        self._crashes.setdefault(name, []).append(died)
        return cast(str, await died)


class SimulatedCalls:
    """`helmr_runtime.rpc.calls.Calls` over the network."""

    def __init__(self, network: Network) -> None:
        self.counter: Counter[tuple[str, str]] = Counter()
        self._network = network

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call from whoever has its turn."""
        assert is_of_runtime(actor), actor
        self.counter[kind_of(actor), method] += 1
        return await self._network.call(actor, method, args, kwargs)


def _cancel(call: Call) -> None:
    if call.task is not None:
        call.task.cancel()


def _raise(call: Call, error: CallError) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)


def _resolve(crash: asyncio.Future[str], cause: str) -> None:
    if not crash.done():
        crash.set_result(cause)
