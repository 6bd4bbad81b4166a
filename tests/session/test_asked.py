"""What is done is what was approved: code that asks something else at a replay is stopped, or drift is told (S-126)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from helmr import TaskContext, auth, sessions, step, step_call, streams, task, timers, tokens
from helmr.models import CheckVerdict
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession
from helmr_runtime.security import task_secrets

approval = streams.input("approval", schema=bool)
go = streams.input("go", schema=bool)
report = streams.output("report", schema=str)
drawn: Iterator[int] = itertools.count(1)


@step
async def send(text: str, *, to: str = "ada") -> str:
    return f"{text} {to}"


@step
async def mail(text: str, *, to: str = "ada") -> None:
    """Records nothing of a secret that is in it."""


@step(compare=False)
async def log_line(text: str) -> str:
    return text


class Client:
    """Made anew at each replay, at another address."""


@step
async def charge(client: Client, cents: int) -> int:
    return cents


class Till:
    @step
    async def charge(self, cents: int) -> int:
        return cents


@task(id="child")
async def child(payload: str) -> str:
    return payload


Body = Callable[[TaskContext], Coroutine[Any, Any, Any]]


def as_task(body: Body) -> Task[Any, Any]:
    @task(id="body", streams=[approval, go, report])
    async def run(payload: None, ctx: TaskContext) -> Any:
        return await body(ctx)

    return run


async def resumed(harness: Harness, body: Task[Any, Any]) -> HarnessSession:
    """A session that was parked at its last wait, and got its answer."""
    session = await harness.start(body)
    await session.park()
    await session.answer(True)
    return session


# --- the same code -------------------------------------------------------------------------------------


async def a_subject(ctx: TaskContext) -> Any:
    await approval.wait(subject=f"Send {next(drawn)}?")


async def a_body(ctx: TaskContext) -> Any:
    await approval.wait(subject="Send?", body=f"Text {next(drawn)}")


async def a_correlation_id(ctx: TaskContext) -> Any:
    await approval.wait(correlation_id=f"c{next(drawn)}")


async def a_schema(ctx: TaskContext) -> Any:
    await approval.wait(schema={"enum": [True, next(drawn)]})


async def an_output(ctx: TaskContext) -> Any:
    await report.append(f"took {next(drawn)} s")
    await approval.wait()


async def a_steps_argument(ctx: TaskContext) -> Any:
    await send(f"mail {next(drawn)}")
    await approval.wait()


async def a_steps_keyword(ctx: TaskContext) -> Any:
    await send("mail", to=f"user {next(drawn)}")
    await approval.wait()


async def a_methods_argument(ctx: TaskContext) -> Any:
    await Till().charge(next(drawn))
    await approval.wait()


async def beside_what_has_no_form(ctx: TaskContext) -> Any:
    await charge(Client(), next(drawn))
    await approval.wait()


async def a_named_steps_argument(ctx: TaskContext) -> Any:
    await step_call("named", str, next(drawn))
    await approval.wait()


async def a_timer(ctx: TaskContext) -> Any:
    await timers.sleep(next(drawn))
    await approval.wait()


async def a_token(ctx: TaskContext) -> Any:
    await tokens.create(subject=f"Pay {next(drawn)}?")
    await approval.wait()


async def a_public_token(ctx: TaskContext) -> Any:
    await auth.create_public_token(scope=auth.send_to(go), max_uses=next(drawn))
    await approval.wait()


async def a_childs_payload(ctx: TaskContext) -> Any:
    await sessions.start(child, f"topic {next(drawn)}")
    await approval.wait()


DRIFTING: dict[Body, tuple[int, str, str]] = {
    a_subject: (1, 'wait input approval with subject "Send 1?"', 'with subject "Send 2?"'),
    a_body: (1, 'wait input approval with body "Text 1"', 'with body "Text 2"'),
    a_correlation_id: (1, 'wait input approval with correlation id "c1"', 'id "c2"'),
    a_schema: (1, "wait input approval", "with other words than before"),
    an_output: (1, 'output report with data "took 1 s"', 'with data "took 2 s"'),
    a_steps_argument: (1, "step send", "step send with other arguments"),
    a_steps_keyword: (1, "step send", "step send with other arguments"),
    a_methods_argument: (1, "step charge", "step charge with other arguments"),
    beside_what_has_no_form: (1, "step charge", "step charge with other arguments"),
    a_named_steps_argument: (1, "step named", "step named with other arguments"),
    a_timer: (1, "wait timer with duration in seconds 1.0", "duration in seconds 2.0"),
    a_token: (1, 'token with subject "Pay 1?"', 'token with subject "Pay 2?"'),
    a_public_token: (1, "public_token session.input.send", "with other words than before"),
    a_childs_payload: (1, "step sessions.start child", "with other arguments"),
}


@pytest.fixture(autouse=True)
def anew() -> None:
    global drawn
    drawn = itertools.count(1)


@pytest.mark.parametrize("body", DRIFTING, ids=lambda one: one.__name__)
async def test_the_same_code_that_asks_something_else_is_blocked_and_says_what(body: Body):
    async with Harness(as_task(body), child, replay_always=False) as harness:
        session = await harness.start("body")
        if body is a_timer:
            await harness.advance("5s")
            session_state = await session.state()
            assert session_state.run is not None
        await session.park()
        await session.answer(True)
        error = await session.error()
    assert error is not None
    assert error["code"] == "nondeterminism"
    op, recorded, met = DRIFTING[body]
    assert error["op"] == op
    assert error["recorded"].startswith(recorded)
    assert met in error["met"]
    assert "compare=False" in error["message"]


async def test_a_replay_at_every_await_finds_it_too():
    async with Harness(as_task(a_subject), replay_always=True) as harness:
        session = await harness.start("body")
        await session.answer(True)
        error = await session.error()
    assert error is not None
    assert error["code"] == "nondeterminism"


async def test_nothing_behind_the_difference_is_done():
    """A person has approved one text, and the code that goes on has another."""

    async def body(ctx: TaskContext) -> Any:
        text = f"answer {next(drawn)}"
        if await approval.wait(subject=f"Send {text}?").unwrap():
            await send(text)

    async with Harness(as_task(body)) as harness:
        session = await resumed(harness, as_task(body))
        assert "step.started" not in [one.kind for one in await session.transcript()]


# --- what may differ ------------------------------------------------------------------------------------


async def left_out(ctx: TaskContext) -> Any:
    await log_line(f"line {next(drawn)}")
    await report.append(f"took {next(drawn)} s", compare=False)
    await step_call("named", str, next(drawn), compare=False)
    return (await approval.wait(subject=f"Send {next(drawn)}?", compare=False)).ok


async def without_a_form(ctx: TaskContext) -> Any:
    await charge(Client(), 1)
    await step_call("closure", lambda: str(next(drawn)))
    return (await approval.wait()).ok


async def recorded_time_and_ids(ctx: TaskContext) -> Any:
    token = await tokens.create(metadata={"at": ctx.now().isoformat()})
    await send(f"{ctx.uuid()} {ctx.random().random()}", to=ctx.run.id)
    await step_call("with-a-secret", len, token.callback_url)
    await sessions.start(child, str(ctx.now()))
    return (await approval.wait(subject=f"{ctx.session.id}?", correlation_id=token.id)).ok


async def with_links(ctx: TaskContext) -> Any:
    first, other = await tokens.create(), await tokens.create()
    sender = await auth.create_public_token(scope=auth.send_to(go))
    for link in (first, other):
        await mail(f"Click {link.callback_url}", to=link.public_access_token)
    await mail("Send", to=sender.public_access_token)
    return (await approval.wait()).ok


async def in_no_order(ctx: TaskContext) -> Any:
    await step_call("set", sorted, {"red", "blue", "green"})
    return (await approval.wait()).ok


@pytest.mark.parametrize("replay_always", [False, True])
@pytest.mark.parametrize(
    "body", [left_out, without_a_form, recorded_time_and_ids, in_no_order], ids=lambda f: f.__name__
)
async def test_what_legitimately_differs_passes(body: Body, replay_always: bool):
    async with Harness(as_task(body), child, replay_always=replay_always) as harness:
        session = await resumed(harness, as_task(body))
        assert await session.result() is True


async def test_a_fork_passes_although_its_session_has_another_id():
    async def body(ctx: TaskContext) -> Any:
        await send(ctx.session.id)
        await go.wait(subject=f"Go on with {ctx.session.id}?")
        return (await approval.wait()).ok

    async with Harness(as_task(body)) as harness:
        client = harness.async_client()
        session = await harness.start("body")
        await session.answer(True)
        wait = await session.wait()
        fork = await client.sessions.open(session.id).fork(wait_id=wait["wait_id"], reason="a test")
        twin = HarnessSession(harness, fork.session.id)
        await twin.answer(True)
        assert await twin.result() is True


@pytest.mark.parametrize("replay_always", [False, True])
async def test_a_link_may_lead_through_another_external_url(
    replay_always: bool, monkeypatch: pytest.MonkeyPatch
):
    async with Harness(as_task(with_links), replay_always=replay_always) as harness:
        session = await harness.start(as_task(with_links))
        await session.park()
        monkeypatch.setattr(task_secrets, "CALLBACK_PATH", "/behind/a/proxy/")
        await session.answer(True)
        assert await session.result() is True


async def test_a_check_does_not_know_the_secrets_of_links_and_says_that_their_code_fits():
    async with Harness(as_task(with_links)) as harness:
        await harness.start(as_task(with_links))
        [check] = await harness.check()
        assert (check.verdict, check.drift) == (CheckVerdict.FITS, [])
        [check] = await harness.check(as_task(with_links))
        assert (check.verdict, check.drift) == (CheckVerdict.FITS, [])


async def test_a_fork_has_other_links_and_passes():
    async def body(ctx: TaskContext) -> Any:
        first, other = await tokens.create(), await tokens.create()
        for link in (first, other):
            await mail(link.callback_url, to=link.public_access_token)
        await go.wait()
        await mail(other.callback_url, to=first.public_access_token)
        return (await approval.wait()).ok

    async with Harness(as_task(body)) as harness:
        client = harness.async_client()
        session = await harness.start("body")
        await session.answer(True)
        wait = await session.wait()
        fork = await client.sessions.open(session.id).fork(wait_id=wait["wait_id"], reason="a test")
        twin = HarnessSession(harness, fork.session.id)
        await twin.answer(True)
        assert await twin.result() is True


async def test_one_link_in_place_of_another_is_stopped():
    async def body(ctx: TaskContext) -> Any:
        links = [await tokens.create(), await tokens.create()]
        await mail(links[next(drawn) % 2].callback_url)
        return (await approval.wait()).ok

    async with Harness(as_task(body)) as harness:
        session = await resumed(harness, as_task(body))
        error = await session.error()
    assert error is not None
    assert (error["code"], error["met"]) == ("nondeterminism", "step mail with other arguments")


# --- other code ------------------------------------------------------------------------------------------


def versions(subject: str, argument: str) -> Task[Any, Any]:
    async def body(ctx: TaskContext) -> Any:
        await send(argument)
        ok = (await approval.wait(subject=subject)).ok
        await go.wait()
        return ok

    return as_task(body)


async def test_other_code_passes_and_its_drift_is_listed_by_a_check_and_in_the_transcript():
    async with Harness(versions("Send?", "a")) as harness:
        session = await harness.start("body")
        [check] = await harness.check(versions("Send it?", "b"))
        assert check.verdict is CheckVerdict.FITS
        assert check.drift == [
            "op 1: step send; now step send with other arguments",
            'op 2: wait input approval with subject "Send?"; '
            'now wait input approval with subject "Send it?"',
        ]
        [check] = await harness.check(versions("Send?", "a"))
        assert check.drift == []

        await session.park()
        harness.deploy(versions("Send it?", "b"))
        await session.answer(True)
        opened = (await session.transcript())[-1]
        assert opened.kind == "wait.opened"
        assert opened.body["drift"] == [1, 2]
        assert await session.error() is None
        await session.park()
        await session.answer(True)
        assert await session.result() is True


def answered(name: str = "asked", **rule: Any) -> Task[..., Any]:
    stream = streams.input(name, schema=bool, **rule)

    @task(id="ruled", streams=[stream, go])
    async def ruled(payload: str) -> bool:
        answer: bool = await stream.wait(subject="Pay?").unwrap()
        await go.wait()
        return answer

    return ruled


FINANCE: dict[str, Any] = {"answerers": ["group:finance"]}


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (FINANCE, {**FINANCE, "approvals": 2}, "by group finance; now by 2 people: group finance"),
        (FINANCE, {"answerers": ["group:board"]}, "by group finance; now by group board"),
        (FINANCE, {}, "by group finance; now by anyone who may answer"),
        ({}, FINANCE, "by anyone who may answer; now by group finance"),
        (
            FINANCE,
            {**FINANCE, "not_by": ["starter"]},
            "by group finance; now by group finance, but not by starter",
        ),
        (FINANCE, {**FINANCE, "signed": True}, "now by group finance, signed by"),
        (FINANCE, {**FINANCE, "refusals": [False]}, "with other refusals"),
    ],
)
async def test_another_rule_of_who_answers_under_a_wait_is_drift(
    before: dict[str, Any], now: dict[str, Any], line: str
):
    async with Harness(answered(**before)) as harness:
        session = await harness.start("ruled", "x")
        [check] = await harness.check(answered(**now))
        assert check.verdict is CheckVerdict.FITS
        [found] = check.drift
        assert line in found
        [check] = await harness.check(answered(**before))
        assert check.drift == []

        await session.park()
        harness.deploy(answered(**now))
        await session.answer(True, person="ada", groups=["finance"])
        opened = (await session.transcript())[-1]
        assert (opened.kind, opened.body["drift"]) == ("wait.opened", [1])


async def test_whom_starter_meant_is_no_drift():
    rule = {**FINANCE, "not_by": ["starter"]}
    async with Harness(answered(**rule)) as harness:
        await harness.start("ruled", "x")
        [check] = await harness.check(answered(**rule))
        assert check.drift == []


async def test_a_check_of_the_same_code_says_that_it_differs():
    async with Harness(as_task(a_subject)) as harness:
        await harness.start("body")
        [check] = await harness.check()
    assert check.verdict is CheckVerdict.DIFFERS
    assert check.recorded == 'wait input approval with subject "Send 1?"'


async def test_entries_without_a_hash_pass():
    """As in journals of releases that wrote none."""

    async def before(ctx: TaskContext) -> Any:
        return (await approval.wait(subject=f"Send {next(drawn)}?", compare=False)).ok

    async with Harness(as_task(before)) as harness:
        session = await harness.start("body")
        opened = (await session.transcript())[-1]
        assert "asked" not in opened.body
        await session.park()
        harness.deploy(as_task(a_subject))
        await session.answer(True)
        assert await session.error() is None


async def test_arguments_stand_nowhere_and_their_hash_is_keyed():
    async def body(ctx: TaskContext) -> Any:
        await send("4711")
        await approval.wait()

    found = set()
    async with Harness(as_task(body)) as harness:
        for _ in range(2):
            session = await harness.start("body")
            [started] = [one for one in await session.transcript() if one.kind == "step.started"]
            assert "4711" not in started.body_json
            found.add(started.body["asked"])
    assert len(found) == 2, "each session has a key of its own"


@pytest.mark.parametrize("looks", [True, False])
async def test_the_attempts_number_may_stand_in_what_is_asked(looks: bool):
    attempts = itertools.count(1)

    async def body(ctx: TaskContext) -> Any:
        attempt = ctx.attempt if looks else next(attempts)
        await send(f"attempt {attempt}")
        await approval.wait(subject=f"Attempt {attempt}?")
        if attempt == 1:
            raise ValueError("once more")
        return attempt

    async with Harness(as_task(body), replay_always=False) as harness:
        session = await harness.start("body")
        await session.answer(True)
        assert (await session.error() or {})["type"] == "ValueError"
        await session.retry()
        if looks:
            assert await session.result() == 2
        else:
            assert (await session.error() or {})["code"] == "nondeterminism"
