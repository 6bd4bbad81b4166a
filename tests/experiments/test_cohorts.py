"""What would have become of recorded sessions: with the same code the same, with other code what it says."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from helmr import TaskContext, step, streams, task, timers, tokens
from helmr.errors import SessionFileDamaged, UsageError
from helmr.experiments import Delay, Operator, WorkingHours, always, choose, ignore, replay
from helmr.tasks import Task
from helmr.testing import Harness
from helmr.testing.recorded import question_keys


class Decision(BaseModel):
    decision: Literal["approve", "reject", "edit"]


class Change(BaseModel):
    title: str
    risk: int = 0


class Urgent(BaseModel):
    title: str
    urgent: bool


approval = streams.input("approval", schema=Decision)
news = streams.input("news", schema=str)
posted = streams.output("posted", schema=str)
did: list[str] = []


@step
async def draft(change: Change, round_: int) -> str:
    did.append("draft")
    return f"{change.title}, draft {round_}"


@step
def publish(text: str) -> str:
    did.append("publish")
    if text.startswith("broken"):
        raise ValueError("no such page")
    return f"https://example.com/{len(text)}"


@task(id="change")
async def change(change: Change, ctx: TaskContext) -> dict[str, Any]:
    for round_ in range(5):
        text = await draft(change, round_)
        answer = await approval.wait(timeout="30m", subject=f"Ship {change.title}?", body=text)
        if answer.value is None:
            return {"status": "nobody"}
        if answer.value.decision == "edit":
            continue
        if answer.value.decision == "reject":
            return {"status": "rejected"}
        where = await publish(text)
        await posted.append(where)
        return {"status": "posted", "where": where, "id": str(ctx.uuid()), "at": str(ctx.now())}
    return {"status": "too many rounds"}


def changed(function: Callable[..., Any], **options: Any) -> Task[..., Any]:
    return task(id="change", streams=[approval, posted], **options)(function)


@pytest.fixture(autouse=True)
def nothing_done() -> Iterator[None]:
    did.clear()
    yield
    did.clear()


async def record(
    task: Task[..., Any],
    payload: Any,
    act: Callable[[Harness, Any], Any],
    folder: Path,
    **options: Any,
) -> Path:
    """A session as a file."""
    async with Harness(task) as harness:
        session = await harness.start(task, payload, **options)
        await act(harness, session)
        return await _written(harness, session, folder)


async def _written(harness: Harness, session: Any, folder: Path) -> Path:
    async with harness.async_client() as client:
        path = folder / f"{session.id}.jsonl"
        pieces = [piece async for piece in client.sessions.open(session.id).export()]
    path.write_bytes(b"".join(pieces))
    return path


async def approves(harness: Harness, session: Any) -> None:
    await harness.advance("20m")
    await session.answer({"decision": "approve"})


async def rejects(harness: Harness, session: Any) -> None:
    await harness.advance("5m")
    await session.answer({"decision": "reject"})


async def edits(harness: Harness, session: Any) -> None:
    await session.answer({"decision": "edit"})
    await rejects(harness, session)


async def waits(harness: Harness, session: Any) -> None:
    await harness.advance("31m")


async def leaves(harness: Harness, session: Any) -> None:
    pass


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five sessions: approved, rejected, edited, unanswered, failed; the sixth still waits."""
    folder = tmp_path_factory.mktemp("recorded")

    async def all_of_them() -> list[Path]:
        made = []
        acts = (approves, rejects, edits, waits, approves, leaves)
        for number, act in enumerate(acts):
            payload = {"title": "broken" if number == 4 else f"change {number}", "risk": number}
            made.append(await record(change, payload, act, folder, tags=[f"n{number}"]))
        return made

    return asyncio.run(all_of_them())


def rows(cohort: list[Path], task: Task[..., Any] = change, **options: Any) -> list[dict[str, Any]]:
    return replay(cohort, task=task, shows_progress=False, **options).session_rows()


def test_the_same_code_with_the_same_answers_comes_to_the_same(cohort: list[Path]) -> None:
    found = rows(cohort)
    assert [row["old_status"] for row in found] == [*["succeeded"] * 4, "failed", "waiting"]
    for row in found[:5]:
        for name in ("status", "result", "error", "duration_s"):
            assert row[name] == row[f"old_{name}"], name
        assert (row["changed"], row["problem"]) == (False, None)
    under_way = found[5]
    assert (under_way["result"], under_way["changed"]) == ('{"status":"nobody"}', None)
    assert [row["kept"] for row in found] == [1, 1, 2, 0, 1, 0]
    assert [row["timed_out"] for row in found] == [0, 0, 0, 1, 0, 1]
    assert found[0]["duration_s"] == 20 * 60
    assert did == []


def test_it_is_the_same_again(cohort: list[Path]) -> None:
    operators = [
        Operator("ada", choose({"approve": 1, "reject": 1}), Delay.lognormal("12m")),
        Operator("alan", choose({"approve": 1, "edit": 1}), Delay.exponential("20m")),
    ]
    options: dict[str, Any] = {"answers": "ask", "operators": operators}
    options["steps"] = {"draft": lambda change, round_: "text", "publish": lambda text: "there"}
    once = rows(cohort, seed=7, **options)
    assert rows(cohort, seed=7, **options) == once
    assert rows(cohort, seed=8, **options) != once


def test_a_shorter_timeout_misses_the_late_answers(cohort: list[Path]) -> None:
    @changed
    async def shorter(change: Change) -> str:
        answer = await approval.wait(
            timeout="10m", subject=f"Ship {change.title}?", body=await draft(change, 0)
        )
        return answer.value.decision if answer.value else "nobody"

    found = rows(cohort, shorter)
    assert [row["result"] for row in found[:2]] == ['"nobody"', '"reject"']
    assert found[0]["timed_out"] == 1
    assert found[0]["duration_s"] == 600
    assert [row["changed"] for row in found] == [*[True] * 5, None]


def test_what_was_not_asked_is_asked_of_operators(cohort: list[Path]) -> None:
    @changed
    async def renamed(change: Change) -> str:
        answer = await approval.wait(timeout="1h", subject=f"Publish {change.title}?")
        return answer.value.decision if answer.value else "nobody"

    unasked = rows(cohort[:2], renamed)
    assert [(row["result"], row["kept"]) for row in unasked] == [('"nobody"', 0)] * 2
    rejecting = Operator("ada", always({"decision": "reject"}), Delay.fixed("4m"))
    asked = rows(cohort[:2], renamed, operators=[Operator("eve", ignore), rejecting])
    assert [(r["result"], r["asked"], r["duration_s"]) for r in asked] == [('"reject"', 1, 240)] * 2


def test_another_policy_answers_everything(cohort: list[Path]) -> None:
    def by_risk(asked: Any) -> Any:
        return {"decision": "reject" if asked.payload["risk"] > 1 else "approve"}

    found = rows(cohort, answers="ask", operators=[Operator("rule", by_risk)])
    assert found[0]["changed"]  # at another time
    assert [row["result"] for row in found[2:]] == ['{"status":"rejected"}'] * 4
    assert found[1]["problem"] == "no outcome of step publish is recorded for call 1"
    assert (found[1]["status"], found[1]["changed"], found[1]["result"]) == ("unknown", None, None)


def test_operators_work_in_their_hours(cohort: list[Path]) -> None:
    hours = WorkingHours("00:00", "00:10")  # sessions of a harness begin at midnight, UTC
    late = Operator("late", always({"decision": "reject"}), Delay.fixed("20m"), hours=hours)
    [row] = rows(cohort[:1], answers="ask", operators=[late])
    assert row["result"] == '{"status":"nobody"}'


def test_stand_ins_act_for_new_steps_and_changed_ones(cohort: list[Path]) -> None:
    @step
    async def audit(change: Change) -> int:
        did.append("audit")
        return 1

    @changed
    async def audited(change: Change) -> dict[str, Any]:
        score = await audit(change)
        if score > 3:
            return {"status": "refused", "score": score}
        return {"status": "passed", "text": await draft(change, 0)}

    async def judge(change: Change) -> int:
        return change.risk + 1

    alone = rows(cohort[:1], audited)
    assert alone[0]["problem"] == "no outcome of step audit is recorded for call 1"
    found = rows(cohort, audited, steps={"audit": judge, "draft": lambda change, round_: "new"})
    assert found[0]["result"] == '{"status":"passed","text":"new"}'
    assert found[3]["result"] == '{"score":4,"status":"refused"}'
    assert did == []


def test_code_that_catches_everything_does_not_go_on_without_an_outcome(
    cohort: list[Path],
) -> None:
    @changed
    async def stubborn(change: Change) -> str:
        for _ in range(3):
            try:
                await publish("x")
            except BaseException:
                continue
        return "done"

    [row] = rows(cohort[1:2], stubborn, steps={})
    assert (row["status"], row["problem"]) == (
        "unknown",
        "no outcome of step publish is recorded for call 1",
    )


def test_a_recorded_failure_is_raised_as_it_was(cohort: list[Path]) -> None:
    @changed
    async def careful(change: Change) -> str:
        from helmr.errors import StepFailed

        try:
            return await publish("other")
        except StepFailed as error:
            return f"{error.type}: {error.text}"

    assert rows(cohort[4:5], careful)[0]["result"] == '"ValueError: no such page"'


def test_what_does_not_fit_any_more_is_told(cohort: list[Path]) -> None:
    @changed
    async def urgent(change: Urgent) -> str:
        return "done"

    [row] = rows(cohort[:1], urgent)
    assert row["status"] == "unknown"
    assert row["problem"].startswith("the payload no longer fits")

    @step(name="draft")
    async def typed(change: Change) -> int:
        return 1

    @changed
    async def retyped(change: Change) -> int:
        return await typed(change)

    [row] = rows(cohort[:1], retyped)
    assert row["status"] == "failed"
    assert row["error"].startswith("SchemaMismatch: ")


def test_code_that_asks_for_ever_comes_to_an_end(
    cohort: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr.experiments.what_if.WAITS_MAX", 5)

    @changed
    async def endless(change: Change) -> None:
        while True:
            await approval.wait()

    [row] = rows(cohort[:1], endless, operators=[Operator("a", always({"decision": "edit"}))])
    assert (row["waits"], row["problem"]) == (5, "it has asked 5 times")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"answers": "all"}, "not 'keep', 'ask' or 'compare'"),
        ({"operators": [Operator("a", ignore, at_once=1)]}, "at_once of a has no effect here"),
        ({"operators": [Operator("a", ignore), Operator("a", ignore)]}, "one name"),
        ({"operators": [3]}, "sequence of Operator"),
        ({"seed": "x"}, "the seed is an int"),
    ],
)
def test_what_can_not_be_is_refused(cohort: list[Path], options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        rows(cohort, **options)


def test_files_are_checked_and_of_this_task(cohort: list[Path], tmp_path: Path) -> None:
    @task(id="another")
    async def another(payload: Any) -> None: ...

    with pytest.raises(UsageError, match="of the task change, not of another"):
        rows(cohort, another)
    with pytest.raises(UsageError, match="can't be read"):
        rows([tmp_path / "missing"])
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(cohort[0].read_bytes().replace(b"approve", b"APPROVE"))
    with pytest.raises(SessionFileDamaged):
        rows([broken])


def test_a_frame_compares_then_and_now(cohort: list[Path]) -> None:
    polars = pytest.importorskip("polars")
    results = replay(cohort, task=change, shows_progress=False)
    frame = results.sessions()
    assert (len(results), repr(results)) == (6, "<Replays 6 sessions, 0 changed>")
    assert frame["changed"].to_list() == [*[False] * 5, None]
    assert frame.schema["old_duration_s"] == polars.Float64
    assert frame["old_duration_s"].null_count() == 1


# --- what tasks do besides ------------------------------------------------------------------------


@task(id="mixed")
async def mixed(count: int, ctx: TaskContext) -> Any:
    token = await tokens.create(timeout="7d", subject="Pay?")
    await timers.sleep("2d")
    paid = await token.wait()
    heard = [one async for one in _first(count)]
    state = await tokens.get(token.id)
    return [paid.value, heard, state.status, ctx.session.metadata, await _pick()]


async def _first(count: int) -> Any:
    for _ in range(count):
        yield (await news.wait()).value


@step
async def _pick() -> int:
    return 4


async def test_tokens_timers_and_streams_of_many(tmp_path: Path) -> None:
    async def act(harness: Harness, session: Any) -> None:
        created = [e for e in await session.transcript() if e.kind == "token.created"]
        await harness.complete_token(created[0].body["token_id"], {"paid": True})
        await harness.advance("2d")
        for text in ("a", "b", "c"):
            await session.send("news", text)

    path = await record(mixed, 3, act, tmp_path, metadata={"k": 1})
    [row] = await asyncio.to_thread(rows, [path], mixed)
    assert row["old_result"] == '[{"paid":true},["a","b","c"],"completed",{"k":1},4]'
    assert (row["problem"], row["result"]) == (None, row["old_result"])
    assert (row["kept"], row["timed_out"]) == (4, 0)


async def test_sessions_of_a_runtime_are_replayed_too() -> None:
    async with Harness(change) as harness:
        session = await harness.start(change, {"title": "live"})
        await session.answer({"decision": "reject"})

        def ask() -> list[dict[str, Any]]:
            with harness.client() as client:
                return rows([client.sessions.open(session.id)])  # type: ignore[list-item]

        [row] = await asyncio.to_thread(ask)
    assert (row["session_id"], row["result"]) == (session.id, '{"status":"rejected"}')


def test_the_question_is_what_a_person_was_shown() -> None:
    opened: Mapping[str, Any] = {"kind": "input", "stream": "a", "subject": "s", "wait_id": "w1"}
    text = {"type": "string"}
    keys = question_keys("t", opened, text)
    assert question_keys("t", {**opened, "wait_id": "w2", "timeout_s": 3}, text) == keys
    others = [
        ("u", opened, text),
        ("t", opened, None),
        ("t", {**opened, "subject": "S"}, text),
        ("t", {**opened, "body": "b"}, text),
        ("t", {**opened, "correlation_id": "c"}, text),
        ("t", {**opened, "stream": "b"}, text),
        ("t", {**opened, "stream": None, "token_id": "tok_1"}, text),
    ]
    assert not any(keys & question_keys(*other) for other in others)
    one, two = ({"kind": "token", "token_id": name, "subject": "s"} for name in ("x", "y"))
    assert question_keys("t", one, None) == question_keys("t", two, None)


def test_a_question_that_its_entry_names_is_known_by_that_name_too() -> None:
    old: Mapping[str, Any] = {"kind": "input", "stream": "a", "subject": "s"}
    new = {**old, "question_hash": "q1"}
    assert question_keys("t", old, None) & question_keys("t", new, None)
    assert question_keys("t", {**new, "subject": "S"}, None) & question_keys("t", new, True)


@pytest.mark.perf
def test_five_hundred_sessions_under_changed_code_in_less_than_a_minute(tmp_path: Path) -> None:
    async def recorded() -> list[Path]:
        acts = (approves, rejects, edits, waits)
        return [
            await record(change, {"title": f"change {n}"}, acts[n % 4], tmp_path)
            for n in range(500)
        ]

    @changed
    async def shorter(change: Change) -> str:
        text = await draft(change, 0)
        answer = await approval.wait(timeout="10m", subject=f"Ship {change.title}?", body=text)
        return answer.value.decision if answer.value else "nobody"

    sessions = asyncio.run(recorded())
    began_s = time.monotonic()
    found = rows(sessions, shorter)
    took_s = time.monotonic() - began_s
    assert Counter(row["result"] for row in found) == {
        '"nobody"': 250, '"reject"': 125, '"edit"': 125,
    }  # fmt: skip
    assert rows(sessions, shorter) == found
    assert took_s < 60
    sys.stdout.write(f"{len(found)} sessions in {took_s:.1f} s\n")
