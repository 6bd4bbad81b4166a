"""Tasks of the simulated sessions: each kind of op, and the ways in which runs end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from helmr import (
    Limit,
    TaskContext,
    escalation,
    sessions,
    step,
    step_key,
    streams,
    task,
    timers,
    tokens,
)
from helmr.errors import StepFailed
from helmr_runtime.catalog import Registry

CODE_HASH = "simulated"

orders = streams.input("orders", schema=int)
chat = streams.input("chat", schema=str)
remarks = streams.input("remarks", schema=int)
refunds = streams.input("refunds", schema=dict, answerers=["group:finance"], comments=["why"])
echoes = streams.output("echoes", schema=int)

executed: Callable[[str, str, Any], None] = lambda key, name, payload: None  # noqa: E731 - the world sets it
"""Told by each body of a step that executes: its key, its name, and what it was given."""

going: Callable[[Limit], AbstractContextManager[object]] = lambda limit: nullcontext()  # noqa: E731
"""Entered by what goes on under a limit, in its steps and in code of its tasks; the world sets it."""

CALLS = Limit("calls", at_once=2)
QUOTA = Limit("quota", per=8, within="4s")
RUNS = Limit("runs", at_once=1)
LIMITS = {limit.name: limit for limit in (CALLS, QUOTA, RUNS)}


class Refused(Exception):
    """What a step raises."""


@step
async def act(number: int) -> int:
    executed(step_key(), "act", number)
    await asyncio.sleep(0.002 * (number % 5))
    return number + 1


@step(loop="run")
async def act_beside(number: int) -> int:
    executed(step_key(), "act_beside", number)
    await asyncio.sleep(0.001)
    return number


@step
def act_in_thread(number: int) -> int:
    executed(step_key(), "act_in_thread", number)
    return number * 2


@step(limit=CALLS, retries=1, backoff="300ms")
async def call(number: int) -> int:
    executed(step_key(), "call", number)
    with going(CALLS):
        await asyncio.sleep((0.05, 1.0, 3.0, 0.3, 0.1)[number % 5])  # a directory comes back in two
    return number + 1


@step(limit=CALLS, timeout="10ms")
def call_in_thread(number: int) -> int:
    """Goes on when its time is over; that its body begins is not seen before."""
    with going(CALLS):
        return number


@step(limit=QUOTA, retries=2, backoff="100ms")
async def ask_provider(number: int) -> int:
    executed(step_key(), "ask_provider", number)
    with going(QUOTA):
        await asyncio.sleep(0.01 * (number % 7))
    return number


@step(retries=3, backoff="200ms")
async def flaky(number: int) -> int:
    executed(step_key(), "flaky", number)
    return number


@step(retries=2, backoff="1m")
async def flaky_for_long(number: int) -> int:
    executed(step_key(), "flaky", number)
    return number


@task
async def ask(payload: Any, ctx: TaskContext) -> int:
    """Steps around waits, some with deadlines; the usual."""
    total = await act(1)
    for number in range(3):
        asked = await orders.wait(
            timeout=None if number == 1 else "20s", correlation_id=f"q{number}"
        )
        if asked.ok:
            total += asked.value
        await echoes.append(total)
        total = await act(total)
    return total


@task(on_idle_input="run", retries=2, backoff="2s")
async def take(payload: Any, ctx: TaskContext) -> int:
    """Takes whatever comes; some of it fails the attempt."""
    first = await orders.wait(timeout="5s")
    got = await flaky(first.value if first.ok else 0)
    if first.ok and first.value % 7 == 3:
        await chat.wait(timeout="3s")
    return got


@task
async def token(payload: Any, ctx: TaskContext) -> Any:
    """Waits on tokens: its own, and one that a client made."""
    made = await tokens.create(timeout="15s")
    own = await made.wait()
    if isinstance(payload, dict) and payload.get("token_id"):
        other = await tokens.wait(payload["token_id"], timeout="40s")
        await act(1 if other.ok else 2)
        late = await tokens.wait((await tokens.create(timeout="30s")).id, timeout="2s")
        await act(3 if late.ok else 4)
    return own.ok


@task
async def sleeper(payload: Any, ctx: TaskContext) -> str:
    """Durable time, and a long backoff."""
    await timers.sleep("3s")
    await flaky_for_long(5)
    now = ctx.now()
    await timers.sleep("45s")
    return now.isoformat()


@task
async def branches(payload: Any, ctx: TaskContext) -> list[int]:
    """Steps at once, one of them in a thread, and a wait that the code gives up."""
    found = list(await asyncio.gather(act(1), act_beside(2), act_in_thread(3), act(4)))
    try:
        async with asyncio.timeout(1.0 + ctx.random().random()):
            found.append(await orders.wait().unwrap())
    except TimeoutError:
        found.append(await act_in_thread(len(found)))
    rest = await orders.wait(timeout="10s")
    return [*found, rest.value if rest.ok else -1]


@task(on_idle_input="reject")
async def goes_on(payload: Any, ctx: TaskContext) -> int:
    """Continues as its own next run, a few times."""
    count = int(payload or 0)
    await orders.wait(timeout="4s")
    peeked = await chat.peek()
    history = await chat.history()
    await act(len(peeked) + len(history))
    if count < 2:
        await ctx.continue_as(count + 1)
    return count


@task(after_run="close")
async def listens(payload: Any, ctx: TaskContext) -> int:
    """Until its input ends."""
    count = 0
    async for text in chat.iter():
        count += len(text)
        await echoes.append(count)
        if count > 6:
            break
    return count


@task
async def follows(payload: Any, ctx: TaskContext) -> int:
    """What it asks depends on what was answered before."""
    total = 0
    for _ in range(3):
        found = await orders.wait(timeout="30s", subject=f"what comes after {total % 4}?")
        total += found.value if found.ok else 1
        await act(total)
    return total


@task
async def patient(payload: Any, ctx: TaskContext) -> int:
    """Waits with escalations, on a stream and on a token."""
    first = await orders.wait(
        timeout="40s",
        escalation=[
            escalation.remind("2s"),
            escalation.assign("4s", to="lead"),
            escalation.remind("3s", from_="assigned"),
            escalation.default("15s", -1),
        ],
    )
    made = await tokens.create(
        timeout="30s", escalation=[escalation.remind("1s"), escalation.default("6s", -2)]
    )
    second = await made.wait()
    return await act(first.value if first.ok and second.ok else 0)


@task
async def agent(payload: Any, ctx: TaskContext) -> int:
    """Asks leave for each call of a tool, and has children do what takes long."""
    total = 0
    for number in range(2):
        leave = await orders.wait(
            timeout="25s",
            correlation_id=f"q{number}",
            subject=f"may tool {number} be called?",
            priority="high",
        )
        total += await act(leave.value if leave.ok else number)
    helpers = [await sessions.start(helper, number) for number in range(2)]
    async for ended in sessions.as_ended(helpers):
        total += ended.value if ended.ok else 1
    return await act(total)


@task
async def helper(payload: Any, ctx: TaskContext) -> int:
    """What a child does: one of two asks."""
    total = await act(int(payload or 0))
    if total % 2 == 0:
        asked = await orders.wait(timeout="15s", subject="shall the helper go on?")
        total += asked.value if asked.ok else 0
    return await act_in_thread(total)


@task(every="5s", overlap="allow")
async def rounds(payload: Any, ctx: TaskContext) -> int:
    """By the clock, whatever became of the one before."""
    await sessions.start(helper, 0)  # nobody waits for it: it is at it when this is long over
    return await act(1)


@task(every="8s")
async def watches(payload: Any, ctx: TaskContext) -> int:
    """By the clock, unless the one before is still at it; that and its linger are over before the next."""
    found = await orders.wait(timeout="9s")
    return await act(found.value if found.ok else 0)


@task(isolated=True)
async def alone(payload: Any, ctx: TaskContext) -> int:
    """In a host of its own."""
    await act(1)
    found = await orders.wait(timeout="8s")
    return await act(found.value if found.ok else 0)


@task
async def deadly(payload: Any, ctx: TaskContext) -> int:
    """Ends its host, as often as the world says."""
    for number in range(3):
        await perilous(number)
    return 3


@step
def perilous(number: int) -> int:
    executed(step_key(), "perilous", number)
    return number


@task
async def thinks(payload: Any, ctx: TaskContext) -> int:
    """Computes for a while: whatever ends its host finds it executing."""
    total = 0
    for number in range(12):
        total += await act_in_thread(number)
    return total


@task
async def pays(payload: Any, ctx: TaskContext) -> int:
    """Asks two of those who may, then one of them but not of those who are left out."""
    first = await refunds.wait(timeout="25s", approvals=2, refusals=["no"])
    paid = await act(first.value.get("cents", 0) if first.ok else 0)
    second = await refunds.wait(timeout="15s", not_by=["starter", "ada"])
    return await act(paid + second.value.get("cents", 0) if second.ok else paid)


@task
async def agrees(payload: Any, ctx: TaskContext) -> bool:
    """Asks three of anyone but those of a group, until the default answers."""
    agreed = await refunds.wait(
        answerers=[],
        approvals=3,
        not_by=["starter", "group:legal"],
        refusals=["no"],
        escalation=[escalation.default("30s", {"decision": "no"})],
    )
    return agreed.ok


def _tenant(payload: Any) -> str | None:
    return str(payload["tenant"]) if payload is not None else None


@task(limit_key=_tenant)
async def calls(payload: Any, ctx: TaskContext) -> int:
    """Calls a provider that takes two calls at once, before a wait and after it."""
    first, second = await asyncio.gather(call(1), call(2))
    asked = await orders.wait(timeout="4s")
    return await call(first + second + (asked.value if asked.ok else 0))


@task(limit_key=_tenant)
async def hurries(payload: Any, ctx: TaskContext) -> int:
    """Does not wait for its turn for long, and leaves a thread behind."""
    total = 0
    try:
        async with asyncio.timeout(0.3):
            total = await call(4)
    except TimeoutError:
        total = await act(1)
    try:
        total += await call_in_thread(total)
    except StepFailed:
        total += await call(0)
    asked = await orders.wait(timeout="3s")
    return await call(total + (asked.value if asked.ok else 1))


@task(limit_key=_tenant, retries=1, backoff="1s")
async def asks_often(payload: Any, ctx: TaskContext) -> int:
    """Calls a provider that counts calls."""
    total = 0
    for number in range(3):
        total += await ask_provider(number)
    await timers.sleep("2s")
    return sum(await asyncio.gather(*(ask_provider(number) for number in range(total % 4 + 1))))


@task(limit=RUNS)
async def few(payload: Any, ctx: TaskContext) -> int:
    """Two at once, but for those that wait."""
    with going(RUNS):
        total = await act(1) + await act_in_thread(2)
    asked = await orders.wait(timeout="5s")
    with going(RUNS):
        total += await act(asked.value if asked.ok else 0)
    await timers.sleep("1s")
    with going(RUNS):
        return await act(total)


TASKS = (
    ask,
    follows,
    take,
    token,
    patient,
    agent,
    helper,
    sleeper,
    branches,
    goes_on,
    listens,
    rounds,
    watches,
    alone,
    deadly,
    thinks,
    pays,
    agrees,
    calls,
    hurries,
    asks_often,
    few,
)
OF_TENANTS = frozenset({calls.id, hurries.id, asks_often.id, few.id})
"""Tasks with limits, whose payload says for whom."""
REGISTRY = Registry(TASKS, code_hash=CODE_HASH)
