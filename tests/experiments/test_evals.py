"""A changed agent on recorded sessions: what its model says now, at what cost, and whether people would agree."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelMessage, ModelResponse, RequestUsage, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import step, streams, task
from helmr.errors import UsageError
from helmr.experiments import Answer, Asked, Budget, Operator, Price, replay
from helmr.experiments.direction import Usage, said, usage_of
from helmr.experiments.replays import Replays
from helmr.experiments.what_if import references
from helmr.tasks import Task
from helmr.testing import Harness
from helmr.testing.recorded import PastAnswer

REQUEST = "desk__model.request"
PRICE = Price(input=10, output=50)
"""With the usage below, 0.015 for an answer."""


class Decision(BaseModel):
    pay: bool
    note: str = ""


approval = streams.input("approval", schema=Decision)
asked: list[str] = []
"""Prompts that the model got."""


def number_of(messages: list[ModelMessage]) -> int:
    return int(str(messages[0].parts[0].content).rsplit(" ", 1)[-1])  # type: ignore[union-attr]


def strict(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart("pay" if number_of(messages) % 2 else "refuse")])


def lenient(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    number = number_of(messages)
    asked.append(f"{info.instructions}: {number}")
    return ModelResponse(
        parts=[TextPart("pay" if number % 2 or number % 7 == 0 else "refuse")],
        usage=RequestUsage(input_tokens=1_000, output_tokens=100),
    )


def desk_of(
    model: Callable[..., ModelResponse], instructions: str, *, requests: int = 1
) -> Task[..., Any]:
    """The task with an agent of its own."""
    # Here, so that only these tests need it.
    from helmr.integrations.pydantic_ai import HelmrDurability

    agent = Agent(
        FunctionModel(model),
        name="desk",
        instructions=instructions,
        capabilities=[HelmrDurability()],
    )

    @task(id="desk", streams=[approval])
    async def desk(number: int) -> str:
        said = [(await agent.run(f"Refund {number}")).output for _ in range(requests)]
        answer = await approval.wait(
            timeout="1d",
            subject=f"Refund {number}?",
            body=said[-1],
            initial=Decision(pay=said[-1] == "pay"),
        )
        decided = "nobody" if answer.value is None else answer.value.pay
        return f"{said[-1]}, {decided}"

    return desk


def human(number: int) -> bool:
    """People pay what the strict agent would, but every tenth."""
    return bool(number % 2) and number % 10 != 1


async def recorded(desk: Task[..., Any], count: int, folder: Path) -> list[Path]:
    paths: list[Path] = []
    while len(paths) < count:  # ten by ten: a harness looks at all of its sessions at each step
        await _recorded(desk, paths, range(len(paths), min(len(paths) + 10, count)), folder)
    return paths


async def _recorded(desk: Task[..., Any], paths: list[Path], numbers: range, folder: Path) -> None:
    async with Harness(desk) as harness, harness.async_client() as client:
        for number in numbers:
            session = await harness.start(desk, number)
            await session.answer({"pay": human(number)}, on_behalf_of="ada")
            pieces = [piece async for piece in client.sessions.open(session.id).export()]
            paths.append(folder / f"{number:03}.jsonl")
            paths[-1].write_bytes(b"".join(pieces))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A hundred sessions with the strict agent."""
    folder = tmp_path_factory.mktemp("evals")
    return asyncio.run(recorded(desk_of(strict, "Be strict."), 100, folder))


@pytest.fixture(autouse=True)
def nothing_asked() -> Iterator[None]:
    asked.clear()
    yield
    asked.clear()


def run(sessions: list[Path], **options: Any) -> Replays:
    desk = desk_of(lenient, "Be lenient.", requests=options.pop("requests", 1))
    return replay(sessions, task=desk, shows_progress=False, **options)


@pytest.mark.long
def test_a_changed_prompt_on_a_hundred_sessions_tells_exactly_those_that_changed(
    cohort: list[Path],
) -> None:
    def stand_in(messages: list[ModelMessage], parameters: Any) -> ModelResponse:
        number = number_of(messages)
        return ModelResponse(parts=[TextPart("pay" if number % 7 == 0 or number % 2 else "refuse")])

    results = run(cohort, steps={REQUEST: stand_in})
    changed = {row["session"] for row in results.session_rows() if row["changed"]}
    assert changed == {n for n in range(100) if n % 7 == 0 and n % 2 == 0}
    # The agent asks another question now, which no one has answered.
    assert {row["result"] for row in results.session_rows() if row["changed"]} == {'"pay, nobody"'}
    assert all(row["changed"] is not None for row in results.session_rows())
    of_steps = {row["session"]: row for row in results.step_rows()}
    assert {n for n, row in of_steps.items() if row["changed"]} == changed
    assert (of_steps[14]["old_answer"], of_steps[14]["answer"]) == ('"refuse"', '"pay"')
    assert (of_steps[14]["source"], of_steps[14]["number"]) == ("stand-in", 1)
    assert asked == []


def test_what_was_not_asked_is_never_unchanged(cohort: list[Path]) -> None:
    results = run(cohort[:3])
    for row in results.session_rows():
        assert (row["result"], row["changed"], row["not_asked"]) == (row["old_result"], None, 1)
    assert [row["changed"] for row in results.step_rows()] == [None] * 3
    assert [row["source"] for row in results.step_rows()] == ["recorded"] * 3
    assert repr(results) == "<Replays 3 sessions, 0 changed, 3 with a model that was not asked>"
    assert asked == []


def test_the_bound_of_money_stops_it(cohort: list[Path]) -> None:
    results = run(cohort, steps={REQUEST: "execute"}, budget=Budget(money=0.15, price=PRICE))
    assert asked == [f"Be lenient.: {number}" for number in range(10)]
    rows = results.session_rows()
    assert [row["session"] for row in rows] == list(range(10))
    assert [(row["executed"], row["cost"]) for row in rows] == [(1, pytest.approx(0.015))] * 10
    assert [row["session"] for row in rows if row["changed"]] == [0]
    assert results.spent == pytest.approx(0.15)
    told = "stopped after 10 of 100 sessions: the budget of 0.15 is spent: 10 answers cost 0.15"
    assert results.stopped == told
    assert repr(results) == f"<Replays 10 sessions, 1 changed; {told}>"


def test_a_session_that_the_bound_cuts_short_is_left_out(cohort: list[Path]) -> None:
    budget = Budget(money=0.07, price=PRICE)
    results = run(cohort[:5], requests=2, steps={REQUEST: "execute"}, budget=budget)
    assert len(asked) == 5  # the fifth answer reaches the bound, within the third session
    assert [row["session"] for row in results.session_rows()] == [0, 1]
    assert {row["session"] for row in results.step_rows()} == {0, 1}
    assert results.spent == pytest.approx(0.075)
    assert results.stopped is not None
    assert results.stopped.startswith("stopped after 2 of 5 sessions: ")


def test_so_many_sessions_ask_and_no_more(cohort: list[Path]) -> None:
    results = run(cohort[:5], requests=2, steps={REQUEST: "execute"}, budget=Budget(sessions=2))
    assert [(row["executed"], row["cost"]) for row in results.session_rows()] == [(2, None)] * 2
    told = "stopped after 2 of 5 sessions: 2 sessions have asked, which is the budget"
    assert (results.stopped, len(asked)) == (told, 4)
    all_of_them = run(cohort[:2], steps={REQUEST: "execute"}, budget=Budget(sessions=2))
    assert (len(all_of_them), all_of_them.stopped) == (2, None)


def test_an_answer_without_tokens_ends_a_budget_of_money(cohort: list[Path]) -> None:
    @step(name=REQUEST)
    async def ask(number: int) -> dict[str, Any]:
        asked.append(str(number))
        return {"text": "pay", "usage": {"input_tokens": 0, "output_tokens": 0}}

    @task(id="desk", streams=[approval])
    async def silent(number: int) -> str:
        return str((await ask(number))["text"])

    options: dict[str, Any] = {"steps": {REQUEST: "execute"}, "shows_progress": False}
    budget = Budget(money=5, price=PRICE)
    results = replay(cohort[:3], task=silent, budget=budget, **options)
    assert (len(results), asked) == (1, ["0"])
    assert results.stopped == (
        f"stopped after 1 of 3 sessions: an answer of step {REQUEST} names no tokens, so no one"
        " knows its cost"
    )
    priced = Budget(money=5, price=lambda value: len(value["text"]))
    assert replay(cohort[:3], task=silent, budget=priced, **options).spent == 6


@pytest.mark.long
def test_a_model_that_takes_its_time_is_waited_for(
    cohort: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helmr.testing.harness.SETTLE_S", 0.05)

    def slow(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        time.sleep(0.3)
        return strict(messages, info)

    budget = Budget(sessions=1)
    desk = desk_of(slow, "Be slow.")
    results = replay(cohort[:1], task=desk, steps={REQUEST: "execute"}, budget=budget)
    [row] = results.session_rows()
    assert (row["changed"], row["executed"]) == (False, 1)


def test_what_people_decided_is_the_reference(cohort: list[Path]) -> None:
    def rule(asked: Asked) -> Any:
        return None if asked.payload == 4 else Answer({"pay": asked.payload < 10, "note": "rule"})

    def same(person: Any, proposed: Any) -> bool:
        return bool(person["pay"] == proposed["pay"])

    options: dict[str, Any] = {"operators": [Operator("rule", rule)], "agree": same}
    results = run(cohort[:20], steps={REQUEST: lambda: "refuse"}, answers="compare", **options)
    rows = results.question_rows()
    by_number = {row["session"]: row for row in rows}
    assert by_number[2] == {
        "session": 2,
        "session_id": by_number[2]["session_id"],
        "run": 1,
        "number": 1,
        "stream": "approval",
        "subject": "Refund 2?",
        "same_question": True,
        "old_answer": '{"pay":false}',
        "answer": '{"pay":false}',
        "by": "kept",
        "proposed": '{"note":"rule","pay":true}',
        "proposed_by": "rule",
        "agrees": False,
        "problem": None,
    }
    # Asked with another body now: the person's answer stays the reference, the rule's is taken.
    assert by_number[3]["same_question"] is False
    assert (by_number[3]["old_answer"], by_number[3]["by"]) == ('{"pay":true}', "rule")
    # The rule leaves this one to others, so the code's own proposal counts.
    assert (by_number[4]["proposed_by"], by_number[4]["agrees"]) == ("initial", True)
    agreed = sum(human(n) == (n < 10 and n != 4) for n in range(20))
    assert results.agreement_rows() == [
        {
            "stream": "approval",
            "questions": 20,
            "answered_then": 20,
            "compared": 20,
            "agreed": agreed,
            "share": agreed / 20,
        }
    ]
    assert results.questions()["agrees"].sum() == agreed
    assert results.agreement()["share"].to_list() == [agreed / 20]
    assert results.steps().height == 20


def test_the_model_s_own_proposal_is_compared_without_operators(cohort: list[Path]) -> None:
    budget = Budget(sessions=20)
    rows = run(cohort[:20], steps={REQUEST: "execute"}, budget=budget).question_rows()
    assert {row["proposed_by"] for row in rows} == {"initial"}
    paid = {n for n in range(20) if n % 2 or n % 7 == 0}
    notes_differ = [row["agrees"] for row in rows]  # the person's answer has no note
    assert notes_differ == [False] * 20
    same = run(
        cohort[:20],
        steps={REQUEST: "execute"},
        budget=budget,
        agree=lambda person, proposed: person["pay"] == proposed["pay"],
    )
    assert [row["agrees"] for row in same.question_rows()] == [
        human(n) == (n in paid) for n in range(20)
    ]


def held(key: str, stream: str, data: Any = 1, *, is_default: bool = False) -> PastAnswer:
    return PastAnswer(frozenset({key}), data, 0.0, stream, is_default)


def test_a_question_has_the_answer_to_the_same_words_or_the_next_of_its_stream() -> None:
    first, second, other = held("a", "s"), held("b", "s"), held("c", "t")
    keys = [frozenset({name}) for name in ("x", "b", "y", "z")]
    found = references(keys, ["s", "s", "s", "t"], [first, second, other])
    assert found == [(first, False), (second, True), (None, None), (other, False)]
    by_default = held("a", "s", is_default=True)
    assert references([frozenset("a")], ["s"], [by_default]) == [(None, None)]


@pytest.mark.parametrize(
    ("value", "usage", "text"),
    [
        (
            {
                "parts": [
                    {"part_kind": "thinking", "content": "hm"},
                    {"part_kind": "text", "content": "yes"},
                    {"part_kind": "tool-call", "tool_name": "pay", "args": '{"n":1}'},
                ],
                "usage": {"input_tokens": 10, "output_tokens": 2, "cache_read_tokens": 4},
            },
            Usage(10, 2, 4),
            ["yes", {"tool": "pay", "arguments": {"n": 1}}],
        ),
        (
            {
                "output": [
                    {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": "yes"}]}
                ],
                "usage": {"input_tokens": 7, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 3}},
            },
            Usage(7, 1, 3),
            "yes",
        ),
        (
            {
                "langchain_message": {
                    "type": "ai",
                    "data": {
                        "content": "yes",
                        "tool_calls": [],
                        "usage_metadata": {"input_tokens": 5, "output_tokens": 3},
                    },
                }
            },
            Usage(5, 3),
            "yes",
        ),
        ({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 5}}, Usage(4, 5), None),
        ({"helmr_context": {}, "value": {"kind": "tool_return", "result": 3}}, None, 3),
        ("yes", None, "yes"),
        ({"usage": {"input_tokens": 0}}, None, None),
        ([{"usage": {"input_tokens": 1}}, {"usage": {"output_tokens": 2}}], Usage(1, 2), None),
    ],
)  # fmt: skip
def test_answers_say_what_they_took_and_what_a_model_said(
    value: Any, usage: Any, text: Any
) -> None:
    assert usage_of(value) == usage
    assert said(value) == (value if text is None else text)


def test_tokens_from_a_cache_have_a_price_of_their_own() -> None:
    assert Price(input=3, output=15, cached=1).of(Usage(2_000_000, 100_000, 1_000_000)) == 5.5
    assert Price(input=3, output=15).of(Usage(2_000_000, 100_000, 1_000_000)) == 7.5


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Budget(), "has no bound"),
        (lambda: Budget(sessions=0), "not an int >= 1"),
        (lambda: Budget(money=-1, price=PRICE), "not a number > 0"),
        (lambda: Budget(money=1), "needs a price"),
        (lambda: Budget(money=1, price=3), "not a Price or a function"),  # type: ignore[arg-type]
        (lambda: Price(input=float("nan"), output=1), "price of input tokens"),
        (lambda: run([], steps={REQUEST: "execute"}), "to execute without a budget"),
        (lambda: run([], budget=Budget(sessions=1)), "no step executes"),
        (lambda: run([], steps={REQUEST: "ask"}), "not a function or 'execute'"),
    ],
)
def test_a_budget_that_can_not_be_is_refused(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make()
