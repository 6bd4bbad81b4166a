"""A rule held against a month of recorded waits through the client, and by the command over a real gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from helmr import escalation, rules, streams, task
from helmr.cli.main import invoke
from helmr.models import WaitInfo
from helmr.testing import Harness
from tests.service.stack import Stack


class Verdict(BaseModel):
    decision: Literal["approve", "reject"]
    note: str | None = None


refunds = streams.input("refund", schema=Verdict)


@task(id="refund")
async def refund(eur: int) -> str:
    asked = refunds.wait(
        subject=f"Refund {eur} EUR?",
        tags=["small" if eur < 50 else "large"],
        escalation=[escalation.default("3d", {"decision": "reject"})],
    )
    return (await asked.unwrap()).decision


def small(wait: WaitInfo) -> Any:
    """The rule that is tried, as a function."""
    return (
        Verdict(decision="approve").model_dump(exclude_none=True) if "small" in wait.tags else None
    )


async def test_a_month_with_planted_disagreements_gives_exactly_them() -> None:
    """Thirty days, a hundred and twenty waits; of the small ones seven are rejected."""
    random = Random(15)
    amounts = [random.randrange(1, 100) for _ in range(120)]
    small_ones = [n for n, eur in enumerate(amounts) if eur < 50]
    others = set(random.sample(small_ones, 12))
    programs = set(sorted(others)[:5])
    defaults = others - programs
    planted = set(random.sample([n for n in small_ones if n not in others], 7))
    ids: dict[int, str] = {}
    async with Harness(refund) as harness:
        began = harness.clock.now()
        people = [harness.async_client(on_behalf_of=name) for name in ("mia", "tom")]
        program = harness.async_client()
        for number, eur in enumerate(amounts):
            session = await harness.start(refund, eur)
            ids[number] = (await session.wait())["wait_id"]
            client = program if number in programs else people[number % 2]
            verdict = "approve" if eur < 50 and number not in planted else "reject"
            if number not in defaults:
                await client.waits.answer(ids[number], {"decision": verdict})
            await harness.advance(30 * 86_400 / len(amounts))
        await harness.advance("3d")
        held = rules.rule("stream:refund tag:small", {"decision": "approve"})
        tried: list[rules.BackTest] = []
        for rule, parts in (
            (held, {}),
            (small, {}),
            (held, {"programs": True}),
            (held, {"since": began.replace(year=began.year + 1)}),
            (held, {"filter": "tag:large"}),
        ):
            given: dict[str, Any] = {"since": began, **parts}
            with harness.client() as reader:
                tried.append(await asyncio.to_thread(rules.back_test, reader, rule, **given))
    whole, by_function, with_programs, later, large = tried
    found = {one.wait_id: one for one in whole.differences}
    assert found.keys() == {ids[n] for n in planted}
    assert {one.said["decision"] for one in found.values()} == {"reject"}
    assert {one.rule_says["decision"] for one in found.values()} == {"approve"}
    looked_at = len(amounts) - len(others)
    assert whole.same == len(small_ones) - len(others) - len(planted)
    assert whole.left_alone == looked_at - whole.answered
    assert whole.not_by_people == len(others)
    assert not whole.failures
    assert not whole.unreadable
    assert by_function.differences == whole.differences
    assert with_programs.same == whole.same + len(programs)
    assert with_programs.not_by_people == len(defaults)
    assert (later.answered, later.left_alone, later.agreement) == (0, 0, None)
    assert large.answered == 0
    assert large.left_alone == len(amounts) - len(small_ones)


async def test_the_command_tells_where_people_said_otherwise_and_answers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "def publish(wait):\n    print('seen')\n    return {'decision': 'approve', 'note': None}\n"
    )
    stack = Stack(tmp_path)
    try:
        await stack.start()
        monkeypatch.setenv("HELMR_URL", stack.url)
        monkeypatch.setenv("HELMR_API_KEY", stack.key)
        waits = [(await stack.started())["session"]["wait"]["id"] for _ in range(3)]
        async with stack.client(**{"On-Behalf-Of": "mia"}) as mia:
            for wait_id, answer in zip(
                waits,
                ({"decision": "approve", "note": "fine"}, {"decision": "reject"}),
                strict=False,
            ):
                done = await mia.post(f"/v1/waits/{wait_id}/answer", json={"data": answer})
                assert done.status_code == 200, done.text

        async def said(*words: str) -> tuple[int, str, str]:
            code = await asyncio.to_thread(invoke, ["rule", "test", *words])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        code, out, err = await said("own.py:publish", "--compare", "decision", "--json")
        assert code == 0, err
        found = json.loads(out)
        assert (found["same"], found["answered"], found["agreement"]) == (1, 2, 0.5)
        assert [one["wait_id"] for one in found["differences"]] == [waits[1]]
        assert err.count("seen") == 2
        text = '{"filter": "stream:approval", "answer": {"decision": "approve"}}'
        code, out, err = await said(text, "--since", "1h")
        assert code == 0, err
        assert "0 of 2 answers as people gave them (0.0 %)" in out
        assert waits[0] in out
        assert waits[1] in out
        code, out, err = await said("own.py:gone")
        assert (code, out) == (2, "")
        assert "own.py has no function gone" in err
        assert (await stack.http.get(f"/v1/waits/{waits[2]}")).json()["status"] == "pending"
    finally:
        await stack.stop()
