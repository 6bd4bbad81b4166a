"""Claude Code itself, run against the stand-in of the model: from npm, in a home of its own.

`npm install --prefix .bench @anthropic-ai/claude-code@2.1.197` puts it where this looks.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmr.gate.claude_code import HookEvent
from tests.programs.gate.model_api import ModelApi
from tests.stack.live import until

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / ".bench" / "node_modules" / ".bin" / "claude"
VERSION = "2.1.197"
RUN_S = 60.0
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
        }

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


def made(project: Path) -> Sequence[str]:
    """What the calls have left: the files in the project."""
    return sorted(one.name for one in project.iterdir() if one.is_file())


class Terminal:
    """A real terminal, tmux, in which the interactive client runs.

    Args:
        folder: For the socket of its own server.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._socket = folder / "s"

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        return done.stdout

    def start(self, home: ClaudeHome, prompt: str = "go") -> None:
        """Start the client with a prompt."""
        given = [word for name, value in home.environ.items() for word in ("-e", f"{name}={value}")]
        place = ["-x", "110", "-y", "40", "-c", str(home.project), *given]
        self._tmux("new-session", "-d", *place, f"{PROGRAM} {prompt}")

    def screen(self) -> str:
        """What it shows."""
        return self._tmux("capture-pane", "-p")

    def shows(self, text: str) -> None:
        """Wait until it shows this."""
        until(lambda: text in self.screen(), within_s=RUN_S, what=text, seen=self.screen)

    def types(self, *keys: str) -> None:
        """Press these keys."""
        self._tmux("send-keys", *keys)

    def end(self) -> None:
        """End it, and the client."""
        self._tmux("kill-server")
