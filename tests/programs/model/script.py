"""Tasks whose payload is their code: a list of instructions, so that a few tasks cover what task code may ask for.

```
["wait", stream, correlation_id?, timeout_ms?, desk?, who?]   a wait on input
["await", "given" | "own", index, timeout_ms?, pinned, desk?]   on a token of the payload, or one made before
["create", timeout_ms]                           a token
["public", stream]                               a public token for the session itself
["child", task, code, leaves]                    a child session, with the same tokens
["join", index, timeout_ms?, caught]             its result; its failure raises, or is seen
["sleep", ms]                                    a timer
["step", bad_tries, bad_attempts, caught]        a step that is tried twice; it fails that often, or in those attempts
["output", data]   ["history", last]   ["peek", stream]   ["clock"]
["raise"]                                        an exception that no op raised
["continue", code]                               `continue_as`
```

What the code saw of each op is its result. A desk is [assignee?, escalation steps], an escalation step
[remind | assign | default, after_ms, opened | assigned, assignee or value]. Who may answer is what `wait` takes, by
name.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from helmr import (
    Limit,
    TaskContext,
    auth,
    escalation,
    sessions,
    step,
    streams,
    task,
    timers,
    tokens,
)
from helmr.current import current_step
from helmr.errors import ChildFailed, StepFailed

numbers = streams.input("numbers", schema=int)
chat = streams.input("chat")
said = streams.output("said")
INPUTS = {"numbers": numbers, "chat": chat}
only_one = Limit("one", at_once=1)
"""Changes nothing that anyone is told: a step that waits for its turn is not opened."""


class Script(BaseModel):
    """What a session runs, and the ids of the tokens it was given."""

    code: list[list[Any]]
    tokens: list[str] = []


@step(limit=only_one, retries=1, backoff=0)
async def work(bad_tries: int, is_bad_attempt: bool) -> int:
    """Fails as often as it is told to."""
    now = current_step.get()
    assert now is not None
    if is_bad_attempt or now.tries < bad_tries:
        raise ValueError("bad")
    return now.tries + 1


async def perform(script: Script, ctx: TaskContext) -> list[Any]:
    """Follow the instructions; what each op gave."""
    seen: list[Any] = []
    made: list[str] = []
    children: list[sessions.Child[list[Any]]] = []
    for name, *rest in script.code:
        match name:
            case "wait":
                stream, correlation_id, timeout_ms, desk, *who = rest
                result = await INPUTS[stream].wait(
                    correlation_id=correlation_id,
                    timeout=_seconds(timeout_ms),
                    **_desk(desk),
                    **(who[0] or {} if who else {}),
                )
                seen.append(_told(result))
            case "await":
                whose, index, timeout_ms, pinned, desk = rest
                token_id = (script.tokens if whose == "given" else made)[index]
                result = await tokens.wait(
                    token_id,
                    schema=int if pinned else None,
                    timeout=_seconds(timeout_ms),
                    **_desk(desk),
                )
                seen.append(_told(result))
            case "create":
                made.append((await tokens.create(timeout=rest[0] / 1000)).id)
                seen.append("created")
            case "child":
                children.append(await _started(*rest, tokens=script.tokens))
                seen.append("started")
            case "join":
                index, timeout_ms, caught = rest
                seen.append(await _joined(children[index], _seconds(timeout_ms), caught))
            case "public":
                await auth.create_public_token(scope=auth.send_to(rest[0]))
                seen.append("created")
            case "sleep":
                await timers.sleep(rest[0] / 1000)
                seen.append("slept")
            case "step":
                seen.append(await _stepped(*rest, attempt=ctx.attempt))
            case "output":
                await said.append(rest[0])
                seen.append("appended")
            case "peek":
                seen.append(await INPUTS[rest[0]].peek())
            case "history":
                seen.append(await said.history(last=rest[0]))
            case "clock":
                ctx.now()
                seen.append("read")
            case "raise":
                raise ValueError("raised")
            case "continue":
                await ctx.continue_as(Script(code=rest[0], tokens=script.tokens))
            case _:
                raise AssertionError(name)
    return seen


async def _stepped(bad_tries: int, bad_attempts: int, caught: bool, *, attempt: int) -> Any:
    if not caught:
        return await work(bad_tries, attempt <= bad_attempts)
    try:
        return await work(bad_tries, attempt <= bad_attempts)
    except StepFailed:
        return "failed"


async def _started(
    name: str, code: list[Any], leaves: bool, *, tokens: list[str]
) -> sessions.Child[list[Any]]:
    chosen = next(one for one in TASKS if one.id == name)
    return await sessions.start(
        chosen,
        Script(code=code, tokens=tokens),
        on_parent_cancel="leave" if leaves else "cancel",
    )


async def _joined(
    child: sessions.Child[list[Any]], timeout: float | None, caught: bool
) -> list[Any]:
    try:
        return _told(await child.result(timeout=timeout))
    except ChildFailed:
        if not caught:
            raise
        return ["ChildFailed"]


def _told(result: Any) -> list[Any]:
    if result.ok:
        return ["fulfilled", result.value]
    return [type(result.error).__name__]


def _desk(desk: list[Any] | None) -> Any:
    """The options of a wait that somebody is to see to."""
    if desk is None:
        return {}
    assignee, escalation_steps = desk
    return {
        "assignee": assignee,
        "escalation": [_escalation_step(*one) for one in escalation_steps],
    }


def _escalation_step(do: str, after_ms: int, from_: Any, what: Any) -> escalation.EscalationStep:
    match do:
        case "remind":
            return escalation.remind(after_ms / 1000, from_=from_)
        case "assign":
            return escalation.assign(after_ms / 1000, to=what, from_=from_)
        case _:
            return escalation.default(after_ms / 1000, what, from_=from_)


def _seconds(ms: int | None) -> float | None:
    return ms / 1000 if ms is not None else None


@task(id="keeps")
async def keeps(script: Script, ctx: TaskContext) -> list[Any]:
    """Input between runs is kept."""
    return await perform(script, ctx)


@task(id="runs", on_idle_input="run")
async def runs(script: Script, ctx: TaskContext) -> list[Any]:
    """Input between runs starts one."""
    return await perform(script, ctx)


@task(id="rejects", on_idle_input="reject")
async def rejects(script: Script, ctx: TaskContext) -> list[Any]:
    """Input between runs is refused."""
    return await perform(script, ctx)


@task(id="closes", after_run="close")
async def closes(script: Script, ctx: TaskContext) -> list[Any]:
    """A run's end closes the session."""
    return await perform(script, ctx)


@task(id="retries", retries=2, backoff=0.05)
async def retries(script: Script, ctx: TaskContext) -> list[Any]:
    """A failed run is tried twice more."""
    return await perform(script, ctx)


TASKS = (keeps, runs, rejects, closes, retries)
