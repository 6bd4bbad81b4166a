"""Waits that say who may answer, and several who must agree.

Replays answer them as the recorded people, experiments as operators.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import streams, task
from helmr.errors import UsageError
from helmr.experiments import Asked, Delay, Experiment, Operator, always, replay, run
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession


class Verdict(BaseModel):
    pay: bool
    cents: int = 0
    note: str = ""


FINANCE = ["group:finance"]
PAY = {"pay": True, "cents": 100}


def asking(**who: Any) -> Task[..., Any]:
    """A task that asks one question of certain people."""
    verdict = streams.input("verdict", schema=Verdict, comments=["note"], **who)

    @task(id="asks", streams=[verdict])
    async def asks(payload: str) -> str:
        result = await verdict.wait(subject="Pay?", timeout="1d")
        return "nobody" if result.value is None else f"{result.value.pay} {result.value.cents}"

    return asks


Act = Callable[[Harness, HarnessSession], Any]


async def recorded(task: Task[..., Any], act: Act, folder: Path) -> Path:
    async with Harness(task) as harness:
        session = await harness.start(task, "x")
        await act(harness, session)
        async with harness.async_client() as client:
            pieces = [piece async for piece in client.sessions.open(session.id).export()]
    path = folder / f"{session.id}.jsonl"
    path.write_bytes(b"".join(pieces))
    return path


async def one_of_finance(harness: Harness, session: HarnessSession) -> None:
    await harness.advance("5m")
    await session.answer(PAY, person="ada", groups=["finance"])


async def two_of_finance(harness: Harness, session: HarnessSession) -> None:
    await harness.advance("5m")
    await session.answer({"pay": True, "cents": 40}, person="eve", groups=["finance"])
    await session.answer(PAY, person="ada", groups=["finance"])
    await harness.advance("20m")
    await session.answer(PAY | {"note": "so do I"}, person="bob", groups=["finance"])


async def declined(harness: Harness, session: HarnessSession) -> None:
    await session.answer(PAY, person="ada", groups=["finance"])
    await session.answer({"pay": False}, person="bob", groups=["finance"])


async def one_only(harness: Harness, session: HarnessSession) -> None:
    await session.answer(PAY, person="ada", groups=["finance"])
    await harness.advance("1d")


async def unrestricted(harness: Harness, session: HarnessSession) -> None:
    await session.answer(PAY)


RESTRICTED: dict[str, tuple[dict[str, Any], Act, str]] = {
    "a group": ({"answerers": FINANCE}, one_of_finance, "True 100"),
    "a person": ({"answerers": ["ada", "mia"]}, one_of_finance, "True 100"),
    "all but one": ({"not_by": ["eve"]}, one_of_finance, "True 100"),
    "signed": ({"signed": True}, one_of_finance, "True 100"),
    "two": ({"approvals": 2}, two_of_finance, "True 100"),
    "two of a group": ({"answerers": FINANCE, "approvals": 2}, two_of_finance, "True 100"),
    "a refusal": ({"approvals": 2, "refusals": [{"pay": False}]}, declined, "False 0"),
    "too few": ({"answerers": FINANCE, "approvals": 2}, one_only, "nobody"),
}


@pytest.mark.parametrize("answers", ["keep", "compare"])
@pytest.mark.parametrize("name", RESTRICTED)
@pytest.mark.allows_blocking
async def test_a_kept_answer_is_given_by_the_people_who_gave_it(
    name: str, answers: Any, tmp_path: Path
) -> None:
    who, act, result = RESTRICTED[name]
    code = asking(**who)
    path = await recorded(code, act, tmp_path)
    operators = [Operator("policy", always({"pay": False}))] if answers == "compare" else []
    found = replay([path], task=code, answers=answers, operators=operators, shows_progress=False)
    [row] = found.session_rows()
    assert (row["result"], row["old_result"], row["problem"]) == (f'"{result}"',) * 2 + (None,)
    assert (row["changed"], row["kept"]) == (False, int(result != "nobody"))
    assert row["duration_s"] == row["old_duration_s"]


CHANGED_RULES: list[tuple[dict[str, Any], Act, dict[str, Any], str, str | None]] = [
    ({"approvals": 2}, two_of_finance, {}, "True 40", None),
    ({}, unrestricted, {"answerers": FINANCE}, "nobody", "has not signed in as a person"),
    ({"answerers": FINANCE}, one_of_finance, {"answerers": ["group:board"]}, "nobody", "by ada"),
    ({"answerers": FINANCE}, one_of_finance, {"approvals": 2}, "nobody", None),
    ({"answerers": FINANCE}, one_of_finance, {"not_by": ["ada"]}, "nobody", "by ada"),
]


@pytest.mark.parametrize(("then", "act", "now", "result", "problem"), CHANGED_RULES)
@pytest.mark.allows_blocking
async def test_another_rule_takes_what_its_people_may_give(
    then: Any, act: Act, now: Any, result: str, problem: str | None, tmp_path: Path
) -> None:
    path = await recorded(asking(**then), act, tmp_path)
    found = replay([path], task=asking(**now), shows_progress=False)
    [row], [question] = found.session_rows(), found.question_rows()
    assert (row["result"], row["problem"]) == (f'"{result}"', None)
    assert (problem or "None") in str(question["problem"])


def team(*names: str, says: Any = PAY, minutes: int = 5) -> list[Operator]:
    delays = [Delay.fixed(f"{minutes * (n + 1)}m") for n in range(len(names))]
    pairs = zip(names, delays, strict=True)
    return [Operator(name, always(says), delay, groups=("finance",)) for name, delay in pairs]


@pytest.mark.parametrize(
    ("who", "operators", "result", "asked"),
    [
        ({"answerers": FINANCE}, team("ada"), "True 100", 1),
        ({"answerers": ["ada"]}, team("bob", "ada"), "True 100", 1),
        ({"not_by": ["group:finance"]}, team("ada"), "nobody", 0),
        ({"answerers": FINANCE}, [Operator("ada", always(PAY))], "nobody", 0),
        ({"approvals": 2}, team("ada", "bob"), "True 100", 1),
        ({"approvals": 2}, team("ada"), "nobody", 0),
        ({"approvals": 2}, [*team("ada"), *team("bob", says={"pay": True})], "nobody", 0),
        (
            {"answerers": ["ada@example.com"]},
            [Operator("one", always(PAY), person="ada@example.com")],
            "True 100",
            1,
        ),
    ],
)
@pytest.mark.allows_blocking
async def test_new_answers_are_those_of_operators_who_may(
    who: Any, operators: list[Operator], result: str, asked: int, tmp_path: Path
) -> None:
    code = asking(**who)
    path = await recorded(code, unanswered, tmp_path)
    options: dict[str, Any] = {"answers": "ask", "operators": operators, "shows_progress": False}
    [row] = replay([path], task=code, **options).session_rows()
    assert (row["result"], row["asked"], row["problem"]) == (f'"{result}"', asked, None)
    results = run(Experiment(code, 3, operators, payload="x"), shows_progress=False)
    assert [one["result"] for one in results.session_rows()] == [f'"{result}"'] * 3


async def unanswered(harness: Harness, session: HarnessSession) -> None:
    await harness.advance("1d")


def test_people_who_must_agree_work_side_by_side() -> None:
    people = team("ada", "bob", "mia", minutes=10)
    experiment = Experiment(asking(approvals=2), 1, people, payload="x")
    for seed in range(6):
        results = run(experiment, seed=seed, shows_progress=False)
        [wait] = results.wait_rows()
        assert wait["status"] == "fulfilled"
        assert wait["waited_s"] in (20 * 60, 30 * 60), "the later one of two"
        assert wait["operator"] in ("bob", "mia"), "whose answer it was"


def test_one_who_does_not_agree_is_followed_by_another() -> None:
    people = [*team("ada", "bob"), *team("eve", says={"pay": True, "cents": 7}, minutes=1)]
    for seed in range(6):
        results = run(Experiment(asking(approvals=2), 2, people, payload="x"), seed=seed)
        assert [row["result"] for row in results.session_rows()] == ['"True 100"'] * 2


def test_an_operator_with_one_hand_is_free_again_after_a_vote() -> None:
    people = [Operator(name, always(PAY), Delay.fixed("10m"), at_once=1) for name in ("ada", "bob")]
    results = run(Experiment(asking(approvals=2), 3, people, payload="x"), shows_progress=False)
    assert [row["duration_s"] for row in results.session_rows()] == [600, 1200, 1800]


def test_a_wait_that_no_operator_may_answer_says_so() -> None:
    verdict = streams.input("verdict", schema=Verdict, answerers=FINANCE)

    @task(id="for-ever", streams=[verdict])
    async def for_ever(payload: str) -> None:
        await verdict.wait(subject="Pay?")

    people = [Operator("ada", always(PAY))]
    [row] = run(Experiment(for_ever, 1, people, payload="x")).session_rows()
    assert row["status"] == "waiting"
    assert row["error"] == "no operator may answer: it is answered by group finance"


@pytest.mark.allows_blocking
async def test_a_session_that_fails_is_a_row_and_the_others_are_replayed(tmp_path: Path) -> None:
    code = asking()
    paths = [await recorded(code, unanswered, tmp_path) for _ in range(3)]

    def faulty(asked: Asked) -> Any:
        if asked.session == 1:
            raise LookupError("no rule for this one")
        return {"pay": "perhaps"} if asked.session == 2 else PAY

    operators = [Operator("rules", faulty)]
    options: dict[str, Any] = {"operators": operators, "shows_progress": False}
    results = replay(paths, task=code, **options)
    rows = results.session_rows()
    assert [row["status"] for row in rows] == ["succeeded", "unknown", "unknown"]
    assert rows[1]["problem"] == "LookupError: no rule for this one"
    assert rows[2]["problem"].startswith("SchemaMismatch: ")
    assert repr(results) == "<Replays 3 sessions, 1 changed, 2 with a problem>"


@pytest.mark.parametrize("groups", ["finance", [3]])
def test_groups_are_a_list_of_texts(groups: Any) -> None:
    with pytest.raises(UsageError, match="groups of ada are a list of texts"):
        Operator("ada", always(PAY), groups=groups)
