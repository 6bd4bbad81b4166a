"""A headless run as a session: it asks by children, resumes what it had begun, and is one client at a time."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import UsageError
from helmr.gate.runs import (
    GO_ON,
    RUN_VARIABLE,
    GateRun,
    gate_run,
    read_command,
    run_client,
)
from helmr.gate.tasks import gate_call
from helmr.testing import Harness

RUN = GateRun("go", "/", "http://127.0.0.1:9", "/nowhere", ["--model", "opus"])
CALL = {"tool": "Bash", "input": {"command": "touch one"}, "call_id": "toolu_1"}
DEFERS = {"call": CALL, "result": "", "cost_usd": 0.25, "turns": 1}
ENDS = {"call": None, "result": "done", "cost_usd": 0.5, "turns": 2}

CLAUDE = """#!/bin/sh
printf '%s\\n' "$@" > words
printf '%s' "$HELMR_GATE_RUN" > run
cat "$(dirname "$0")/says"
"""


async def test_a_run_asks_by_a_child_for_each_call_and_is_resumed() -> None:
    said: list[dict[str, Any]] = [DEFERS, {**DEFERS, "call": {**CALL, "call_id": "toolu_2"}}, ENDS]
    async with Harness(gate_run, gate_call) as harness:

        def run(*given: Any) -> dict[str, Any]:
            return said.pop(0)

        harness.replace(run_client, run)
        parent = await harness.start(gate_run, RUN)
        for number in (1, 2):
            child = (await parent.children())[-1]
            wait = await child.wait()
            assert (wait["subject"], wait["correlation_id"]) == ("Run touch one", f"toolu_{number}")
            await child.answer({"decision": "approve"})
        result = await parent.result()
    assert (result["result"], result["asked"], result["turns"]) == ("done", 2, 4)
    assert result["cost_usd"] == 1.0


async def test_a_call_that_a_rule_has_others_answer_is_theirs_in_a_run_too() -> None:
    said: list[dict[str, Any]] = [DEFERS, {**DEFERS, "call": {**CALL, "call_id": "toolu_2"}}, ENDS]
    async with Harness(gate_run, gate_call) as harness:

        def run(*given: Any) -> dict[str, Any]:
            return said.pop(0)

        harness.replace(run_client, run)
        parent = await harness.start(gate_run, RUN)
        restriction = {"answerers": ["group:ops"], "approvals": 2}
        await parent.send("restricted", {"call_id": "toolu_2", "restriction": restriction})
        [child] = await parent.children()
        await child.answer({"decision": "approve"})
        wait = await (await parent.children())[-1].wait()
        assert (wait["answerers"], wait["approvals"]) == (["group:ops"], 2)
        assert wait["refusals"] == [{"decision": "decline"}]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down how it was called; the folder where it works."""
    claude = tmp_path / "bin" / "claude"
    claude.parent.mkdir()
    claude.write_text(CLAUDE)
    claude.chmod(0o755)
    (claude.parent / "says").write_text(json.dumps({"result": "done", "total_cost_usd": 0.5}))
    monkeypatch.setenv("PATH", f"{claude.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


async def started(folder: Path, resumed: int = 0) -> list[str]:
    """Run the client as a step does; its words."""
    run = GateRun("go", str(folder), RUN.url, RUN.key_file, RUN.options)
    said = await run_client.function(run, "name", "ses_1", resumed)
    assert said == {"call": None, "result": "done", "cost_usd": 0.5, "turns": 0}
    return (folder / "words").read_text().splitlines()


async def test_what_a_crash_has_cut_off_is_resumed(program: Path) -> None:
    first = await started(program)
    assert first[:4] == ["-p", "go", "--session-id", "name"]
    assert first[-2:] == ["--model", "opus"]
    assert (program / "run").read_text() == "ses_1"
    hooks = json.loads(first[first.index("--settings") + 1])["hooks"]
    assert "--url http://127.0.0.1:9" in hooks["PreToolUse"][0]["hooks"][0]["command"]
    again = await started(program)
    assert again[:4] == ["-p", GO_ON, "--resume", "name"]
    resumed = await started(program, 1)
    assert resumed[:3] == ["-p", "--resume", "name"]
    assert (await started(program, 1))[:4] == ["-p", GO_ON, "--resume", "name"]


async def test_two_clients_of_a_session_never_run_at_a_time(program: Path) -> None:
    await started(program)
    (program / "words").unlink()
    lock = os.open(program / "state" / "helmr" / "gate" / "name.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    second = asyncio.ensure_future(started(program))
    done, _ = await asyncio.wait([second], timeout=0.3)
    assert not done
    assert not (program / "words").exists()
    os.close(lock)
    assert (await second)[1] == GO_ON


@pytest.mark.parametrize("says", ["no JSON", '{"is_error": true, "result": "no credit"}', ""])
async def test_a_client_that_fails_says_why(program: Path, says: str) -> None:
    (program / "bin" / "says").write_text(says)
    with pytest.raises(RuntimeError, match=f"claude ended with 0: {says[:7]}"):
        await started(program)


def test_the_deferred_call_is_read(program: Path) -> None:
    deferred: dict[str, Any] = {
        "stop_reason": "tool_deferred",
        "deferred_tool_use": {"id": "toolu_1", "name": "Bash", "input": CALL["input"]},
    }
    (program / "bin" / "says").write_text(json.dumps(deferred))
    run = GateRun("go", str(program), RUN.url, RUN.key_file)
    said = asyncio.run(run_client.function(run, "name", "ses_1", 0))
    assert said["call"] == CALL
    assert RUN_VARIABLE == "HELMR_GATE_RUN"


def test_a_command_is_read_for_its_prompt() -> None:
    words = ["claude", "--model", "opus", "-p", "go", "--max-turns", "3"]
    assert read_command(words) == ("go", ["--model", "opus", "--max-turns", "3"])
    for wrong in ("claude go", "claude -p", "claude -p --model opus", "codex -p go", ""):
        with pytest.raises(UsageError, match="headless"):
            read_command(wrong.split())
