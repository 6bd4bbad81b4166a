"""`helmr wait answer --all`: each wait is shown, the list stands still, what changed is left out, scripts are told."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from helmr.cli.main import invoke
from helmr.person.review.personal import Snoozes
from tests.cli import next_tasks, test_next
from tests.cli.test_next import Person, output
from tests.service.stack import Stack

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

ROOT = str(Path(__file__).resolve().parents[2])
APPROVE = '{"decision": "approve"}'
ALL = ("wait", "answer", "--all", "--data", APPROVE)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with tasks that ask."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=next_tasks.REGISTRY)
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


@pytest.fixture
async def person(stack: Stack, tmp_path: Path) -> AsyncIterator[Person]:
    found = Person(stack, tmp_path)
    yield found
    await found.terminal.close()


@dataclass
class Ran:
    """A command of a script."""

    code: int | None
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Script:
    """A program that runs commands: no terminal anywhere."""

    stack: Stack
    folder: Path

    async def runs(self, *words: str, given: str = "") -> Ran:
        """Run a command to its end, in a thread of this process: one of its own would take half a second of CPU."""
        return await asyncio.to_thread(self._run, words, given)

    def _run(self, words: tuple[str, ...], given: str) -> Ran:
        out, err, stdin = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(given.encode()))
        with (
            mock.patch.dict("os.environ", self._places),
            mock.patch.object(sys, "stdin", stdin),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = invoke(self._command(words))
        return Ran(code, out.getvalue(), err.getvalue())

    async def is_interrupted(self, *words: str, at: str) -> Ran:
        """Run a command in a process of its own, and interrupt it when it has said this."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "helmr.cli", *self._command(words),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | self._places | {"PYTHONPATH": ROOT},
        )  # fmt: skip
        assert process.stderr is not None
        err = b""
        while at not in err.decode():
            line = await asyncio.wait_for(process.stderr.readline(), 20)
            assert line, err
            err += line
        process.send_signal(signal.SIGINT)
        out, rest = await asyncio.wait_for(process.communicate(), 60)
        return Ran(process.returncode, out.decode(), (err + rest).decode())

    async def is_killed(self, *words: str, after: int) -> Ran:
        """Run a command in a process of its own, and kill it when it has said so many lines on stdout."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "helmr.cli", *self._command(words),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | self._places | {"PYTHONPATH": ROOT},
        )  # fmt: skip
        assert process.stdout is not None
        out = b""
        for _ in range(after):
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            assert line, out
            out += line
        process.kill()
        rest, err = await asyncio.wait_for(process.communicate(), 60)
        return Ran(process.returncode, (out + rest).decode(), err.decode())

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [*words, "--url", self.stack.url, "--on-behalf-of", "ana"]

    @property
    def _places(self) -> dict[str, str]:
        return {
            "HELMR_API_KEY": self.stack.key,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
        }


@pytest.fixture
def script(stack: Stack, tmp_path: Path) -> Script:
    return Script(stack, tmp_path)


async def asks(stack: Stack, task: str, **payload: Any) -> dict[str, Any]:
    """A session that waits: the receipt of its start, with its wait."""
    receipt = await test_next.asks(stack, task, **payload)
    return {**receipt, "wait": await test_next.wait_of(stack, receipt)}


async def publishes(stack: Stack, count: int) -> list[dict[str, Any]]:
    """Waits for a decision, alike but for a number."""
    return [
        await asks(stack, "publish", subject=f"Publish {n}?", body=f"Text {n}\nis usual")
        for n in range(count)
    ]


async def now(stack: Stack, receipt: dict[str, Any]) -> dict[str, Any]:
    """Its wait, over or not."""
    found: dict[str, Any] = (await stack.http.get(f"/v1/waits/{receipt['wait']['id']}")).json()
    return found


async def statuses(stack: Stack, receipts: list[dict[str, Any]]) -> list[str]:
    return [(await now(stack, one))["status"] for one in receipts]


async def test_a_preview_shows_every_text_whole_the_odd_one_first_and_sends_nothing(
    stack: Stack, script: Script
) -> None:
    receipts = await publishes(stack, 3)
    odd = "\n".join(f"line {n}" for n in range(40)) + "\n\x1b[31mred\x1b[0m"
    receipts.append(await asks(stack, "publish", subject="Publish odd?", body=odd))
    ran = await script.runs(*ALL, "--filter", "stream:approval", "--preview")
    assert ran.code == 0, ran.err
    heads = [line.split("  ")[1] for line in ran.out.splitlines() if " of 4  " in line]
    assert heads[0] == "Publish odd?"
    assert sorted(heads[1:]) == ["Publish 0?", "Publish 1?", "Publish 2?"]
    assert "unlike the others: " in ran.out
    assert "line 39" in ran.out, "nothing of a text is kept back"
    assert "\x1b" not in ran.out
    assert ran.out.splitlines()[-1] == f"answer to each: {APPROVE}"
    lines = (await script.runs(*ALL, "--preview", "--json")).lines
    assert {one["wait_id"] for one in lines} == {one["wait"]["id"] for one in receipts}
    assert {one["progress"] for one in lines} == {"planned"}
    assert lines[0]["body"] == odd
    assert await statuses(stack, receipts) == ["pending"] * 4


async def test_a_script_answers_all_and_gets_a_line_for_each(stack: Stack, script: Script) -> None:
    receipts = await publishes(stack, 3)
    other = await asks(stack, "talk", subject="Word?")
    ran = await script.runs(*ALL, "--filter", "stream:approval", "--yes", "--json", "--batch", "b1")
    assert ran.code == 0, ran.err
    assert [(one["progress"], one["batch_id"]) for one in ran.lines] == [("accepted", "b1")] * 3
    assert {one["receipt"]["outcome"] for one in ran.lines} == {"fulfilled"}
    assert ran.err.splitlines() == ["batch b1", "3 of 3 done, 3 accepted; batch b1"]
    for one in receipts:
        assert await output(stack, one) == "approve None"
        assert (await now(stack, one))["batch_id"] == "b1"
    assert await statuses(stack, [other]) == ["pending"]
    again = await script.runs(*ALL, "--filter", "stream:approval", "--yes", "--json")
    assert (again.code, again.out, again.err) == (0, "", "no wait to answer\n")


async def test_several_kinds_are_refused_unless_one_wait_says_which_is_meant(
    stack: Stack, script: Script
) -> None:
    receipts = await publishes(stack, 2)
    other = await asks(stack, "talk", subject="Word?")
    refused = await script.runs(*ALL, "--yes")
    assert refused.code == 2
    assert "one answer can't be for all of them" in refused.err
    assert await statuses(stack, [*receipts, other]) == ["pending"] * 3
    lead = receipts[1]["wait"]["id"]
    ran = await script.runs("wait", "answer", lead, *ALL[2:], "--yes", "--json")
    assert ran.code == 0, ran.err
    assert await statuses(stack, receipts) == ["fulfilled"] * 2
    assert await statuses(stack, [other]) == ["pending"]
    gone = await script.runs("wait", "answer", lead, *ALL[2:], "--yes")
    assert gone.code == 2
    assert "is none of the 1 that are meant" in gone.err


async def test_what_changed_while_somebody_read_is_left_out_and_what_came_is_not_in(
    stack: Stack, person: Person
) -> None:
    receipts = await publishes(stack, 4)
    waits = [one["wait"] for one in receipts]
    await person.begins(
        *ALL[2:], "--filter", "stream:approval is:unassigned", "--undo-for", "0s",
        command=("wait", "answer"),
    )  # fmt: skip
    await person.reads("Type 4 to send 4 answers; anything else sends none.")
    async with stack.client(**{"On-Behalf-Of": "bea"}) as bea:
        url = f"/v1/waits/{waits[0]['id']}"
        assert (
            await bea.post(f"{url}/answer", json={"data": {"decision": "reject"}})
        ).status_code == 200
        url = f"/v1/waits/{waits[1]['id']}"
        assert (await bea.post(f"{url}/assign", json={"assignee": "lea"})).status_code == 200
        url = f"/v1/waits/{waits[2]['id']}"
        assert (await bea.post(f"{url}/claim", json={})).status_code == 200
    late = await asks(stack, "publish", subject="Publish late?")
    await person.types("4")
    said = await person.reads("4 of 4 done, 1 accepted, 3 skipped")
    assert "skipped: Publish 0? · fulfilled meanwhile by " in said
    assert "bea" in said
    assert "skipped: Publish 1? · given to lea meanwhile" in said
    assert "skipped: Publish 2? · " in said
    assert "accepted: Publish 3? · record 1 on approval, fulfilled" in said
    assert await person.terminal.ended() == 5
    assert await output(stack, receipts[0]) == "reject None"
    assert await statuses(stack, [*receipts[1:], late]) == [
        "pending",
        "pending",
        "fulfilled",
        "pending",
    ]


async def test_another_number_sends_nothing(stack: Stack, person: Person) -> None:
    receipts = await publishes(stack, 2)
    await person.begins(*ALL[2:], command=("wait", "answer"))
    await person.reads("Type 2 to send")
    await person.types("20")
    await person.reads("nothing was sent")
    assert await person.terminal.ended() == 0
    assert await statuses(stack, receipts) == ["pending"] * 2


@pytest.mark.long
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
async def test_what_is_held_is_taken_back_as_one(
    stack: Stack, person: Person, number: signal.Signals
) -> None:
    receipts = await publishes(stack, 2)
    await person.begins(*ALL[2:], command=("wait", "answer"))
    await person.reads("Type 2 to send")
    await person.types("2")
    await person.reads("sends in 5 s; Ctrl-C takes all of it back")
    person.terminal.process.send_signal(number)
    if number == signal.SIGINT:
        await person.reads("taken back, nothing was sent")
    assert await person.terminal.ended() == (130 if number == signal.SIGINT else -9)
    assert await statuses(stack, receipts) == ["pending"] * 2


async def test_data_that_fits_none_is_refused_once(stack: Stack, script: Script) -> None:
    receipts = await publishes(stack, 3)
    bad = ("wait", "answer", "--all", "--data", '{"decision": "maybe"}', "--yes", "--json")
    ran = await script.runs(*bad, "--batch", "b")
    assert ran.code == 2
    assert [one["error"] for one in ran.lines] == ["schema_mismatch"]
    assert "1 of 3 done, 1 not sent, 2 stopped" in ran.err
    assert "--batch b goes on" in ran.err
    assert await statuses(stack, receipts) == ["pending"] * 3


async def test_only_what_a_preview_has_shown(stack: Stack, script: Script) -> None:
    receipts = await publishes(stack, 2)
    shown = await script.runs(*ALL, "--preview", "--json")
    late = await asks(stack, "publish", subject="Publish late?")
    ran = await script.runs(*ALL, "--seen", "-", "--yes", "--json", given=shown.out)
    assert ran.code == 0, ran.err
    assert len(ran.lines) == 2
    assert await statuses(stack, [*receipts, late]) == ["fulfilled", "fulfilled", "pending"]
    bad = await script.runs(*ALL, "--seen", "-", "--yes", given='{"id": 1}\n')
    assert bad.code == 2
    assert "--seen: line 1 names no wait" in bad.err


@pytest.mark.long  # tests/review/test_pending.py
async def test_an_interrupted_hold_of_a_script_sends_nothing(stack: Stack, script: Script) -> None:
    receipts = await publishes(stack, 1)
    ran = await script.is_interrupted(*ALL, "--yes", "--undo-for", "60s", at="sends in 60 s")
    assert ran.code == 130
    assert "taken back, nothing was sent" in ran.err
    assert await statuses(stack, receipts) == ["pending"]


async def test_what_is_put_off_is_not_in_it_unless_it_is_asked_for(
    stack: Stack, script: Script
) -> None:
    receipts = await publishes(stack, 2)
    folder = script.folder / "state" / "helmr" / "console" / "people" / "ana" / "snoozed"
    snooze = receipts[0]["wait"]["id"]
    Snoozes(folder).snooze(snooze, datetime.now(UTC) + timedelta(days=1))
    assert len((await script.runs(*ALL, "--preview", "--json")).lines) == 1
    asked = (*ALL, "--filter", "is:snoozed", "--preview", "--json")
    assert [one["wait_id"] for one in (await script.runs(*asked)).lines] == [snooze]


MEANINGLESS: dict[tuple[str, ...], str] = {
    ALL: "no one can be asked whether to send them",
    ("wait", "answer", "--all"): "--all needs the answer",
    ("wait", "answer", "last", "--data", "1", "--yes"): "--yes goes with --all, --jsonl or --csv",
    ("wait", "answer", "last", "--data", "1", "--filter", "x"): "--filter goes with --all",
    (*ALL, "--filter", "sream:x", "--yes"): "sream",
    ("wait", "answer", "--all", "--data", "-", "--seen", "-"): "can't both be standard input",
}
"""What can't be meant, and what is said of it."""


async def test_what_can_not_be_meant_is_refused_and_says_what_to_do(
    stack: Stack, script: Script
) -> None:
    receipts = await publishes(stack, 1)
    for words, said in MEANINGLESS.items():
        ran = await script.runs(*words)
        assert ran.code == 2, words
        assert said in ran.err
        assert "hint: " in ran.err
    assert await statuses(stack, receipts) == ["pending"]
