"""Claude Code itself behind the gate of a real runtime: what ran, for each decision and for each thing that can fail.

The model is a stand-in, everything else is real: the client from npm, its hooks as `helmr gate install` writes them,
the hook's program, `helmr up`. `tests.programs.gate.claude_code` says where the client must be.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from helmr.gate import AGENT_TASK, CALL_TASK, RULED
from tests.programs.benchmarks.processes import free_port
from tests.programs.gate import npm, recorded
from tests.programs.gate.claude_code import (
    PROGRAM,
    VERSION,
    ClaudeHome,
    bash,
    claude_home,
    made,
    plan_file,
)
from tests.programs.gate.model_api import model_api
from tests.programs.gate.runtime import (
    HELMR,
    LOOKS,
    WITHIN_S,
    answer,
    asked,
    asked_to,
    environ_of,
    gated_runtime,
    statuses,
)
from tests.programs.gate.tmux import RUN_S, TmuxTerminal
from tests.programs.histories.stepped_clock import SteppedClock
from tests.stack.live import ROOT, LiveRuntime, descendants, is_alive, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.allows_blocking,
    pytest.mark.timeout(240),
    npm.needs("claude"),
]

BYPASS = "--dangerously-skip-permissions"
HOUR_S = 3600.0
SHORT_S = 13
"""A hook's timeout of which 3 s are left to people: the runtime answers 10 s before."""


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
        client = claude_home(runtime, api, "--headless")
        process = client.start()
        assert answer(runtime, **said).subject == "Run touch one"
        assert result(process)["result"] == "done"
        text, is_error = api.tool_results()["toolu_1"]
        assert (told[0] in text, is_error) == (True, told[1])
        assert made(client.project) == left
    (call,) = runtime.client.sessions.list(task=CALL_TASK)
    assert call.status == "closed"


@pytest.mark.parametrize("bypass", [(), (BYPASS,)], ids=["", "bypass"])
def test_a_deferred_call_outlives_the_runtime_and_is_made_once_an_hour_later(
    tmp_path: Path, bypass: Sequence[str]
) -> None:
    (tmp_path / "clock").mkdir()
    clock = SteppedClock.build(tmp_path / "clock")
    if clock is None:
        pytest.skip("needs a C compiler, for a clock that can be set")
    with (
        gated_runtime(tmp_path, environ=clock.environ) as runtime,
        model_api([bash("toolu_1", "echo x >> one")]) as api,
    ):
        client = claude_home(runtime, api, "--headless", timeout_s=SHORT_S)
        first = result(client.start(*bypass))
        assert first["stop_reason"] == "tool_deferred"
        assert first["deferred_tool_use"]["id"] == "toolu_1"
        asked(runtime)
        runtime.kill_all()
        clock.set(HOUR_S)
        runtime.start()
        answered = answer(runtime, decision="approve")
        last = result(client.start(*bypass, "--resume", first["session_id"]))
        assert last["result"] == "done"
        assert (client.project / "one").read_text() == "x\n"
        assert statuses(runtime) == ["closed"]
        (call,) = runtime.client.sessions.list(task=CALL_TASK)
        assert (call.updated_at - answered.opened_at).total_seconds() >= HOUR_S


def test_ten_calls_one_after_the_other(runtime: LiveRuntime) -> None:
    turns = [[bash(f"toolu_{n}", f"touch f{n}")] for n in range(10)]
    with model_api(*turns) as api:
        client = claude_home(runtime, api, "--headless")
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
        client = claude_home(runtime, api, "--headless", timeout_s=20 if what == "hung" else 600)
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
        client = claude_home(runtime, api, "--headless", timeout_s=SHORT_S)
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
        (tmp_path / "helmr.toml").write_text(f"[gate]\nruns = true\n{LOOKS}")
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
    environ = {**os.environ, **environ_of(runtime)}
    key = runtime.folder / "gate-claude-code.key"
    key.write_text(runtime.client.keys.create(role="asker", name="hooks").secret)
    options = ["--json", "--wait", "10ms", "--folder", str(client.project), "--hook-key", str(key)]
    words = [str(HELMR), "gate", "run", *options, "--", "claude", "-p", "go"]
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


def test_what_is_granted_in_a_run_is_made_without_asking(
    running: tuple[LiveRuntime, ClaudeHome],
) -> None:
    runtime, client = running
    client.api.turns[:] = [[bash(f"toolu_{n}", f"echo x >> f{n}")] for n in range(3)]
    session_id = start_run(runtime, client)
    find = partial(asked_to, runtime, "Run echo x >> f0")
    wait = until(find, within_s=WITHIN_S, what="the call")
    grant = runtime.client.grants.create(wait.session_id, matches={"command": "echo x >> f*"})
    assert grant.asker == session_id
    runtime.client.waits.answer(wait.id, {"decision": "approve"})
    run = runtime.ended(session_id)
    assert (run.status, run.result["asked"]) == ("succeeded", 1), run
    assert [(client.project / f"f{n}").read_text() for n in range(3)] == ["x\n"] * 3
    (agent,) = runtime.client.sessions.list(task=AGENT_TASK)
    decided = [one.data for one in runtime.client.sessions.open(agent.id).input(RULED).list()]
    assert [one.get("grant") for one in decided if "grant" in one] == [grant.id] * 2


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


def begin(terminal: TmuxTerminal, client: ClaudeHome) -> None:
    """Start the interactive client with a prompt, in the mode in which it asks about each call."""
    words = f"{client.in_terminal} --permission-mode manual go"
    terminal.start(words, client.environ, client.project)


def test_a_prompt_is_answered_in_the_inbox_and_the_client_goes_on(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = claude_home(runtime, api)
        begin(terminal, client)
        answer(runtime, decision="approve")
        terminal.shows("Allowed by PermissionRequest hook")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        assert statuses(runtime) == ["closed"]


def test_what_is_answered_in_the_terminal_is_decided_elsewhere(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = claude_home(runtime, api)
        begin(terminal, client)
        asked(runtime)
        terminal.shows("Do you want to proceed?")
        terminal.types("1")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        assert statuses(runtime) == ["cancelled"]
        asked(runtime, 0)


def test_a_denial_in_the_inbox_reaches_the_model(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = claude_home(runtime, api)
        begin(terminal, client)
        answer(runtime, decision="decline", reason="not on Friday")
        text, is_error = until(
            lambda: api.tool_results().get("toolu_1"), within_s=WITHIN_S, what="the result"
        ) or ("", False)
        assert is_error
        assert "not on Friday" in text
        assert made(client.project) == []


def test_without_a_runtime_the_clients_own_prompt_decides(
    runtime: LiveRuntime, terminal: TmuxTerminal
) -> None:
    with model_api([bash("toolu_1", "touch one")]) as api:
        client = claude_home(runtime, api)
        runtime.kill_all()
        begin(terminal, client)
        terminal.shows("Do you want to proceed?")
        assert made(client.project) == []
        terminal.types("1")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")


QUESTIONS = {
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
PLAN = "# Ship it\n\n1. Build\n2. Publish"


def open_console(console: TmuxTerminal, runtime: LiveRuntime, sees: str) -> None:
    """Start the console of an operator, who opens the one question that is there."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environ = {**kept, **environ_of(runtime), "HOME": str(runtime.folder / "operator")}
    console.start(f"{HELMR} console", environ, runtime.folder)
    console.shows("live", sees)
    console.types("a")


def test_what_the_agent_asks_itself_is_answered_in_the_console(
    runtime: LiveRuntime, terminal: TmuxTerminal, console: TmuxTerminal
) -> None:
    with model_api([("toolu_1", "AskUserQuestion", QUESTIONS)]) as api:
        client = claude_home(runtime, api)
        begin(terminal, client)
        open_console(console, runtime, "Which color?")
        console.shows("( ) Blue")
        console.types("Right", "Space")
        console.shows("(•) Blue")
        console.types("C-s")
        console.shows("^s sends it.")
        console.types("C-s")
        text, is_error = until(
            lambda: api.tool_results().get("toolu_1"), within_s=WITHIN_S, what="the answer"
        ) or ("", True)
        assert (is_error, "Blue" in text) == (False, True), text


@pytest.mark.parametrize("approves", [True, False], ids=["approved", "sent back"])
def test_a_plan_is_decided_in_the_console(
    runtime: LiveRuntime, terminal: TmuxTerminal, console: TmuxTerminal, approves: bool
) -> None:
    with model_api(["Looked"]) as api:
        client = claude_home(runtime, api)
        terminal.start(
            f"{client.in_terminal} --permission-mode plan go", client.environ, client.project
        )
        terminal.shows("Looked")
        written = {"file_path": plan_file(api), "content": PLAN}
        api.turns[:] = [[("toolu_0", "Write", written)], [("toolu_1", "ExitPlanMode", {})]]
        terminal.enters("on")
        open_console(console, runtime, "Go on with this plan?")
        console.shows("Ship it", "( ) approve")
        console.types("1" if approves else "2")
        if not approves:
            console.types("Tab")
            console.types(*"smaller")
        console.types("C-s")
        console.shows("^s sends it.")
        console.types("C-s")
        text, is_error = until(
            lambda: api.tool_results().get("toolu_1"), within_s=WITHIN_S, what="the decision"
        ) or ("", False)
        assert is_error is not approves, text
        assert approves or "smaller" in text


# --- what its hooks post ------------------------------------------------------------------------------


def test_its_hooks_post_what_was_recorded(tmp_path: Path, terminal: TmuxTerminal) -> None:
    """The fixtures of the other tests are as this client posts them: the same events with the same fields."""
    with model_api([bash("toolu_1", "true")], [bash("toolu_2", "false")]) as api:
        client = ClaudeHome(tmp_path / "home", api)
        client.prepare()
        log = client.record()
        result(client.start(BYPASS))
        api.turns[:] = [[bash("toolu_3", "touch one")]]
        begin(terminal, client)
        terminal.shows("Do you want to proceed?")
        terminal.types("1")
        until(lambda: made(client.project) == ["one"], within_s=WITHIN_S, what="the file")
        terminal.shows("done")
        posted = [json.loads(line) for line in log.read_text().splitlines()]
    recorded.check("claude-code", VERSION, posted, client.folder)
