"""The newest clients in each mode: what a rule names does not run unasked, and no one is asked of the rest (S-137).

`make gate-newest` installs the newest Claude Code and Codex from their registry and runs this with them; the long tests
run it with the versions that `tests/programs/gate/package.json` names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helmr.gate import AGENT_TASK, RULED
from helmr.gate.claude_code import TRIED
from tests.programs.gate import npm
from tests.programs.gate.claude_code import PROGRAM, ClaudeHome, bash, claude_home, made
from tests.programs.gate.codex import PROGRAM as CODEX_PROGRAM
from tests.programs.gate.codex import TRUST, codex_home, shell
from tests.programs.gate.model_api import ModelApi, model_api
from tests.programs.gate.runtime import (
    HELMR,
    WITHIN_S,
    asked,
    install,
    statuses,
)
from tests.programs.gate.tmux import TmuxTerminal
from tests.stack.live import LiveRuntime, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(400),
    npm.needs("claude"),
    npm.needs("codex"),
]

RULES = """
[[gate.rule]]
name = "asks"
tool = "Bash"
matches = {command = "touch asked*"}
action = "ask"

[[gate.rule]]
name = "never"
tool = "Bash"
matches = {command = "touch never*"}
action = "deny"
reason = "no such file"

[[gate.rule]]
name = "quiet"
tool = "Bash"
matches = {command = "touch quiet*"}
action = "allow"
"""
HALF = 10
"""Calls that a rule asks about, that one denies, that one allows, and that none names."""

MODES = {
    "auto": (),
    "default": ("--permission-mode", "manual"),
    "acceptEdits": ("--permission-mode", "acceptEdits"),
    "plan": ("--permission-mode", "plan"),
    "bypassPermissions": ("--dangerously-skip-permissions",),
    "dontAsk": ("--permission-mode", "dontAsk"),
}
"""Of the interactive client, and how it is started in each; the first is how it starts if nothing is said."""

ASKS_ABOUT_THE_REST = ("default", "plan")
"""Here the client asks about what no rule names: each time, or at the third call in a row that its check refuses, as it
refuses all that the stand-in is to judge. Only what a rule allows is not asked about then.
"""

OWN_PROMPT = "Do you want to proceed?"
TURNS_S = 150.0
"""A bound for what hangs: behind each call Codex reports it to a runtime that says nothing."""


@pytest.fixture
def rules() -> str:
    return RULES


def turns(rest: str) -> list[Any]:
    """A call a turn: those that rules name, and the others between them."""
    names = [f"{kind}{n}" for n in range(HALF) for kind in ("asked", "never", "quiet", rest)]
    return [[bash(f"toolu_{name}", f"touch {name}")] for name in names]


def approve_each(runtime: LiveRuntime, api: ModelApi, project: Path, last: str) -> int:
    """Approve what is asked until the last call has its result; how many questions there were.

    Nothing is there that a question has not let through: at each of them its file is looked for first.
    """
    count = 0

    def is_over() -> bool:
        nonlocal count
        for wait in runtime.client.waits.list(status="pending"):
            name = (wait.subject or "").removeprefix("Run touch ")
            assert name.startswith("asked"), wait.subject
            assert name not in made(project)
            runtime.client.waits.answer(wait.id, {"decision": "approve"})
            count += 1
        return last in api.tool_results()

    until(is_over, within_s=240, what=last, seen=lambda: sorted(api.tool_results()))
    return count


def denials(runtime: LiveRuntime) -> int:
    """How many of them are recorded."""
    (agent,) = runtime.client.sessions.list(task=AGENT_TASK)
    records = runtime.client.sessions.open(agent.id).input(RULED).list()
    return sum(one.data["action"] == "deny" for one in records)


def status(home: ClaudeHome) -> dict[str, Any]:
    """What `helmr gate status` says to this user."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(HELMR), "gate", "status", "--json"],
        env={**os.environ, **home.environ, "PATH": path},
        cwd=home.project,
        capture_output=True,
        check=True,
        timeout=WITHIN_S,
    )
    (found,) = json.loads(done.stdout)["items"]
    return dict(found)


@pytest.mark.parametrize("mode", MODES)
def test_what_rules_name_is_held_or_denied_and_no_one_is_asked_of_the_rest(
    runtime: LiveRuntime, terminal: TmuxTerminal, mode: str
) -> None:
    rest = "quiet_" if mode in ASKS_ABOUT_THE_REST else "free"
    with model_api(*turns(rest)) as api:
        client = claude_home(runtime, api)
        words = [client.in_terminal, *MODES[mode], "go"]
        terminal.start(" ".join(words), client.environ, client.project)
        count = approve_each(runtime, api, client.project, f"toolu_{rest}{HALF - 1}")
        results = api.tool_results()
        files = made(client.project)
    assert count == HALF
    assert denials(runtime) == HALF
    for n in range(HALF):
        text, is_error = results[f"toolu_never{n}"]
        assert (is_error, "no such file" in text) == (True, True), text
    names = [name for name in files if name.startswith(("asked", "never"))]
    assert names == sorted(f"asked{n}" for n in range(HALF))
    asked(runtime, 0)


def test_a_headless_client_with_the_hooks_of_a_terminal_runs_nothing_that_rules_name(
    runtime: LiveRuntime,
) -> None:
    """`claude -p` can't ask: what `ask` names is refused, and what no rule names is asked about as before."""
    with model_api(*turns("quiet_")) as api:
        client = claude_home(runtime, api)
        with client.start() as process:
            out, err = process.communicate(timeout=240)
        assert process.returncode == 0, (out, err)
        results = api.tool_results()
        for n in range(HALF):
            assert "'asks'" in results[f"toolu_asked{n}"][0]
        quiet = sorted(f"{kind}{n}" for n in range(HALF) for kind in ("quiet", "quiet_"))
        assert made(client.project) == quiet
    asked(runtime, 0)


def test_where_each_call_is_held_the_rules_are_not_asked_a_second_time(
    runtime: LiveRuntime,
) -> None:
    """The hooks of a terminal in the user's settings, those of `claude -p` in the folder's: one question a call."""
    with model_api([bash("toolu_asked0", "touch asked0")]) as api:
        client = claude_home(runtime, api)
        install(runtime, client, "claude-code", "--headless", "--project")
        process = client.start()
        assert approve_each(runtime, api, client.project, "toolu_asked0") == 1
        process.communicate(timeout=WITHIN_S)
        assert made(client.project) == ["asked0"]


# --- the runtime can't be asked -----------------------------------------------------------------------


def fail(runtime: LiveRuntime, what: str) -> list[int]:
    """Have it fail in that way; the processes that are stopped."""
    if what == "away":
        runtime.stop()
    elif what == "killed":
        runtime.kill_all()
    else:
        pids = list(runtime.pids())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return pids
    return []


@pytest.mark.parametrize("what", ["away", "hung", "killed"])
@pytest.mark.parametrize("has_copy", [True, False], ids=["a copy", "no copy"])
def test_what_the_copy_names_is_asked_by_the_client_itself(
    runtime: LiveRuntime, terminal: TmuxTerminal, what: str, has_copy: bool
) -> None:
    named = [[bash(f"toolu_{name}", f"touch {name}")] for name in ("asked0", "never0")]
    with model_api([bash("toolu_free0", "touch free0")]) as api:
        client = claude_home(runtime, api)
        begin = f"{client.in_terminal} go"
        terminal.start(begin, client.environ, client.project)
        until(lambda: "toolu_free0" in api.tool_results(), within_s=WITHIN_S, what="the first")
        terminal.shows("done")
        if not has_copy:
            (copy,) = runtime.folder.rglob("*.key.rules")
            copy.unlink()
        stopped = fail(runtime, what)
        try:
            api.turns[:] = [[bash("toolu_free1", "touch free1")], *named]
            terminal.enters("more")
            if not has_copy:
                terminal.shows("touch free1", OWN_PROMPT)
                assert made(client.project) == ["free0"]
                return
            for name in ("asked0", "never0"):
                terminal.shows(f"touch {name}", OWN_PROMPT)
                assert made(client.project) == ["free0", "free1"]
                terminal.types("Escape")
                terminal.enters("on")
            assert status(client)["state"] == "does not answer"
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


def test_the_status_says_how_the_client_starts_and_what_is_not_seen(runtime: LiveRuntime) -> None:
    with model_api() as api:
        client = claude_home(runtime, api)
        found = status(client)
        assert (found["state"], found["install"], found["starts_in"]) == ("answers", None, "auto")
        assert found["version"] == npm.VERSIONS["@anthropic-ai/claude-code"]
        assert "classifier" in found["unseen"]
        settings = json.loads(client.settings.read_text())
        for mode in ("acceptEdits", "plan", "bypassPermissions", "default"):
            changed = {**settings, "permissions": {"defaultMode": mode}}
            client.settings.write_text(json.dumps(changed))
            assert status(client)["starts_in"] == mode
        del settings["hooks"]["PreToolUse"]  # as an earlier version has installed them
        client.settings.write_text(json.dumps(settings))
        found = status(client)
        assert (found["state"], found["install"]) == (
            "out of date",
            "helmr gate install claude-code",
        )


# --- Codex --------------------------------------------------------------------------------------------

CODEX_MODES = {
    "on-request": ("--sandbox", "workspace-write"),
    "approve for me": ("--approve-for-me",),
    "never": ("--ask-for-approval", "never"),
    "bypass": ("--dangerously-bypass-approvals-and-sandbox",),
}


@pytest.mark.parametrize("mode", CODEX_MODES)
def test_codex_holds_what_rules_name(
    runtime: LiveRuntime, terminal: TmuxTerminal, mode: str
) -> None:
    names = [f"{kind}{n}" for n in range(HALF) for kind in ("asked", "never", "quiet", "free")]
    with model_api(*[[shell(f"call_{name}", f"touch {name}")] for name in names]) as api:
        client = codex_home(runtime, api)
        words = [str(CODEX_PROGRAM), TRUST, *CODEX_MODES[mode], "go"]
        terminal.start(" ".join(words), client.environ, client.project)
        count = approve_each(runtime, api, client.project, f"call_free{HALF - 1}")
        results = api.tool_results()
        files = made(client.project)
    assert count == HALF
    assert denials(runtime) >= HALF
    assert all("no such file" in results[f"call_never{n}"][0] for n in range(HALF))
    assert not [name for name in files if name.startswith("never")]
    assert "open" not in statuses(runtime)
    asked(runtime, 0)


@pytest.mark.parametrize("what", ["away", "hung", "killed"])
def test_codex_is_denied_what_the_copy_names(
    runtime: LiveRuntime, terminal: TmuxTerminal, what: str
) -> None:
    with model_api([shell("call_free0", "touch free0")]) as api:
        client = codex_home(runtime, api)
        terminal.start(f"{client.in_terminal} go", client.environ, client.project)
        until(lambda: "call_free0" in api.tool_results(), within_s=WITHIN_S, what="the first")
        terminal.shows("done")
        stopped = fail(runtime, what)
        try:
            api.turns[:] = [
                [shell(f"call_{n}", f"touch {n}")] for n in ("free1", "asked0", "never0")
            ]
            terminal.types("m")
            terminal.shows(
                "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} m"
            )  # what comes at once it takes for pasted, with its Enter
            terminal.types("Enter")
            until(
                lambda: "call_never0" in api.tool_results(),
                within_s=TURNS_S,
                what="the last",
                seen=terminal.screen,
            )
            assert made(client.project) == ["free0", "free1"]
            assert "names it" in api.tool_results()["call_asked0"][0]
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


def test_the_reviewer_of_codex_is_asked_only_behind_the_gate(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    """A question at its prompt comes to the inbox first: a person's answer is taken in place of the reviewer's."""
    with model_api([shell("call_1", "touch asked0", escalated=True)]) as api:
        client = codex_home(runtime, api)
        words = [str(CODEX_PROGRAM), TRUST, "--approve-for-me", "go"]
        terminal.start(" ".join(words), client.environ, client.project)
        assert approve_each(runtime, api, client.project, "call_1") == 1
        assert made(client.project) == ["asked0"]
        assert not [one for one in api.asked if "APPROVAL REQUEST" in json.dumps(one)]


def test_the_versions_that_were_tried_are_those_of_the_long_tests() -> None:
    assert {
        "claude-code": npm.VERSIONS["@anthropic-ai/claude-code"],
        "codex": npm.VERSIONS["@openai/codex"],
    } == TRIED
