"""The hook's program: it carries an event and its decision, and denies whenever it can't."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helmr.cli import rules_hook
from helmr.gate.claude_code import Mode, hooks_block, settings_text, with_hooks
from helmr.wire import ids
from tests.longer import long_but

ALLOWED = {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "allow"}}
ASKS = {"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {}}
TIMED = (sys.executable, "-X", "importtime", "-m", "helmr.cli", "gate", "hook", "claude-code")
REPORTS = {**ASKS, "hook_event_name": "PostToolUse"}
HOOK = """
import os
import sys
from helmr.cli import hook, rules_hook
hook.PATIENCE_S, hook.PAUSE_S, hook.MARGIN_S = 1.0, 0.01, 1.0
rules_hook.ANSWER_S = float(os.environ.get("ANSWER_S", 20))
(rules_hook if "--mode=rules" in sys.argv else hook).main(sys.argv[1], sys.argv[2:])
"""


@dataclass
class GateStandIn:
    """Answers what it was given, one after the other, the last for ever; None is no answer at all."""

    replies: list[tuple[int, Any] | None]
    asked: list[tuple[str, str | None, Any]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    url: str = ""
    left: threading.Event = field(default_factory=threading.Event)


@contextmanager
def gate(*replies: tuple[int, Any] | None) -> Iterator[GateStandIn]:
    stand_in = GateStandIn(list(replies))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            stand_in.asked.append((self.path, self.headers["authorization"], json.loads(body)))
            stand_in.operations.append(self.headers["operation-id"])
            several = len(stand_in.replies) > 1
            reply = stand_in.replies.pop(0) if several else stand_in.replies[0]
            if reply is None:
                stand_in.left.wait(30)
                return
            raw = json.dumps(reply[1]).encode()
            self.send_response(reply[0])
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.left.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "asker.key"
    path.write_text("hlmr_key_x\n")
    return path


def run(
    event: Any,
    *options: str,
    client: str = "claude-code",
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    given = event if isinstance(event, str) else json.dumps(event)
    return subprocess.run(
        [sys.executable, "-c", HOOK, client, *options],
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=dict(environ or {}),
    )


def named(url: str, key_file: Path, timeout: str = "20") -> Sequence[str]:
    return (f"--url={url}", "--key-file", str(key_file), "--timeout", timeout)


def test_it_carries_the_event_there_and_the_decision_back(key_file: Path) -> None:
    with gate((200, ALLOWED)) as stand_in:
        done = run(ASKS, *named(stand_in.url + "/", key_file))
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, ALLOWED, "")
    ((path, authorization, event),) = stand_in.asked
    assert path.startswith("/v1/gate/claude-code?mode=headless&timeout_s=")
    assert 15 < float(path.rpartition("=")[2]) <= 20
    assert (authorization, event) == ("Bearer hlmr_key_x", ASKS)


@long_but(
    1,
    ("decision", "printed"),
    [
        ({"permissionDecision": "allow", "permissionDecisionReason": "x"}, None),
        (
            {"permissionDecision": "allow", "updatedInput": {"command": "ls"}},
            {"permissionDecision": "allow", "updatedInput": {"command": "ls"}},
        ),
        (
            {"permissionDecision": "deny", "permissionDecisionReason": "no"},
            {"permissionDecision": "deny", "permissionDecisionReason": "no"},
        ),
    ],
    ids=["allowed", "changed", "denied"],
)
def test_codex_gets_what_it_takes(
    key_file: Path, decision: dict[str, Any], printed: dict[str, Any] | None
) -> None:
    """What it does not take lets the call run, and `allow` alone is such."""
    with gate((200, {"hookSpecificOutput": decision})) as stand_in:
        done = run(ASKS, *named(stand_in.url, key_file), client="codex")
    assert (done.returncode, done.stderr) == (0, "")
    assert (json.loads(done.stdout)["hookSpecificOutput"] if done.stdout else None) == printed
    assert stand_in.asked[0][0].endswith("&client=codex")


AT_PROMPT = {**ASKS, "hook_event_name": "PermissionRequest"}


@long_but(
    1,
    "said",
    [
        {},
        {"hookSpecificOutput": {"decision": {"behavior": "allow"}}},
        {"hookSpecificOutput": {"decision": {"behavior": "deny", "message": "no"}}},
    ],
    ids=["undecided", "allowed", "denied"],
)
def test_at_a_prompt_it_carries_the_decision_or_none(key_file: Path, said: dict[str, Any]) -> None:
    with gate((200, said)) as stand_in:
        options = (*named(stand_in.url, key_file), "--mode=interactive")
        done = run(AT_PROMPT, *options, client="codex")
    assert (done.returncode, done.stderr) == (0, "")
    assert (json.loads(done.stdout) if done.stdout else {}) == said
    assert stand_in.asked[0][0].startswith("/v1/gate/claude-code?mode=interactive&")


@long_but(
    1,
    ("reply", "code"),
    [((503, {}), 1), ((403, {}), 1), (None, 0)],
    ids=["away", "forbidden", "hung"],
)
def test_at_a_prompt_what_fails_neither_allows_nor_denies(
    key_file: Path, reply: tuple[int, Any] | None, code: int
) -> None:
    with gate(reply) as stand_in:
        options = (*named(stand_in.url, key_file, "2.5"), "--mode=interactive")
        done = run(AT_PROMPT, *options, client="codex")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr


def test_a_runtime_that_starts_again_is_asked_again(key_file: Path) -> None:
    with gate((503, {"detail": "starting"}), (500, {}), (200, ALLOWED)) as stand_in:
        done = run(ASKS, *named(stand_in.url, key_file))
        # The same request, since the answer to it may have been lost; the next is another one.
        run(ASKS, *named(stand_in.url, key_file))
    assert (done.returncode, json.loads(done.stdout)) == (0, ALLOWED)
    assert len(stand_in.asked) == 4
    first, *_, last = stand_in.operations
    assert stand_in.operations == [first, first, first, last]
    assert first != last
    assert [ids.check_id(one, ids.OPERATION) for one in (first, last)] == [first, last]
    assert ids.to_uuid(first).version == 4


@long_but(
    2,
    ("reply", "why"),
    [
        ((503, {"detail": "starting"}), "can't answer (starting)"),
        ((403, {"detail": "no"}), "refuses: no"),
        ((404, {}), "refuses: HTTP 404"),
        ((200, {}), "decided nothing"),
        ((200, []), "refuses"),
        (None, "the time is up"),
    ],
    ids=["away", "forbidden", "no gate", "no decision", "no object", "hung"],
)
def test_what_is_no_decision_denies(
    key_file: Path, reply: tuple[int, Any] | None, why: str
) -> None:
    with gate(reply) as stand_in:
        done = run(ASKS, *named(stand_in.url, key_file, "2.5"))
    assert why in denied(done)


def denied(done: subprocess.CompletedProcess[str]) -> str:
    """The reason, which begins with what went wrong: before what is on stderr the client puts the whole command."""
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)["hookSpecificOutput"]
    assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "deny")
    reason = str(said["permissionDecisionReason"])
    assert reason.startswith("Helmr can't ask a person about this call: ")
    return reason


@long_but(1, "event", [ASKS, "{", "[]"], ids=["event", "cut", "no object"])
def test_without_a_runtime_every_call_is_denied(key_file: Path, event: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = run(event, *named(url, key_file))
    if event is ASKS:
        assert "is `helmr up` running?" in denied(done)
    else:
        assert (done.returncode, done.stdout) == (2, "")


@long_but(
    2,
    "options",
    [
        (),
        ("--url", "ftp://x"),
        ("--url",),
        ("--timeout", "soon"),
        ("--else", "1"),
        ("--url", "http://127.0.0.1:9", "--key-file", "/nowhere"),
    ],
    ids=" ".join,
)
def test_what_is_called_wrongly_denies(options: tuple[str, ...]) -> None:
    done = run(ASKS, *options)
    assert done.returncode == 2 or denied(done)


def test_a_report_that_can_not_be_made_stops_no_one(key_file: Path) -> None:
    with gate((403, {"detail": "no"})) as stand_in:
        done = run(REPORTS, *named(stand_in.url, key_file))
    assert (done.returncode, done.stdout) == (0, "")
    with gate(None) as stand_in:
        assert run(REPORTS, *named(stand_in.url, key_file, "2.5")).returncode == 0


# --- rules only ---------------------------------------------------------------------------------------

RULES = {
    "hash": "abc",
    "rule": [
        {"name": "looks", "tool": ["Bash"], "matches": {"command": ["ls*"]}, "action": "allow"},
        {"name": "never", "tool": ["Bash"], "matches": {"command": ["rm *"]}, "action": "deny"},
        {"name": "pushes", "tool": ["Bash"], "matches": {"command": ["git*"]}, "action": "ask"},
    ],
}


def calling(command: str) -> dict[str, Any]:
    return {**ASKS, "tool_input": {"command": command}}


def opinion(done: subprocess.CompletedProcess[str]) -> str | None:
    """What the client is told; None if it decides by itself."""
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)["hookSpecificOutput"] if done.stdout else {}
    return said.get("permissionDecision")


def ask_rules(url: str, key_file: Path, command: str, **more: Any) -> Any:
    return run(calling(command), *named(url, key_file, "60"), "--mode=rules", **more)


def test_rules_are_asked_and_their_copy_is_kept_until_there_are_others(key_file: Path) -> None:
    said = {**ALLOWED["hookSpecificOutput"], "permissionDecision": "deny"}
    first = {"hookSpecificOutput": said, "rules": RULES}
    with gate((200, first), (200, {})) as stand_in:
        done = ask_rules(stand_in.url, key_file, "rm x")
        assert json.loads(done.stdout) == {"hookSpecificOutput": said}
        copy = key_file.with_name(f"{key_file.name}.rules")
        assert json.loads(copy.read_text()) == {"url": stand_in.url, "rules": RULES}
        assert copy.stat().st_mode & 0o777 == 0o600
        assert opinion(ask_rules(stand_in.url, key_file, "touch x")) is None
    paths = [path.partition("?")[2] for path, _, _ in stand_in.asked]
    assert paths[0].startswith("mode=rules&timeout_s=1.000")
    assert "rules=" not in paths[0].partition("&")[2]
    assert paths[1].endswith("&rules=abc")


@long_but(
    2,
    "what",
    ["away", "hung", "broken", "revoked"],
)
def test_what_the_copy_names_is_asked_where_the_runtime_can_not_be(
    key_file: Path, what: str
) -> None:
    """The rest gets no opinion."""
    replies: dict[str, tuple[int, Any] | None] = {
        "away": (503, {}),
        "hung": None,
        "broken": (200, []),
        "revoked": (403, {}),
    }
    copy = key_file.with_name(f"{key_file.name}.rules")
    with gate(replies[what]) as stand_in:
        copy.write_text(json.dumps({"url": stand_in.url, "rules": RULES}))
        expected = {"git push": "ask", "rm x": "ask", "ls": None, "touch x": None}
        for command, verdict in expected.items():
            assert opinion(ask_rules(stand_in.url, key_file, command)) == verdict, command
        other = json.dumps({"url": "http://elsewhere:1", "rules": RULES})
        for text in (other, "{", json.dumps({"url": stand_in.url, "rules": {"rule": 1}}), None):
            copy.unlink(missing_ok=True)
            if text is not None:
                copy.write_text(text)
            assert opinion(ask_rules(stand_in.url, key_file, "touch x")) == "ask", text


def test_the_answer_is_there_within_two_seconds(key_file: Path) -> None:
    """Whatever takes long: it asks then."""
    with gate(None) as stand_in:
        done = ask_rules(stand_in.url, key_file, "touch x", environ={"ANSWER_S": "0.2"})
    assert opinion(done) == "ask"
    assert "in time" in done.stdout
    assert rules_hook.RUNTIME_S < rules_hook.ANSWER_S < 2.0


def test_codex_can_not_be_made_to_ask_so_a_person_decides_first(key_file: Path) -> None:
    asks = {"hookEventName": "PreToolUse", "permissionDecision": "ask"}
    no = {**asks, "permissionDecision": "deny", "permissionDecisionReason": "no"}
    first = {"hookSpecificOutput": asks, "rules": RULES}
    with gate((200, first), (200, {"hookSpecificOutput": no})) as stand_in:
        done = ask_rules(stand_in.url, key_file, "git push", client="codex")
        assert json.loads(done.stdout)["hookSpecificOutput"] == no
    modes = [path.partition("mode=")[2].partition("&")[0] for path, _, _ in stand_in.asked]
    assert modes == ["rules", "headless"]
    with gate((503, {})) as stand_in:
        copy = key_file.with_name(f"{key_file.name}.rules")
        copy.write_text(json.dumps({"url": stand_in.url, "rules": RULES}))
        done = ask_rules(stand_in.url, key_file, "git push", client="codex")
        assert "'pushes'" in denied(done)
        assert opinion(ask_rules(stand_in.url, key_file, "touch x", client="codex")) is None


def test_where_each_call_is_held_the_rules_say_nothing(key_file: Path, tmp_path: Path) -> None:
    settings = tmp_path / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    block = hooks_block(Mode.HEADLESS, "http://h:1", "/k")
    environ = {"CLAUDE_PROJECT_DIR": str(tmp_path)}
    with gate((503, {})) as stand_in:
        assert opinion(ask_rules(stand_in.url, key_file, "x", environ=environ)) == "ask"
        settings.write_text(settings_text(with_hooks({}, block)))
        assert opinion(ask_rules(stand_in.url, key_file, "x", environ=environ)) is None
        assert (
            opinion(ask_rules(stand_in.url, key_file, "x", environ={"HELMR_GATE_RUN": "s"})) is None
        )


def _loaded(url: str, key_file: Path, mode: str, event: dict[str, Any]) -> tuple[str, set[str]]:
    """What the hook says, and all modules that its process imports."""
    done = subprocess.run(
        [*TIMED, *named(url, key_file), "--mode", mode],
        input=json.dumps(event),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("mode", ["headless", "rules"])
def test_it_loads_little(key_file: Path, mode: str) -> None:
    """It runs for each call of a tool: measured, 56 ms of CPU; with Typer and pydantic it would be 500."""
    with gate((200, ALLOWED)) as stand_in:
        _, loaded = _loaded(stand_in.url, key_file, mode, ASKS)
    ours = {name for name in loaded if name.partition(".")[0] in ("helmr", "helmr_runtime")}
    hooks = {"helmr.cli.hook"} | ({"helmr.cli.rules_hook"} if mode == "rules" else set())
    assert ours <= {"helmr", "helmr.cli", "helmr.cli.start"} | hooks
    assert not loaded & {"asyncio", "dataclasses", "httpx", "pydantic", "rich", "typer", "typing"}


def test_without_a_runtime_it_loads_the_matcher_and_no_models(key_file: Path) -> None:
    """Measured, 86 ms of CPU; with pydantic it was 267."""
    copy = key_file.with_name(f"{key_file.name}.rules")
    with gate((503, {})) as stand_in:
        copy.write_text(json.dumps({"url": stand_in.url, "rules": RULES}))
        said, loaded = _loaded(stand_in.url, key_file, "rules", calling("git push"))
    assert json.loads(said)["hookSpecificOutput"]["permissionDecision"] == "ask"
    assert "helmr.matching" in loaded
    assert not loaded & {"asyncio", "httpx", "pydantic", "rich", "typer"}
    assert not {
        name for name in loaded if name.startswith(("helmr.models", "helmr.person.filters"))
    }
