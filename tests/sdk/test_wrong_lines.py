"""Natural lines that are wrong, for every public result and every public awaitable: each is refused in our words.

Both tables are compared with what is exported: a new result type or durable call without a row fails.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from enum import Enum
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

import helmr
from helmr import (
    Approval,
    Fulfilled,
    TaskContext,
    Unfulfilled,
    ask_approval,
    auth,
    client,
    context,
    errors,
    escalation,
    experiments,
    models,
    sessions,
    step,
    step_call,
    streams,
    task,
    testing,
    timers,
    tokens,
    wait_details,
)
from helmr.client.blocking import Items
from helmr.errors import HelmrError, HelmrSignal, UsageError, WaitTimeout
from helmr.models.common import Wire
from helmr.models.requests import Request
from helmr.tasks import Task
from helmr.testing import Harness
from helmr.wire import ids
from helmr.wire.truth import NoTruth

# --- results -------------------------------------------------------------------------------------------

MODULES = (auth, client, escalation, experiments, helmr, models, sessions, streams, tokens, testing)


@task(id="counts")
async def counts(payload: None) -> int:
    return 1


CHILD = sessions.Child(counts, "ses_1")
TIMED_OUT = WaitTimeout("wait_1 timed out")


class Answer(BaseModel):
    send: bool


REFUSED: dict[type, Callable[[], Any]] = {
    Approval: lambda: Approval(decision="decline"),
    Fulfilled: lambda: Fulfilled(value=False),
    Unfulfilled: lambda: Unfulfilled(error=TIMED_OUT),
    sessions.Succeeded: lambda: sessions.Succeeded(child=CHILD, value=False),
    sessions.Unsuccessful: lambda: sessions.Unsuccessful(
        child=CHILD, error=errors.ChildFailed("failed")
    ),
    **{
        one: functools.partial(Wire.model_construct.__func__, one)  # type: ignore[attr-defined]
        for one in (
            models.AssignReceipt,
            models.BulkOutcome,
            models.BulkReport,
            models.ClaimReceipt,
            models.CompleteReceipt,
            models.DryRun,
            models.GateReceipt,
            models.Health,
            models.NoteReceipt,
            models.NoticeRetryReceipt,
            models.NoticeTestReceipt,
            models.PruneReceipt,
            models.RunCheck,
            models.ScheduleReceipt,
            models.SendReceipt,
            models.StartReceipt,
            models.TokenAnswerReceipt,
            models.VoteReceipt,
        )
    },
}
"""What says how something went: true or false of what?"""

COUNTED = {client.QueryResult, experiments.Results}
"""True if there is a row, as a list is."""

THINGS = re.findall(r"\w+", """
    AnswerLinkInfo AnswerLinkReceipt ApiKeyInfo ApiKeyReceipt AskedAgain Attachment AwayInfo BulkPlan Catalog
    ChunkInfo ChunksEnd
    ClaimInfo Credentials DelegationInfo EntryInfo ErrorInfo Evidence EvidenceLink FieldProblem FileKeyInfo ForkOrigin
    GatedCallInfo GrantInfo
    JournalEntry JournalRecord KeptAnswer LimitInfo LimitKeyInfo LimitPlace NoticeTargetInfo Page ParentInfo
    PersonInfo PlannedRun PrincipalInfo Problem PublicTokenInfo PublicTokenReceipt PublicTokenScopeInfo QueryAnswer
    QueryColumn RecordInfo RepeatedOutput RepeatedStep RewindPreview RunInfo RunJournal ScheduleInfo SessionInfo
    SigningKeyInfo SignInInfo StreamInfo TaskInfo TaskSchedule Timing TokenInfo TokenReceipt VoteInfo WaitInfo
    WhoAmI DryRunOp

    Child Endpoint InputStream Limit OutputStream PublicToken Record Retry Step Stream Task TaskContext Token Verify
    AsyncClient AsyncInput AsyncOutput AsyncSessionHandle Client Input Output SessionHandle Answer Asked Budget Case
    Delay Experiment Operator Price WorkingHours Assign Default Remind Shown Harness HarnessSession
""")  # fmt: skip
"""What is there or is not: `if session.run:` asks for that, and is right."""

AWAITABLE = {"PendingWait"}
STARTED = {"StartedSession", "AsyncStartedSession"}


def public_classes() -> Iterator[type]:
    """The classes that these modules give to users, except errors, enumerations, queries, bodies of requests, and what
    only types and options have a use for."""
    for module in MODULES:
        for name in getattr(module, "__all__", None) or vars(module):
            one = getattr(module, name)
            if name.startswith("_") or not inspect.isclass(one):
                continue
            skipped = (HelmrError, HelmrSignal, Exception, Enum, Request, models.Query)
            is_own = one.__module__.startswith(module.__name__) or name in helmr.__all__
            is_type = getattr(one, "__total__", None) is not None or getattr(
                one, "_is_protocol", False
            )
            if is_own and not issubclass(one, skipped) and not is_type:
                yield one


def test_every_public_result_has_its_row() -> None:
    rows = {one.__name__ for one in (*REFUSED, *COUNTED)} | {*THINGS} | AWAITABLE | STARTED
    bases = {"AnswererOptions", "EscalationStep", "ListQuery", "StepOptions", "Wire"}
    assert {one.__name__ for one in public_classes()} - bases - rows == set()


def test_nothing_is_refused_without_a_row() -> None:
    assert {one for one in public_classes() if issubclass(one, NoTruth)} == {*REFUSED}


WRONG_LINES: dict[str, Callable[[Any], Any]] = {
    "if result:": bool,
    "if not result:": operator.not_,
    "if all([result]):": lambda result: all([result]),
    "result or default": lambda result: result or "default",
    "result == True": lambda result: result == True,  # noqa: E712
    "result != False": lambda result: result != False,  # noqa: E712
    'result == "approve"': lambda result: result == "approve",
    '"approve" == result': lambda result: "approve" == result,  # noqa: SIM300
    'result != "decline"': lambda result: result != "decline",
    'result in ("approve", "yes")': lambda result: result in ("approve", "yes"),
    '"decline" in result': lambda result: "decline" in result,
    '"decline" not in result': lambda result: "decline" not in result,
    "result == 3": lambda result: result == 3,
}


@pytest.mark.parametrize("line", WRONG_LINES)
@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.__name__)
def test_a_wrong_line_names_what_to_ask(one: Any, line: str) -> None:
    result = REFUSED[one]()
    with pytest.raises(UsageError) as refused:
        WRONG_LINES[line](result)
    assert refused.value.message.startswith(f"{one.__name__} ")
    named = refused.value.message.rpartition(": ask ")[2]
    assert named == one._ask
    first = named.removeprefix(".").partition(",")[0].split(" or ")[0]
    members = {*dir(one), *getattr(one, "model_fields", ()), *getattr(one, "__slots__", ())}
    assert first.partition(".")[0] in members


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.__name__)
def test_what_is_right_stays_right(one: Any) -> None:
    result, same = REFUSED[one](), REFUSED[one]()
    assert result is not None
    assert result != None  # noqa: E711
    assert result == result
    assert (result == same) is (one not in (sessions.Unsuccessful,))
    assert result in [same, result]
    assert object() != result
    assert repr(result).startswith(f"{one.__name__}(")


def test_an_ending_is_not_equal_to_its_value() -> None:
    for value in ({"send": True}, [1], Answer(send=True)):
        with pytest.raises(UsageError, match=r"can't be equal to (dict|list|Answer), .* ask \.ok"):
            assert Fulfilled(value=value) == value


def test_attributes_of_the_value_are_asked_of_the_value() -> None:
    ended: Any = Fulfilled(value=Answer(send=True))
    with pytest.raises(AttributeError, match=r"no attribute 'send': ask \.ok, then \.value"):
        assert ended.send
    with pytest.raises(AttributeError, match=r"write `await ….wait\(\)\.unwrap\(\)`"):
        ended.unwrap()


def test_whether_a_list_holds_something_is_asked_by_reading_it() -> None:
    def read() -> Generator[int, None, None]:
        yield from ()

    with pytest.raises(UsageError, match=r"ask `next\(….list\(\), None\)`"):
        assert Items(read())
    assert [*Items(read())] == []


def test_a_started_session_is_not_its_result() -> None:
    for one in (client.StartedSession, client.AsyncStartedSession):
        with pytest.raises(UsageError, match=r"StartedSession is neither true .* ask \.result"):
            bool(one.__new__(one))


# --- awaitables ----------------------------------------------------------------------------------------

flag = streams.input("flag", schema=bool)
approvals = streams.input("approvals", schema=Approval)
report = streams.output("report", schema=str)
TOKEN = ids.new_id(ids.TOKEN)


@step
async def plus(number: int) -> int:
    return number + 1


CALLS: dict[str, Callable[[TaskContext], Any]] = {
    "a step": lambda ctx: plus(1),
    "step_call": lambda ctx: step_call("named", str, 1),
    "PendingWait": lambda ctx: flag.wait(),
    "PendingWait.unwrap": lambda ctx: flag.wait().unwrap(),
    "Stream.history": lambda ctx: flag.history(),
    "InputStream.peek": lambda ctx: flag.peek(),
    "OutputStream.append": lambda ctx: report.append("x"),
    "ask_approval": lambda ctx: ask_approval(approvals, "refund", {}),
    "create": lambda ctx: tokens.create(),
    "get": lambda ctx: tokens.get(TOKEN),
    "list": lambda ctx: tokens.list(),
    "complete": lambda ctx: tokens.complete(TOKEN, 1),
    "cancel": lambda ctx: tokens.cancel(TOKEN),
    "start": lambda ctx: sessions.start(counts, None),
    "sleep": lambda ctx: timers.sleep("1h"),
    "until": lambda ctx: timers.until(datetime(2031, 1, 1, tzinfo=UTC)),
    "create_public_token": lambda ctx: auth.create_public_token(scope=auth.send_to(flag)),
    "TaskContext.continue_as": lambda ctx: ctx.continue_as(1),
}


def durable_functions(module: ModuleType) -> Iterator[str]:
    """Functions and methods that give a durable call."""
    owners = [module, *(one for _, one in inspect.getmembers(module, inspect.isclass))]
    for owner in owners:
        for one in [*vars(owner).values()]:
            own = getattr(one, "__wrapped__", None)
            is_here = getattr(one, "__module__", "") == module.__name__
            if is_here and own is not None and inspect.iscoroutinefunction(own):
                yield one.__qualname__


def test_every_public_awaitable_has_its_row() -> None:
    homes = (auth, context, helmr.approvals, sessions, streams, timers, tokens, wait_details)
    found = {name for module in homes for name in durable_functions(module)}
    assert len(found) > 12
    assert found - {*CALLS} == set()


async def iterated(call: Any) -> Any:
    return [one async for one in call]


MISUSES: dict[str, Callable[[Any], Any]] = {
    "if call:": lambda call: "paid" if call else "not paid",
    "call == 1": lambda call: "paid" if call == 1 else "not paid",
    'call != "no"': lambda call: "paid" if call != "no" else "not paid",
    "call + 1": lambda call: call + 1,
    "1 + call": lambda call: 1 + call,
    "call > 1": lambda call: call > 1,
    "call.value": lambda call: call.value,
    "call.approved": lambda call: call.approved,
    "call[0]": lambda call: call[0],
    "len(call)": len,
    "for one in call:": list,
    "1 in call": lambda call: 1 in call,
    "f'{call}'": lambda call: f"{call}",
    "async for one in call:": iterated,
}


def misuse(line: str) -> Task[Any, Any]:
    @task(id="misuse", streams=[flag, approvals, report])
    async def run(name: str, ctx: TaskContext) -> Any:
        found = MISUSES[line](CALLS[name](ctx))
        if inspect.iscoroutine(found):
            found = await found
        return await plus(len(str(found)))

    return run


@pytest.mark.parametrize("line", MISUSES)
async def test_a_call_that_was_not_awaited_is_never_taken_for_its_value(line: str) -> None:
    async with Harness(misuse(line), counts) as harness:
        for name in CALLS:
            session = await harness.start("misuse", name)
            error = await session.error()
            assert error is not None, name
            assert error["type"] in ("NotAwaited", "AttributeError"), (name, error)
            assert "awaited" in error["message"], name
            assert "test_wrong_lines.py:" in error["message"], name
            assert "step.started" not in [one.kind for one in await session.transcript()]


def test_the_loops_that_are_meant_are_named() -> None:
    """`history` gives a list; of a wait `iter` gives one value after another."""
    assert "await {what}" in helmr.current.DurableCall._loop
    assert ".iter()" in streams.PendingWait._loop


# --- the refund of the tutorial, decided by a truth test ------------------------------------------------

paid: list[int] = []


@step
async def pay() -> None:
    paid.append(1)


@task(id="truths", streams=[flag, approvals])
async def truths(which: str) -> str:
    if which == "approval":
        said: Any = await ask_approval(approvals, "refund", {"cents": 4200}, timeout="2d")
    else:
        said = await flag.wait(timeout="2d")
    if said:
        await pay()
    return "done"


@pytest.mark.parametrize("replay_always", [False, True])
@pytest.mark.parametrize("which", ["approval", "flag"])
@pytest.mark.parametrize("answered", ["no", "yes", "never"])
async def test_nothing_is_paid_whatever_was_answered(
    which: str, answered: str, replay_always: bool
) -> None:
    paid.clear()
    answer: Any = answered == "yes"
    if which == "approval":
        answer = {"decision": "approve" if answer else "decline"}
    async with Harness(truths, replay_always=replay_always) as harness:
        session = await harness.start(truths, which)
        if answered == "never":
            await harness.advance("2d")
        else:
            await session.answer(answer)
        error = await session.error()
    assert error is not None
    assert error["message"].endswith(("ask .approved", "for the value itself"))
    assert paid == []
