"""Programs of durable calls that hypothesis makes and changes, as tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hypothesis import strategies as st

from helmr import TaskContext, step, streams, task
from helmr.steps import Step
from helmr.tasks import Task

executed: list[str] = []
"""The steps whose bodies have run."""

STEPS = ("alpha", "beta", "gamma")
INPUTS = ("red", "blue")


@dataclass(frozen=True)
class Do:
    """One durable call of a program. `kind`: step, wait, out, clock, peek, history, uuid, fail."""

    kind: str
    name: str = ""
    formerly: str = ""
    is_text: bool = False
    """The step gives, or the stream takes, text instead of a number."""
    patch: str = ""
    """Done only where this patch's new way is taken."""


@dataclass(frozen=True)
class Together:
    """Calls in concurrent branches."""

    branches: tuple[Do, ...]
    how: str
    """gather or group."""


Item = Do | Together


def step_of(do: Do) -> Step[[], Any]:
    if do.is_text:

        async def text() -> str:
            executed.append(do.name)
            return "7"

        return step(name=do.name, formerly=[do.formerly] if do.formerly else ())(text)

    async def number() -> int:
        executed.append(do.name)
        return 7

    return step(name=do.name, formerly=[do.formerly] if do.formerly else ())(number)


def program(items: Sequence[Item]) -> Task[..., Any]:
    """A task that does these one after another."""
    dos = [d for i in items for d in (i.branches if isinstance(i, Together) else (i,))]
    types = {
        d.name: str if d.is_text else int for d in dos if d.kind in ("wait", "peek", "history")
    }
    inputs = {name: streams.input(name, schema=types.get(name, int)) for name in INPUTS}
    output = streams.output("out", schema=int)
    steps = {d: step_of(d) for d in dos if d.kind == "step"}

    async def call(do: Do, ctx: TaskContext) -> None:
        if do.patch and not ctx.patched(do.patch):
            return
        match do.kind:
            case "step":
                await steps[do]()
            case "wait":
                await inputs[do.name].wait().unwrap()
            case "peek":
                await inputs[do.name].peek()
            case "history":
                await inputs[do.name].history()
            case "out":
                await output.append(1)
            case "clock":
                ctx.now()
            case "uuid":
                ctx.uuid()
            case _:
                raise ValueError("a bug")

    @task(id="changing", streams=[*inputs.values(), output])
    async def changing(payload: int, ctx: TaskContext) -> None:
        for item in items:
            if isinstance(item, Do):
                await call(item, ctx)
            elif item.how == "gather":
                await asyncio.gather(*(call(one, ctx) for one in item.branches))
            else:
                async with asyncio.TaskGroup() as group:
                    for one in item.branches:
                        group.create_task(call(one, ctx))

    return changing


instants = st.sampled_from(["out", "clock", "uuid"]).map(Do)
reads = st.builds(Do, st.sampled_from(["peek", "history"]), st.sampled_from(INPUTS))
some_steps = st.builds(Do, st.just("step"), st.sampled_from(STEPS))
waits = st.builds(Do, st.just("wait"), st.sampled_from(INPUTS))
groups = st.builds(
    Together,
    st.tuples(some_steps, some_steps, some_steps | waits).map(tuple) | st.tuples(some_steps, waits),
    st.sampled_from(["gather", "group"]),
)
items = some_steps | some_steps | waits | waits | instants | reads | groups
programs = st.lists(items, min_size=2, max_size=7).filter(lambda made: waits_of(made) > 0)


def waits_of(made: Sequence[Item]) -> int:
    dos = [d for i in made for d in (i.branches if isinstance(i, Together) else (i,))]
    return sum(d.kind == "wait" for d in dos)


@st.composite
def changes(draw: st.DrawFn, made: Sequence[Item]) -> list[Item]:
    """The program after one or two changes."""
    changed = list(made)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        match draw(
            st.sampled_from(
                ["rename", "alias", "insert", "patch", "delete", "swap", "type", "group", "fail"]
            )
        ):
            case "insert":
                changed.insert(at, draw(items))
            case "patch":
                done = draw(some_steps | instants)
                changed.insert(at, replace(done, patch=draw(st.sampled_from(["p", "q"]))))
            case "fail":
                changed.insert(at, Do("fail"))
            case "delete" if len(changed) > 1:
                _delete(draw, changed, at)
            case "swap" if len(changed) > 1:
                other = draw(st.integers(0, len(changed) - 1))
                changed[at], changed[other] = changed[other], changed[at]
            case "rename":
                changed[at] = _each(changed[at], "step", lambda d: replace(d, name="delta"))
            case "alias":
                changed[at] = _each(
                    changed[at], "step", lambda d: replace(d, name=d.name + "2", formerly=d.name)
                )
            case "type":
                kind, name = draw(
                    st.sampled_from([("step", n) for n in STEPS] + [("", n) for n in INPUTS])
                )
                changed = [_each(i, kind, partial(_as_text, name=name)) for i in changed]
            case "group" if len(changed) > 1:
                pair = [d for d in changed[at : at + 2] if isinstance(d, Do) and d.kind != "fail"]
                if len(pair) == 2 and sum(d.kind == "wait" for d in pair) < 2:
                    changed[at : at + 2] = [
                        Together((pair[0], pair[1]), draw(st.sampled_from(["gather", "group"])))
                    ]
    return changed


def _as_text(do: Do, *, name: str) -> Do:
    return replace(do, is_text=do.is_text or do.name == name)


def _delete(draw: st.DrawFn, changed: list[Item], at: int) -> None:
    item = changed[at]
    if isinstance(item, Together) and draw(st.booleans()):
        gone = draw(st.integers(0, len(item.branches) - 1))
        left = tuple(d for n, d in enumerate(item.branches) if n != gone)
        changed[at] = replace(item, branches=left)
    else:
        del changed[at]


def _each(item: Item, kind: str, change: Callable[[Do], Do]) -> Item:
    if isinstance(item, Together):
        return replace(item, branches=tuple(_do(d, kind, change) for d in item.branches))
    return _do(item, kind, change)


def _do(do: Do, kind: str, change: Callable[[Do], Do]) -> Do:
    is_meant = do.kind == kind if kind else do.kind in ("wait", "peek", "history")
    return change(do) if is_meant else do


pairs = programs.flatmap(lambda made: st.tuples(st.just(made), changes(made)))


def data_for(new: Sequence[Item], stream: str) -> Any:
    """What the new code's schema of a stream takes."""
    dos = [d for i in new for d in (i.branches if isinstance(i, Together) else (i,))]
    reading = [d for d in dos if d.name == stream and d.kind in ("wait", "peek", "history")]
    return "3" if reading and reading[-1].is_text else 3
