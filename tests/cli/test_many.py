"""Many runs, sessions or amendments: shown, confirmed, held, done one by one, each told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr_runtime.catalog import Registry
from tests.cli import option_tasks
from tests.cli.test_answer_all import Script, asks
from tests.cli.test_next import Person, person
from tests.console.flow.terminal import Terminal
from tests.service.stack import Stack, until

__all__ = ["person"]

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

REGISTRY = Registry(
    [option_tasks.ask, option_tasks.fail], modules=["tests.cli.option_tasks"], code_hash="many-1"
)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A runtime with tasks that ask and that fail."""
    (tmp_path / "data").mkdir()
    found = Stack(tmp_path / "data", registry=REGISTRY)
    try:
        await found.start(sessions_per_host=8)
        yield found
    finally:
        await found.stop()


@pytest.fixture
def script(stack: Stack, tmp_path: Path) -> Script:
    return Script(stack, tmp_path)


async def failed(stack: Stack, why: str, **about: Any) -> dict[str, Any]:
    """A session whose run failed."""
    receipt = await stack.started("fail", why, **about)
    await stack.run_until(receipt["run"]["id"], "failed")
    return receipt


async def deployed_badly(stack: Stack, count: int, **about: Any) -> list[dict[str, Any]]:
    """So many sessions whose runs fail of one error or another, begun together."""
    found = [await stack.started("fail", f"bad deploy {n % 2}", **about) for n in range(count)]
    for one in found:
        await stack.run_until(one["run"]["id"], "failed")
    return found


async def attempts(stack: Stack, receipts: list[dict[str, Any]]) -> list[int]:
    runs = [(await stack.http.get(f"/v1/runs/{one['run']['id']}")).json() for one in receipts]
    return [one["attempt"] for one in runs]


async def result(stack: Stack, receipt: dict[str, Any]) -> Any:
    await stack.run_until(receipt["run"]["id"], "succeeded")
    return (await stack.http.get(f"/v1/runs/{receipt['run']['id']}")).json()["result"]


RETRY = ("run", "retry", "--all", "--filter", "is:failed tag:pay")


async def test_failed_runs_are_previewed_and_retried_and_each_is_told(
    stack: Stack, script: Script
) -> None:
    meant = [await failed(stack, f"no money {n}", tags=["pay"]) for n in range(2)]
    other = await failed(stack, "else")
    ids = {one["run"]["id"] for one in meant}
    ran = await script.runs(*RETRY, "--preview", "--json")
    assert {(one["run_id"], one["progress"]) for one in ran.lines} == {
        (id, "planned") for id in ids
    }
    assert "ValueError: no money" in ran.lines[0]["why"]
    assert "ValueError: no money 1" in (await script.runs(*RETRY, "--preview")).out
    ran = await script.runs(*RETRY)
    assert (ran.code, "no one can be asked whether to retry them" in ran.err) == (2, True)
    assert await attempts(stack, [*meant, other]) == [1, 1, 1]
    ran = await script.runs(*RETRY, "--yes", "--json")
    assert ran.code == 0, ran.err
    assert {(one["run_id"], one["progress"], one["detail"]) for one in ran.lines} == {
        (id, "accepted", "attempt 2") for id in ids
    }
    [batch] = {one["batch_id"] for one in ran.lines}
    assert ran.err == f"batch {batch}\n2 of 2 done; batch {batch}\n"
    for one in meant:
        await stack.run_until(one["run"]["id"], "failed")
    assert await attempts(stack, [*meant, other]) == [2, 2, 1]
    ran = await script.runs("run", "retry", "--all", "--filter", "task:ask", "--yes")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing to retry\n")


async def test_their_number_is_typed_on_a_terminal(stack: Stack, person: Person) -> None:
    receipts = [await failed(stack, "x") for _ in range(2)]
    await person.begins(command=("run", "retry", "--all", "--undo-for", "1s"))
    await person.reads("Type 2 to retry as many; anything else does nothing.")
    await person.types("2")
    await person.reads("begins in 1 s; Ctrl-C takes all of it back")
    await person.reads("2 of 2 done")
    assert await attempts(stack, receipts) == [2, 2]


async def test_what_is_held_is_taken_back(stack: Stack, person: Person) -> None:
    receipts = [await failed(stack, "x") for _ in range(2)]
    await person.begins(command=("run", "retry", "--all", "--undo-for", "60s"))
    await person.reads("Type 2 to retry as many")
    await person.types("2")
    await person.reads("Ctrl-C takes all of it back")
    await person.types("\x03")
    await person.reads("taken back, nothing was done")
    assert await attempts(stack, receipts) == [1, 1]


async def test_sessions_are_closed_as_they_were_seen(stack: Stack, script: Script) -> None:
    idle = [await failed(stack, "x") for _ in range(2)]
    asks_ = await asks(stack, "ask", subject="Publish?")
    close = ("session", "close", "--all", "--batch", "old")
    shown = await script.runs(*close, "--filter", "quiet<1h", "--end-input", "--preview", "--json")
    ids = {one["session"]["id"] for one in (*idle, asks_)}
    assert {one["session_id"] for one in shown.lines} == ids
    await stack.http.post(f"/v1/runs/{idle[0]['run']['id']}/retry")
    await stack.run_until(idle[0]["run"]["id"], "failed")
    ran = await script.runs(*close, "--yes", "--json")
    found = {one["session_id"]: one["progress"] for one in ran.lines}
    assert "1 skipped: 1 session_changed\n2 of 3 done; batch old\n" in ran.err
    assert [found.pop(one["session"]["id"]) for one in idle] == ["skipped", "accepted"]
    assert (set(found.values()), ran.code) == ({"accepted"}, 5)
    assert [one["progress"] for one in (await script.runs(*close, "--yes", "--json")).lines] == [
        one["progress"] for one in ran.lines
    ]


async def test_nothing_young_is_pruned(stack: Stack, script: Script) -> None:
    session_id = (await failed(stack, "x"))["session"]["id"]
    await stack.http.post(f"/v1/sessions/{session_id}/close")
    ran = await script.runs("prune", "--filter", "status:closed", "--preview")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing to prune\n")


async def retries(stack: Stack, receipt: dict[str, Any]) -> int:
    """How often its run was retried."""
    url = f"/v1/sessions/{receipt['session']['id']}/transcript"
    entries = (await stack.http.get(url)).json()["items"]
    return sum(one["kind"] == "run.retried" for one in entries)


@pytest.mark.long  # tests/review/test_bulk.py
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.long)])
async def test_of_a_batch_that_was_killed_the_rest_is_done_and_no_run_twice(
    stack: Stack, script: Script, count: int
) -> None:
    deployed = await deployed_badly(stack, count, tags=["pay"])
    batch = ("run", "retry", "--all", "--batch", "monday")
    shown = await script.runs(*batch, "--filter", "is:failed tag:pay quiet<1h", "--preview")
    assert f"{count // 2:5}  fail  ValueError: bad deploy 1" in shown.out
    late = await failed(stack, "bad deploy 1", tags=["pay"])
    other = deployed[-1]
    await stack.http.post(f"/v1/runs/{other['run']['id']}/retry")
    await stack.run_until(other["run"]["id"], "failed")
    killed = await script.is_killed(*batch, "--yes", after=count // 3)
    assert killed.code == -9
    ran = await script.runs(*batch, "--yes", "--json")
    found = {one["run_id"]: one for one in ran.lines}
    assert len(found) == count
    assert found.pop(other["run"]["id"])["error"] == "session_changed"
    assert {one["progress"] for one in found.values()} == {"accepted"}
    assert ran.err.splitlines()[-1] == f"{count - 1} of {count} done; batch monday"
    assert ran.code == 5
    assert [await retries(stack, one) for one in deployed] == [1] * count
    assert await retries(stack, late) == 0, "it was not there when the batch was looked at"
    again = await script.runs(*batch, "--yes", "--json")
    assert [one["progress"] for one in again.lines] == [one["progress"] for one in ran.lines]
    assert [await retries(stack, one) for one in deployed] == [1] * count


async def does_it(terminal: Terminal) -> bool:
    """Press ^s, which counts once the page could be read; whether it has counted."""
    await terminal.press("\x13")
    await asyncio.sleep(0.5)
    return re.search(r"sends in \d+ s|retried \d+ of", terminal.text()) is not None


def kept(folder: Path) -> str:
    """The one batch of a person whose files are there."""
    [path] = folder.rglob("batches/*.json")
    found: str = json.loads(path.read_text())["id"]
    return found


@pytest.mark.long  # the test above; tests/console/flow/test_failed.py
@pytest.mark.timeout(300)
async def test_of_a_batch_that_six_keys_began_the_rest_is_done_after_the_console_was_killed(
    stack: Stack, script: Script, tmp_path: Path
) -> None:
    deployed = await deployed_badly(stack, 300)
    terminal = Terminal(120, 36)
    try:
        await terminal.start(
            stack.url, stack.key, tmp_path, "--on-behalf-of", "ana", "--undo-for", "1s"
        )
        await terminal.sees("300 failed")
        await terminal.press("!")
        await terminal.sees("ValueError: bad deploy 1")
        await terminal.press("*")
        await terminal.sees("300 marked")
        await terminal.press("R")
        await terminal.sees("Retry 300 sessions")
        await terminal.shows(r" 150  fail  ValueError: bad deploy 1")
        await terminal.press("300")
        await terminal.sees("300")
        await until(partial(does_it, terminal))
        await terminal.shows(r"retried \d+ of 300")
        terminal.process.kill()
        assert await terminal.ended() == -9
    finally:
        await terminal.close()
    begun = sum([await retries(stack, one) for one in deployed])
    assert 0 < begun < 300
    batch = kept(tmp_path)
    ran = await script.runs("run", "retry", "--all", "--batch", batch, "--yes", "--json")
    assert ran.err.splitlines()[-1] == f"300 of 300 done; batch {batch}"
    assert [await retries(stack, one) for one in deployed] == [1] * 300


async def test_many_are_cancelled_as_they_were_seen(stack: Stack, script: Script) -> None:
    receipts = [await asks(stack, "ask", subject=f"Publish {n}?") for n in range(3)]
    cancel = ("run", "cancel", "--all")
    none = await script.runs(*cancel, "--yes")
    assert (none.code, "nothing says which runs to cancel" in none.err) == (2, True)
    shown = await script.runs(
        *cancel, "--filter", "task:ask", "--batch", "b", "--preview", "--json"
    )
    assert {one["status"] for one in shown.lines} == {"waiting"}
    ended = receipts[0]["wait"]["id"]
    await stack.http.post(f"/v1/waits/{ended}/answer", json={"data": {"decision": "approve"}})
    await stack.run_until(receipts[0]["run"]["id"], "succeeded")
    ran = await script.runs(*cancel, "--batch", "b", "--yes", "--json")
    found = {one["run_id"]: one["progress"] for one in ran.lines}
    assert [found[one["run"]["id"]] for one in receipts] == ["skipped", "accepted", "accepted"]
    other = await script.runs("run", "retry", "--all", "--batch", "b", "--yes")
    assert (other.code, "are to cancel, not to retry" in other.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "cancel"), "name one run, or say --all"),
        (("run", "retry", "--all", "--batch", "none"), "nothing says which runs to retry"),
        (("run", "retry", "--all", "--batch", "../x", "--filter", "is:failed"), "no name of a batch"),
        (("run", "retry"), "name one run, or say --all"),
        (("run", "retry", "last", "--all"), "name one run, or say --all"),
        (("run", "retry", "last", "--yes"), "go with --all"),
        (("run", "retry", "last", "--undo-for", "1s"), "go with --all"),
        (("session", "close"), "name one session, or say --all"),
        (("session", "close", "--all"), "nothing says which runs to close"),
        (("prune",), "nothing says what to prune"),
        (("prune", "--older-than", "2d", "--preview"), "go with --filter"),
        (("prune", "--filter", "status:closed", "--older-than", "2d"), "do not go with --filter"),
        (("run", "retry", "--all", "--filter", "status:failed"), "'failed' is not a value of 'status'"),
        (("wait", "amend", "last", "--all", "--batch", "b", "decision=reject"), "name one wait, or a batch"),
        (("wait", "amend", "--all", "decision=reject"), "name one wait, or a batch"),
        (("wait", "amend", "--all", "--batch", "b"), "needs the new answer"),
        (("wait", "amend", "--all", "--batch", "b", "decision=reject"), "needs a reason"),
    ],
)  # fmt: skip
async def test_what_can_not_be_meant_is_refused(
    stack: Stack, script: Script, words: tuple[str, ...], said: str
) -> None:
    ran = await script.runs(*words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "hint: " in ran.err


async def test_a_batch_that_was_wrong_is_amended_as_one(stack: Stack, script: Script) -> None:
    receipts = [await asks(stack, "ask", subject=f"Publish {n}?") for n in range(3)]
    for one in receipts[:2]:
        ran = await script.runs(
            "wait", "answer", one["wait"]["id"], "decision=approve", "--batch", "monday"
        )
        assert ran.code == 0, ran.err
    await script.runs("wait", "answer", receipts[2]["wait"]["id"], "decision=approve")
    amend = ("wait", "amend", "--all", "--batch", "monday", "decision=reject")
    ran = await script.runs(*amend, "--preview", "--json")
    assert ran.code == 0, ran.err
    assert {one["wait_id"] for one in ran.lines} == {one["wait"]["id"] for one in receipts[:2]}
    [line, _] = ran.lines
    assert (line["answered_with"]["decision"], line["answer"]["decision"]) == ("approve", "reject")
    assert line["preview"]["to_op"] > 0
    table = (await script.runs(*amend, "--preview")).out
    assert "Publish 1?" in table
    assert 'new answer: {"decision": "reject"}' in table
    ran = await script.runs(*amend, "--reason", "wrong column", "--yes", "--json")
    assert ran.code == 0, ran.err
    assert [one["progress"] for one in ran.lines] == ["accepted"] * 2
    results = [await result(stack, one) for one in receipts]
    assert results == ["reject", "reject", "approve"]
    again = await script.runs(*amend, "--reason", "wrong column", "--yes", "--json")
    assert {one["progress"] for one in again.lines} == {"skipped"}, (
        "a question asked again is another wait"
    )
