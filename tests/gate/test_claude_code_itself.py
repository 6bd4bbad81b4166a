"""Claude Code itself behind the gate of a real runtime: what ran, for each decision and for each thing that can fail.

The model is a stand-in, everything else is real: the client from npm, its hooks as `helmr gate install` writes them,
the hook's program, `helmr up`. `tests.programs.gate.claude_code` says where the client must be.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from helmr.gate import CALL_TASK
from tests.programs.benchmarks.processes import free_port
from tests.programs.gate.claude_code import (
    PROGRAM,
    RUN_S,
    VERSION,
    ClaudeHome,
    Terminal,
    bash,
    made,
)
from tests.programs.gate.model_api import ModelApi, model_api
from tests.stack.live import ROOT, LiveRuntime, descendants, is_alive, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"{PROGRAM} is missing: npm install"),
]

RULES = """
[[gate.rule]]
name = "looks"
tool = "Bash"
matches = {command = "ls*"}
action = "allow"
"""
RECORDED = Path(__file__).parent / "recorded" / "claude_code.json"
WITHIN_S = 30.0
BYPASS = "--dangerously-skip-permissions"
SHORT_S = 13
"""A hook's timeout of which 3 s are left to people: the runtime answers 10 s before."""


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[LiveRuntime]:
    (tmp_path / "helmr.toml").write_text(RULES)
    live = LiveRuntime(tmp_path, in_process=True, port=free_port())
    try:
        yield live.start()
    finally:
        live.stop()
        for pattern in ("gate-claude-code.key", "settings.json"):
            for path in tmp_path.rglob(pattern):  # they hold the key
                path.unlink()


def home(runtime: LiveRuntime, api: ModelApi, *options: str, timeout_s: int = 600) -> ClaudeHome:
    """A user's client, with the hooks that `helmr gate install` has put there."""
    found = ClaudeHome(runtime.folder / "home", api)
    found.prepare()
    helmr = Path(sys.executable).parent / "helmr"
    environ = {
        **os.environ,
        **found.environ,
        "XDG_CONFIG_HOME": str(runtime.folder / "config"),
        "HELMR_URL": runtime.credentials.url,
        "HELMR_API_KEY": runtime.credentials.key or "",
    }
    install = [str(helmr), "gate", "install", "claude-code", "--yes", *options]
    subprocess.run(install, env=environ, cwd=found.project, check=True, timeout=RUN_S)
    text = found.settings.read_text()
    for was, now in (("--timeout 600", f"--timeout {timeout_s}"), ("_s=600", f"_s={timeout_s}")):
        text = text.replace(was, now)
    found.settings.write_text(text.replace('"timeout": 600', f'"timeout": {timeout_s}'))
    return found


def asked(runtime: LiveRuntime, count: int = 1) -> list[Any]:
    """What waits for people, once there are so many."""

    def are_there() -> tuple[list[Any]] | None:
        found = list(runtime.client.waits.list(status="pending"))
        return (found,) if len(found) == count else None

    return until(are_there, within_s=WITHIN_S, what=f"{count} questions")[0]


def asked_to(runtime: LiveRuntime, subject: str) -> Any:
    """The wait with this subject, if there is one."""
    waits = runtime.client.waits.list(status="pending")
    return next((one for one in waits if one.subject == subject), None)


def answer(runtime: LiveRuntime, **data: Any) -> Any:
    (wait,) = asked(runtime)
    runtime.client.waits.answer(wait.id, data)
    return wait


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    with process:
        out, err = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, (out, err)
    found: dict[str, Any] = json.loads(out)
    return found


# --- headless ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "left", "told"),
    [
        ({"decision": "approve"}, ["one"], ("", False)),
        ({"decision": "decline", "reason": "not on Friday"}, [], ("not on Friday", True)),
        (
            {"decision": "approve", "arguments": {"command": "touch other"}},
            ["other"],
            ("", False),
        ),
    ],
    ids=["allowed", "denied", "changed"],
)
def test_a_call_is_made_as_a_person_decided(
    runtime: LiveRuntime, said: dict[str, Any], left: Sequence[str], told: tuple[str, bool]
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = home(runtime, api, "--headless")
        process = client.start()
        assert answer(runtime, **said).subject == "Run touch one"
        assert result(process)["result"] == "done"
        text, is_error = api.tool_results()["toolu_1"]
        assert (told[0] in text, is_error) == (True, told[1])
        assert made(client.project) == left
    (call,) = runtime.client.sessions.list(task=CALL_TASK)
    assert call.status == "closed"


@pytest.mark.parametrize("bypass", [(), (BYPASS,)], ids=["", "bypass"])
def test_a_deferred_call_outlives_the_runtime_and_is_made_once(
    runtime: LiveRuntime, bypass: Sequence[str]
) -> None:
    with model_api([bash("toolu_1", "echo x >> one")]) as api:
        client = home(runtime, api, "--headless", timeout_s=SHORT_S)
        first = result(client.start(*bypass))
        assert first["stop_reason"] == "tool_deferred"
        assert first["deferred_tool_use"]["id"] == "toolu_1"
        asked(runtime)
        runtime.kill_all()
        runtime.start()
        answer(runtime, decision="approve")
        last = result(client.start(*bypass, "--resume", first["session_id"]))
        assert last["result"] == "done"
        assert (client.project / "one").read_text() == "x\n"


def test_ten_calls_one_after_the_other(runtime: LiveRuntime) -> None:
    turns = [[bash(f"toolu_{n}", f"touch f{n}")] for n in range(10)]
    with model_api(*turns) as api:
        client = home(runtime, api, "--headless")
        process = client.start()
        for n in range(10):
            wait = until(
                partial(asked_to, runtime, f"Run touch f{n}"), within_s=WITHIN_S, what=f"call {n}"
            )
            runtime.client.waits.answer(wait.id, {"decision": "approve"})
        assert result(process)["result"] == "done"
        assert made(client.project) == sorted(f"f{n}" for n in range(10))


class Failing(BaseHTTPRequestHandler):
    """Answers 500, whatever is asked."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def failing(what: str, runtime: LiveRuntime, client: ClaudeHome) -> Iterator[None]:
    """The gate fails in that way."""
    if what == "away":
        runtime.kill_all()
    elif what == "hung":
        pids = runtime.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        return
    elif what == "5xx":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        text = client.settings.read_text().replace(runtime.credentials.url, url)
        client.settings.write_text(text)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
        return
    elif what == "revoked":
        (key,) = [one for one in runtime.client.keys.list() if one.role == "asker"]
        runtime.client.keys.revoke(key.id)
    elif what == "missing":
        text = client.settings.read_text().replace("/bin/helmr", "/bin/gone")
        client.settings.write_text(text)
    yield


@pytest.mark.parametrize("bypass", [(), (BYPASS,)], ids=["", "bypass"])
@pytest.mark.parametrize("what", ["away", "hung", "5xx", "revoked", "missing", "killed"])
def test_what_can_not_be_asked_does_not_run(
    runtime: LiveRuntime, what: str, bypass: Sequence[str]
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = home(runtime, api, "--headless", timeout_s=20 if what == "hung" else 600)
        with failing(what, runtime, client):
            process = client.start(*bypass)
            if what == "killed":
                asked(runtime)
                for pid in descendants(process.pid):
                    if b"gate\0hook\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)
            assert result(process)["result"] == "done"
        assert made(client.project) == []
        text, is_error = api.tool_results()["toolu_1"]
        assert is_error, text


@pytest.mark.parametrize("bypass", [(), (BYPASS,)], ids=["", "bypass"])
def test_of_two_calls_in_a_turn_only_what_was_allowed_runs(
    runtime: LiveRuntime, bypass: Sequence[str]
) -> None:
    turn = [bash("toolu_1", "ls > /dev/null"), bash("toolu_2", "touch two")]
    with model_api(turn, [bash("toolu_3", "ls")]) as api:
        client = home(runtime, api, "--headless", timeout_s=SHORT_S)
        first = result(client.start(*bypass))
        assert first["stop_reason"] == "tool_deferred", first
        assert made(client.project) == []


# --- a durable run ------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[LiveRuntime, ClaudeHome]]:
    """A runtime that runs the client itself, in a user's home."""
    with model_api() as api:
        client = ClaudeHome(tmp_path / "home", api)
        client.prepare()
        (tmp_path / "helmr.toml").write_text(f"[gate]\nruns = true\n{RULES}")
        path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
        environ = {**client.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        live = LiveRuntime(
            tmp_path, in_process=True, port=free_port(), linger="1s", environ=environ
        )
        try:
            yield live.start(), client
        finally:
            live.stop()
            for key in tmp_path.rglob("gate-claude-code.key"):
                key.unlink()


def start_run(runtime: LiveRuntime, client: ClaudeHome) -> str:
    """`helmr gate run`; the session's id."""
    environ = {
        **os.environ,
        "XDG_CONFIG_HOME": str(runtime.folder / "config"),
        "HELMR_URL": runtime.credentials.url,
        "HELMR_API_KEY": runtime.credentials.key or "",
    }
    helmr = Path(sys.executable).parent / "helmr"
    key = runtime.folder / "gate-claude-code.key"
    key.write_text(runtime.client.keys.create(role="asker", name="hooks").secret)
    options = ["--json", "--wait", "10ms", "--folder", str(client.project), "--hook-key", str(key)]
    words = [str(helmr), "gate", "run", *options, "--", "claude", "-p", "go"]
    done = subprocess.run(words, env=environ, check=True, capture_output=True, timeout=RUN_S)
    return str(json.loads(done.stdout)["session_id"])


def test_a_run_parks_at_each_of_ten_calls_and_outlives_the_runtime(
    running: tuple[LiveRuntime, ClaudeHome],
) -> None:
    runtime, client = running
    client.api.turns[:] = [[bash(f"toolu_{n}", f"echo x >> f{n}")] for n in range(10)]
    session_id = start_run(runtime, client)
    for n in range(10):
        find = partial(asked_to, runtime, f"Run echo x >> f{n}")
        wait = until(
            find,
            within_s=WITHIN_S,
            what=f"call {n}",
            seen=lambda: (runtime.folder / "up.log").read_text()[-3000:],
        )
        if n in (2, 5):
            runtime.kill_all()
            runtime.start()
        runtime.client.waits.answer(wait.id, {"decision": "approve"})
    run = runtime.ended(session_id)
    assert run.status == "succeeded", run
    assert (run.result["result"], run.result["asked"]) == ("done", 10)
    assert [(client.project / f"f{n}").read_text() for n in range(10)] == ["x\n"] * 10
    children = list(runtime.client.sessions.list(task=CALL_TASK))
    assert [str(one.status) for one in children] == ["closed"] * 10


@pytest.mark.parametrize("survives", [False, True], ids=["killed", "survives"])
def test_a_client_that_was_cut_off_is_resumed_and_never_started_again(
    running: tuple[LiveRuntime, ClaudeHome], survives: bool
) -> None:
    runtime, client = running
    pause = "sleep 8" if survives else "sleep 30"
    client.api.turns[:] = [[bash("toolu_1", f"echo x >> begun && {pause}")], ["resumed"]]
    (runtime.folder / "helmr.toml").write_text(f"[gate]\nruns = true\n{ALLOWS_ALL}")
    runtime.stop()
    runtime.start()
    session_id = start_run(runtime, client)
    until(lambda: made(client.project) == ["begun"], within_s=WITHIN_S, what="the call")
    (pid,) = [pid for pid in runtime.pids() if is_client(pid)]
    if survives:
        main = runtime.pids()[0]
        os.kill(main, signal.SIGKILL)
        until(lambda: not is_alive(main), within_s=WITHIN_S, what="its end")
    else:
        runtime.kill_all()
    runtime.start()
    assert is_alive(pid) == survives
    run = runtime.ended(session_id)
    assert not is_alive(pid)
    # Of a client that has outlived the runtime the last words are lost; the resumed one has others.
    words = "done" if survives else "resumed"
    assert (run.status, run.result["result"]) == ("succeeded", words)
    assert (client.project / "begun").read_text() == "x\n"


ALLOWS_ALL = """
[[gate.rule]]
action = "allow"
"""


def is_client(pid: int) -> bool:
    return b"--session-id" in Path(f"/proc/{pid}/cmdline").read_bytes()


# --- interactive ------------------------------------------------------------------------------------


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    found = Terminal(tmp_path / "tmux")
    try:
        yield found
    finally:
        found.end()


def test_a_prompt_is_answered_in_the_inbox_and_the_client_goes_on(
    runtime: LiveRuntime, terminal: Terminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = home(runtime, api)
        terminal.start(client)
        answer(runtime, decision="approve")
        terminal.shows("Allowed by PermissionRequest hook")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        closed = until(lambda: calls_over(runtime), within_s=WITHIN_S, what="the report")
        assert closed == ["closed"]


def test_what_is_answered_in_the_terminal_is_decided_elsewhere(
    runtime: LiveRuntime, terminal: Terminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = home(runtime, api)
        terminal.start(client)
        asked(runtime)
        terminal.shows("Do you want to proceed?")
        terminal.types("1")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        assert until(lambda: calls_over(runtime), within_s=WITHIN_S, what="the end") == [
            "cancelled"
        ]
        asked(runtime, 0)


def test_a_denial_in_the_inbox_reaches_the_model(runtime: LiveRuntime, terminal: Terminal) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = home(runtime, api)
        terminal.start(client)
        answer(runtime, decision="decline", reason="not on Friday")
        text, is_error = until(
            lambda: api.tool_results().get("toolu_1"), within_s=WITHIN_S, what="the result"
        ) or ("", False)
        assert is_error
        assert "not on Friday" in text
        assert made(client.project) == []


def test_without_a_runtime_the_clients_own_prompt_decides(
    runtime: LiveRuntime, terminal: Terminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = home(runtime, api)
        runtime.kill_all()
        terminal.start(client)
        terminal.shows("Do you want to proceed?")
        assert made(client.project) == []
        terminal.types("1")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")


def test_questions_and_a_plan_are_answered(runtime: LiveRuntime, terminal: Terminal) -> None:
    questions = {
        "questions": [
            {
                "question": "Which color?",
                "header": "Color",
                "options": [
                    {"label": "Red", "description": "r"},
                    {"label": "Blue", "description": "b"},
                ],
                "multiSelect": False,
            }
        ]
    }
    with model_api([("toolu_1", "AskUserQuestion", questions)]) as api:
        client = home(runtime, api)
        terminal.start(client)
        answer(runtime, q1="Blue")
        text, is_error = until(
            lambda: api.tool_results().get("toolu_1"), within_s=WITHIN_S, what="the answer"
        ) or ("", True)
        assert not is_error
        assert "Blue" in text


def calls_over(runtime: LiveRuntime) -> list[str] | None:
    """The statuses of all calls, once none is open."""
    found = [str(one.status) for one in runtime.client.sessions.list(task=CALL_TASK)]
    return found if found and "open" not in found else None


# --- what its hooks post ------------------------------------------------------------------------------


def test_its_hooks_post_what_was_recorded(tmp_path: Path, terminal: Terminal) -> None:
    """The fixtures of the other tests are as this client posts them: the same events with the same fields."""
    with model_api([bash("toolu_1", "true")], [bash("toolu_2", "false")]) as api:
        client = ClaudeHome(tmp_path / "home", api)
        client.prepare()
        log = client.record()
        result(client.start(BYPASS))
        api.turns[:] = [[bash("toolu_3", "touch one")]]
        terminal.start(client)
        terminal.shows("Do you want to proceed?")
        terminal.types("1")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        terminal.shows("done")
        posted = [json.loads(line) for line in log.read_text().splitlines()]
    if os.environ.get("HELMR_UPDATE_GOLDENS"):
        found = {"client": VERSION, "events": scrubbed(posted, client)}
        RECORDED.write_text(json.dumps(found, indent=1) + "\n")
    recorded = json.loads(RECORDED.read_text())
    assert (recorded["client"], fields_of(recorded["events"])) == (VERSION, fields_of(posted))


def fields_of(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The fields that events of each kind have, all together."""
    found: dict[str, set[str]] = {}
    for one in events:
        found.setdefault(one["hook_event_name"], set()).update(one)
    return {kind: sorted(names) for kind, names in sorted(found.items())}


def scrubbed(events: list[dict[str, Any]], client: ClaudeHome) -> list[dict[str, Any]]:
    """Without the machine's folders; of each kind of event the first."""
    text = json.dumps(events).replace(str(client.folder), "/srv/ada")
    text = re.sub(r"-[\w-]*-home-project", "-srv-ada-project", text)
    first: dict[str, dict[str, Any]] = {}
    for one in json.loads(text):
        first.setdefault(one["hook_event_name"], one)
    return list(first.values())
