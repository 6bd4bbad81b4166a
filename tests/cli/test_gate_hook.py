"""The hook's program: it carries an event and its decision, and denies whenever it can't."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helmr import ids
from tests.longer import long_but

ALLOWED = {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": "allow"}}
ASKS = {"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {}}
TIMED = (sys.executable, "-X", "importtime", "-m", "helmr.cli", "gate", "hook", "claude-code")
REPORTS = {**ASKS, "hook_event_name": "PostToolUse"}
HOOK = """
import sys
from helmr.cli import hook
hook.PATIENCE_S, hook.PAUSE_S, hook.MARGIN_S = 1.0, 0.01, 1.0
hook.main(sys.argv[1], sys.argv[2:])
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


def run(event: Any, *options: str, client: str = "claude-code") -> subprocess.CompletedProcess[str]:
    given = event if isinstance(event, str) else json.dumps(event)
    return subprocess.run(
        [sys.executable, "-c", HOOK, client, *options],
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={},
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
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Helmr can't ask a person about this call: ")
    assert why in done.stderr


@long_but(1, "event", [ASKS, "{", "[]"], ids=["event", "cut", "no object"])
def test_without_a_runtime_every_call_is_denied(key_file: Path, event: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = run(event, *named(url, key_file))
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
    assert run(ASKS, *options).returncode == 2


def test_a_report_that_can_not_be_made_stops_no_one(key_file: Path) -> None:
    with gate((403, {"detail": "no"})) as stand_in:
        done = run(REPORTS, *named(stand_in.url, key_file))
    assert (done.returncode, done.stdout) == (0, "")
    with gate(None) as stand_in:
        assert run(REPORTS, *named(stand_in.url, key_file, "2.5")).returncode == 0


def test_it_loads_little(key_file: Path) -> None:
    """It runs for each call of a tool: measured, 56 ms of CPU; with Typer and pydantic it would be 500."""
    with gate((200, ALLOWED)) as stand_in:
        done = subprocess.run(
            [*TIMED, *named(stand_in.url, key_file)],
            input=json.dumps(ASKS),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    ours = {name for name in loaded if name.partition(".")[0] in ("helmr", "helmr_runtime")}
    assert ours <= {"helmr", "helmr.cli", "helmr.cli.start", "helmr.cli.hook"}
    assert not loaded & {"asyncio", "dataclasses", "httpx", "pydantic", "rich", "typer", "typing"}
