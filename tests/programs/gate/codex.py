"""Codex itself, run against the stand-in of the model: from npm, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.programs.gate import npm
from tests.programs.gate.model_api import Block, ModelApi
from tests.programs.gate.runtime import install
from tests.stack.live import LiveRuntime

PROGRAM = npm.program("codex")
VERSION = npm.VERSIONS["@openai/codex"]
TRUST = "--dangerously-bypass-hook-trust"
"""In place of the review by which a user trusts hooks once."""

RECORDED_KINDS = (
    "PermissionRequest",
    "PreToolUse",
    "PostToolUse",
    "Stop",
    "SessionEnd",
)

CONFIG = """
model = "gpt-5.1-codex"
model_provider = "standin"
approval_policy = "on-request"
sandbox_mode = "danger-full-access"

[model_providers.standin]
name = "standin"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "STANDIN_KEY"

[projects."{project}"]
trust_level = "trusted"
"""


@dataclass(frozen=True)
class CodexHome:
    """Where one user's Codex runs.

    Attributes:
        folder: Holds the user's settings, and the project that it works in.
        api: The model that it asks.
    """

    folder: Path
    api: ModelApi

    @property
    def project(self) -> Path:
        """Where it works."""
        return self.folder / "project"

    @property
    def settings(self) -> Path:
        """The user's hooks."""
        return self.folder / ".codex" / "hooks.json"

    def prepare(self) -> None:
        """As after the first start, whose questions are no part of a test."""
        self.project.mkdir(parents=True, exist_ok=True)
        self.settings.parent.mkdir(exist_ok=True)
        config = CONFIG.format(url=self.api.url, project=self.project)
        (self.folder / ".codex" / "config.toml").write_text(config)

    def record(self) -> Path:
        """Have each hook write what it is given; the file, an event a line."""
        log = self.folder / "events.jsonl"
        write = {"type": "command", "command": f"tr -d '\\n' >> {log}; echo >> {log}", "timeout": 3}
        hooks = {kind: [{"matcher": "*", "hooks": [write]}] for kind in RECORDED_KINDS}
        self.settings.write_text(json.dumps({"hooks": hooks}))
        return log

    @property
    def environ(self) -> dict[str, str]:
        """Of the client: its home and the model."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "STANDIN_KEY": "x"}

    @property
    def in_terminal(self) -> str:
        """The command that starts the interactive one, its prompt behind it."""
        return f"{PROGRAM} {TRUST} --sandbox workspace-write"

    def start(self, *options: str, prompt: str = "go") -> subprocess.Popen[str]:
        """A headless run; not waited for."""
        return subprocess.Popen(
            [str(PROGRAM), "exec", "--skip-git-repo-check", *options, prompt],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def shell(call_id: str, command: str, *, escalated: bool = False) -> Block:
    """A call of the shell, as the model makes it.

    Args:
        escalated: It is to run outside the sandbox, about which the interactive client asks its user.
    """
    more = {"sandbox_permissions": "require_escalated", "justification": "May I?"}
    return (call_id, "exec_command", {"cmd": command, **(more if escalated else {})})


def codex_home(
    runtime: LiveRuntime, api: ModelApi, *options: str, timeout_s: int = 600
) -> CodexHome:
    """A user's client, with the hooks that `helmr gate install` has put there."""
    found = CodexHome(runtime.folder / "home", api)
    install(runtime, found, "codex", *options, timeout_s=timeout_s)
    return found
