"""Wrong values and calls in the wrong place: each is refused, or named in the log, in words that say what to write."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from helmr import LimitClosed, TaskContext, step, step_call, streams, task, tokens
from helmr.client.discovery import normal_url
from helmr.errors import BadDefinition, HelmrError
from helmr.steps import Step
from helmr.testing import Harness

# --- declarations --------------------------------------------------------------------------------------


async def yields() -> Any:
    yield 1


DECLARATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "a class by its name": (lambda: step(retry_on="ValueError"), "write retry_on=ValueError"),  # type: ignore[call-overload]
    "a tuple of names": (lambda: step(retry_on=("ValueError",)), "write retry_on=ValueError"),  # type: ignore[arg-type]
    "a list of classes": (lambda: step(retry_on=[ValueError]), "a tuple of them"),  # type: ignore[call-overload]
    "no exception": (lambda: step(retry_on=int), "not a class of exceptions"),  # type: ignore[arg-type]
    "a signal": (lambda: step(retry_on=KeyboardInterrupt), "not a class of exceptions"),  # type: ignore[arg-type]
    "retries as text": (lambda: step(retries="3"), "retries is '3', not 0 to 1000"),  # type: ignore[call-overload]
    "retries as truth": (lambda: step(retries=True), "retries is True, not 0 to 1000"),
}


@pytest.mark.parametrize("wrong", DECLARATIONS)
def test_a_declaration_says_what_to_write(wrong: str) -> None:
    declare, said = DECLARATIONS[wrong]
    with pytest.raises(BadDefinition, match=said):
        declare()(print)


def test_a_step_that_yields_is_refused_where_it_is_declared() -> None:
    with pytest.raises(BadDefinition, match=r"step yields yields, .* return a list"):
        step(yields)


@pytest.mark.parametrize(
    "right", [ValueError, (ValueError, OSError), lambda error: True, functools.partial(isinstance)]
)
def test_whatever_can_decide_over_retries_is_taken(right: Any) -> None:
    assert isinstance(step(retry_on=right)(print), Step)


# --- in a run ------------------------------------------------------------------------------------------


class Decision(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    decision: Literal["yes", "no"] = "no"
    why: str = Field(default="", alias="reason")


go = streams.input("go", schema=Decision)


@step
async def plus(number: int) -> int:
    return number + 1


@step
async def closes() -> int:
    raise LimitClosed("30s")


async def in_a_thread(ctx: TaskContext) -> Any:
    async def elsewhere() -> int:
        return await plus(1)

    return await asyncio.to_thread(lambda: asyncio.run(elsewhere()))


async def from_a_thread(ctx: TaskContext) -> Any:
    loop = asyncio.get_running_loop()

    def call() -> int:
        return asyncio.run_coroutine_threadsafe(plus(1), loop).result()

    return await asyncio.to_thread(call)


RUNS: dict[str, tuple[Callable[[TaskContext], Awaitable[Any]], str]] = {
    "a step of a step": (
        lambda ctx: step_call("x", plus, 1),
        r"BadDefinition: step x is declared around step plus, .* await plus\(…\) itself",
    ),
    "a step that gives a coroutine": (
        lambda ctx: step_call("x", lambda: plus(1), result=int),
        r"SchemaMismatch: .*: it is a coroutine, which was not awaited",
    ),
    "a subject": (lambda ctx: go.wait(subject=123), "UsageError: a subject is text, not int"),  # type: ignore[call-overload]
    "a body": (lambda ctx: go.wait(body=["x"]), "UsageError: a body is text, not list"),  # type: ignore[call-overload]
    "an assignee": (
        lambda ctx: go.wait(assignee=["ada"]),  # type: ignore[call-overload]
        "UsageError: an assignee is one line of text, not list",
    ),
    "a token's subject": (
        lambda ctx: tokens.create(subject=1),  # type: ignore[arg-type]
        "UsageError: a subject is text, not int",
    ),
    "a moment": (
        lambda ctx: go.wait(timeout=datetime(2031, 1, 1, tzinfo=UTC)),  # type: ignore[call-overload]
        r"BadDuration: a moment is not a duration: write `moment - ctx\.now\(\)`",
    ),
    "another loop": (
        in_a_thread,
        r"NotInTask: .* another event loop .*: .*asyncio\.run_coroutine_threadsafe",
    ),
    "a limit that there is not": (
        lambda ctx: closes(),
        r"LimitClosed: .*; no limit was closed, .* write @step\(limit=…\)",
    ),
}


async def error_of(call: Callable[[TaskContext], Awaitable[Any]]) -> str | None:
    @task(id="refused", streams=[go])
    async def run(payload: None, ctx: TaskContext) -> Any:
        return await call(ctx)

    async with Harness(run) as harness:
        session = await harness.start("refused")
        error = await session.error()
        return f"{error['type']}: {error['message']}" if error is not None else None


@pytest.mark.parametrize("wrong", RUNS)
async def test_a_run_says_what_to_write(wrong: str) -> None:
    call, said = RUNS[wrong]
    found = await error_of(call)
    assert found is not None
    with pytest.raises(HelmrError, match=said):
        raise HelmrError(found)


async def test_what_the_refusal_names_for_a_thread_works() -> None:
    assert await error_of(from_a_thread) is None


# --- named in the log ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("initial", "said"),
    [
        (
            {"decison": "yes"},
            "initial has 'decison', which the answer has not: it has decision, why",
        ),
        ("yes", "initial is str: the form starts with a Decision"),
        ({"decision": "yes"}, None),
        ({"reason": "none"}, None),
        ({"why": "none"}, None),
        (Decision(), None),
        ({}, None),
    ],
)
async def test_what_no_form_shows_is_logged(
    initial: Any, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    @task(id="initial", streams=[go])
    async def run(payload: None) -> str:
        return (await go.wait(initial=initial).unwrap()).decision

    with caplog.at_level(logging.WARNING, logger="helmr.task"):
        async with Harness(run, replay_always=True) as harness:
            session = await harness.start("initial")
            await session.answer({"decision": "yes"})
            assert await session.result() == "yes"
    found = [one.getMessage().partition(": ")[2] for one in caplog.records]
    assert found == ([said] if said is not None else [])


@pytest.mark.shows_secrets
@pytest.mark.parametrize("returned", ["callback_url", "public_access_token", "id"])
async def test_a_secret_that_a_step_returns_is_logged_once(
    returned: str, caplog: pytest.LogCaptureFixture
) -> None:
    @step
    async def gives(token: tokens.Token) -> dict[str, Any]:
        return {"sent to": ["ada", f"<{getattr(token, returned)}>"]}

    @task(id="secret", streams=[go])
    async def run(payload: None) -> None:
        await gives(await tokens.create())
        await go.wait()

    with caplog.at_level(logging.WARNING, logger="helmr.run"):
        async with Harness(run, replay_always=True) as harness:
            session = await harness.start("secret")
            await session.answer({"decision": "yes"})
    said = "step gives (op 2) returned a token's URL or secret, which the transcript shows"
    assert len([one for one in caplog.records if said in one.getMessage()]) == (returned != "id")


# --- addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_address_of_the_api_is_that_of_its_runtime(end: str) -> None:
    assert normal_url(f"http://127.0.0.1:4356{end}") == "http://127.0.0.1:4356"
    assert normal_url(f"https://example.com/helmr{end}") == "https://example.com/helmr"
