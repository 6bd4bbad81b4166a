"""Claude Code itself, run against the stand-in of the model: from npm, in a home of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmr.gate.claude_code import HookEvent
from tests.programs.gate import npm
from tests.programs.gate.model_api import ModelApi
from tests.programs.gate.runtime import install
from tests.programs.gate.tmux import RUN_S
from tests.stack.live import LiveRuntime

PROGRAM = npm.program("claude")
VERSION = npm.VERSIONS["@anthropic-ai/claude-code"]
API_KEY = "sk-ant-stand-in-of-a-key-0123456789"


@dataclass(frozen=True)
class ClaudeHome:
    """Where one user's Claude Code runs.

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
        """The user's settings."""
        return self.folder / ".claude" / "settings.json"

    def prepare(self) -> None:
        """As after the first start, whose questions are no part of a test."""
        self.project.mkdir(parents=True, exist_ok=True)
        self.settings.parent.mkdir(exist_ok=True)
        known = {
            "hasCompletedOnboarding": True,
            "lastOnboardingVersion": VERSION,
            "theme": "dark",
            "bypassPermissionsModeAccepted": True,
            "customApiKeyResponses": {"approved": [API_KEY[-20:]], "rejected": []},
            "projects": {
                str(self.project): {
                    "hasTrustDialogAccepted": True,
                    "hasCompletedProjectOnboarding": True,
                }
            },
        }
        (self.folder / ".claude.json").write_text(json.dumps(known))

    def record(self) -> Path:
        """Have each hook write what it is given; the file, an event a line."""
        log = self.folder / "events.jsonl"
        write = {"type": "command", "command": f"tr -d '\\n' >> {log}; echo >> {log}"}
        kinds = [kind.value for kind in HookEvent]
        hooks = {kind: [{"matcher": "*", "hooks": [write]}] for kind in kinds}
        self.settings.write_text(json.dumps({"hooks": hooks}))
        return log

    @property
    def environ(self) -> dict[str, str]:
        """Of the client: its home, the model, and nothing that asks the internet."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.folder),
            "ANTHROPIC_BASE_URL": self.api.url,
            "ANTHROPIC_API_KEY": API_KEY,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",
            "CLAUDE_CODE_AUTO_MODE_SERVER": "0",  # its check runs here, against the stand-in
        }

    @property
    def in_terminal(self) -> str:
        """The command that starts the interactive one, its prompt behind it."""
        return str(PROGRAM)

    def start(
        self, *options: str, prompt: str = "go", environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A headless run; not waited for."""
        return subprocess.Popen(
            [str(PROGRAM), "-p", prompt, "--output-format", "json", *options],
            cwd=self.project,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, **given: Any) -> dict[str, Any]:
        """A headless run, and its result."""
        with self.start(*options, **given) as process:
            out, err = process.communicate(timeout=RUN_S)
        assert process.returncode == 0, (out, err)
        found: dict[str, Any] = json.loads(out)
        return found


def bash(call_id: str, command: str) -> tuple[str, str, dict[str, Any]]:
    """A call of the shell, as the model makes it."""
    return (call_id, "Bash", {"command": command, "description": "Do it"})


def plan_file(api: ModelApi) -> str:
    """Where the client, in plan mode, has told its model to write the plan: the call that shows it has no text."""
    found = re.search(r"/[^\s\"\\]*/plans/[^\s\"\\]*\.md", json.dumps(api.asked))
    assert found is not None, "the client names no file for its plan"
    return found[0]


def made(project: Path) -> Sequence[str]:
    """What the calls have left: the files in the project."""
    return sorted(one.name for one in project.iterdir() if one.is_file())


def claude_home(
    runtime: LiveRuntime, api: ModelApi, *options: str, timeout_s: int = 600
) -> ClaudeHome:
    """A user's client, with the hooks that `helmr gate install` has put there."""
    found = ClaudeHome(runtime.folder / "home", api)
    install(runtime, found, "claude-code", *options, timeout_s=timeout_s)
    return found
