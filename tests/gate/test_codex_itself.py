"""Codex itself behind the gate of a real runtime: what ran, for each decision and for each thing that can fail.

The model is a stand-in, everything else is real: the client from npm, its hooks as `helmr gate install` writes them,
the hook's program, `helmr up`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helmr.person.review import words
from tests.programs.gate import npm, recorded
from tests.programs.gate.claude_code import made
from tests.programs.gate.codex import TRUST, VERSION, CodexHome, codex_home, shell
from tests.programs.gate.model_api import model_api
from tests.programs.gate.runtime import WITHIN_S, answer, asked, statuses
from tests.programs.gate.tmux import RUN_S, TmuxTerminal
from tests.stack.live import LiveRuntime, descendants, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(240),
    npm.needs("codex"),
]

SHORT_S = 13
"""A hook's timeout of which 3 s are left to people: the runtime answers 10 s before."""

OWN_PROMPT = "Would you like to run the following command?"


def ended(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a headless run."""
    with process:
        out, err = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, (out, err)


def begin(terminal: TmuxTerminal, client: CodexHome) -> None:
    """Start the interactive client with a prompt."""
    terminal.start(f"{client.in_terminal} go", client.environ, client.project)


# --- headless ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "left", "told"),
    [
        ({"decision": "approve"}, ["one"], ""),
        ({"decision": "decline", "reason": "not on Friday"}, [], "not on Friday"),
        ({"decision": "approve", "arguments": {"command": "touch other"}}, ["other"], ""),
    ],
    ids=["allowed", "denied", "changed"],
)
def test_a_call_is_made_as_a_person_decided(
    runtime: LiveRuntime, said: dict[str, Any], left: Sequence[str], told: str
) -> None:
    with model_api([shell("call_1", "touch one")]) as api:
        client = codex_home(runtime, api, "--headless")
        process = client.start(TRUST)
        assert answer(runtime, **said).subject == "Run touch one"
        ended(process)
        assert told in api.tool_results()["call_1"][0]
        assert made(client.project) == left
    assert statuses(runtime) == ["closed"]


def test_a_call_that_no_one_decides_is_to_be_called_again(runtime: LiveRuntime) -> None:
    with model_api([shell("call_1", "touch one")]) as api:
        client = codex_home(runtime, api, "--headless", timeout_s=SHORT_S)
        ended(client.start(TRUST))
        assert "Call it again" in api.tool_results()["call_1"][0]
        assert made(client.project) == []


@pytest.mark.parametrize("what", ["away", "revoked", "missing", "killed"])
def test_what_can_not_be_asked_does_not_run(runtime: LiveRuntime, what: str) -> None:
    with model_api([shell("call_1", "touch one")]) as api:
        client = codex_home(runtime, api, "--headless")
        if what == "away":
            runtime.kill_all()
        elif what == "revoked":
            (key,) = [one for one in runtime.client.keys.list() if one.role == "asker"]
            runtime.client.keys.revoke(key.id)
        elif what == "missing":
            text = client.settings.read_text().replace("/bin/helmr", "/bin/gone")
            client.settings.write_text(text)
        process = client.start(TRUST)
        if what == "killed":
            asked(runtime)
            for pid in descendants(process.pid):
                if b"gate\0hook\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        ended(process)
        assert made(client.project) == []
        if what == "away":
            assert "is `helmr up` running?" in api.tool_results()["call_1"][0]


@pytest.mark.parametrize("what", ["not trusted", "killed with its shell"])
def test_what_lets_a_call_run_is_what_the_page_names(runtime: LiveRuntime, what: str) -> None:
    with model_api([shell("call_1", "touch one")]) as api:
        client = codex_home(runtime, api, "--headless")
        if what == "killed with its shell":
            settings = json.loads(client.settings.read_text())
            settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"] = "kill -9 $$"
            client.settings.write_text(json.dumps(settings))
        ended(client.start(*([] if what == "not trusted" else [TRUST])))
        assert made(client.project) == ["one"]
        asked(runtime, 0)


# --- interactive ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", ["approve", "decline"])
def test_a_prompt_is_answered_in_the_inbox_in_place_of_its_own(
    runtime: LiveRuntime, terminal: TmuxTerminal, decision: str
) -> None:
    with model_api([shell("call_1", "touch one", escalated=True)]) as api:
        client = codex_home(runtime, api)
        begin(terminal, client)
        asked(runtime)
        assert OWN_PROMPT not in terminal.screen()
        reason = {"reason": "not on Friday"} if decision == "decline" else {}
        answer(runtime, decision=decision, **reason)
        text, _ = until(
            lambda: api.tool_results().get("call_1"), within_s=WITHIN_S, what="the result"
        ) or ("", False)
        assert OWN_PROMPT not in terminal.screen()
        assert made(client.project) == (["one"] if decision == "approve" else [])
        assert decision == "approve" or "not on Friday" in text
        assert statuses(runtime) == ["closed"]


def test_unanswered_its_own_prompt_decides_and_the_question_ends(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    with model_api([shell("call_1", "touch one", escalated=True)]) as api:
        client = codex_home(runtime, api, timeout_s=SHORT_S)
        begin(terminal, client)
        asked(runtime)
        terminal.shows(OWN_PROMPT)
        asked(runtime, 0)
        (wait,) = runtime.client.waits.list(status="timed_out")
        assert words.ended(wait) == "left to the client"
        terminal.types("y")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        assert statuses(runtime) == ["closed"]


def test_without_a_runtime_its_own_prompt_decides(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    with model_api([shell("call_1", "touch one", escalated=True)]) as api:
        client = codex_home(runtime, api)
        runtime.kill_all()
        begin(terminal, client)
        terminal.shows(OWN_PROMPT)
        assert made(client.project) == []


# --- what its hooks post ------------------------------------------------------------------------------


def test_its_hooks_post_what_was_recorded(tmp_path: Path, terminal: TmuxTerminal) -> None:
    """The fixtures of the other tests are as this client posts them: the same events with the same fields."""
    with model_api([shell("call_1", "true")]) as api:
        client = CodexHome(tmp_path / "home", api)
        client.prepare()
        log = client.record()
        ended(client.start(TRUST))
        api.turns[:] = [[shell("call_2", "touch one", escalated=True)]]
        begin(terminal, client)
        terminal.shows(OWN_PROMPT)
        terminal.types("y")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        terminal.shows("done")
        posted = [json.loads(line) for line in log.read_text().splitlines() if line]
    recorded.check("codex", VERSION, posted, client.folder)
