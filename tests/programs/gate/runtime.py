"""A real runtime whose gate is on, for clients that are real too: its questions, answers and what became of calls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from helmr.gate import CALL_TASK
from tests.programs.benchmarks.processes import free_port
from tests.programs.gate.tmux import RUN_S
from tests.stack.live import LiveRuntime, until

HELMR = Path(sys.executable).parent / "helmr"
WITHIN_S = 30.0
LOOKS = """
[[gate.rule]]
name = "looks"
tool = "Bash"
matches = {command = "ls*"}
action = "allow"
"""
"""Rules of which one allows."""

SECRETS = ("*.key", "settings.json", "hooks.json")
"""Files that hold keys, or say where they are."""


class AgentHome(Protocol):
    """Where one user's agent runs."""

    @property
    def folder(self) -> Path:
        """The user's home."""

    @property
    def project(self) -> Path:
        """Where it works."""

    @property
    def settings(self) -> Path:
        """The file of its hooks."""

    @property
    def environ(self) -> dict[str, str]:
        """Of its processes."""

    @property
    def in_terminal(self) -> str:
        """The command that starts the interactive one."""

    def prepare(self) -> None:
        """As after its first start."""


@contextmanager
def gated_runtime(folder: Path, rules: str = LOOKS, **given: Any) -> Iterator[LiveRuntime]:
    """A runtime with these rules; what holds a key is gone afterwards.

    Args:
        given: More of `LiveRuntime`.
    """
    (folder / "helmr.toml").write_text(rules)
    live = LiveRuntime(folder, in_process=True, port=free_port(), **given)
    try:
        yield live.start()
    finally:
        live.stop()
        forget_keys(folder)


def forget_keys(folder: Path) -> None:
    """Remove the files below it that hold keys."""
    for pattern in SECRETS:
        for path in folder.rglob(pattern):
            path.unlink()


def environ_of(runtime: LiveRuntime) -> dict[str, str]:
    """Of the commands of a user whose runtime it is."""
    return {
        "XDG_CONFIG_HOME": str(runtime.folder / "config"),
        "HELMR_URL": runtime.credentials.url,
        "HELMR_API_KEY": runtime.credentials.key or "",
    }


def install(
    runtime: LiveRuntime, home: AgentHome, client: str, *options: str, timeout_s: int = 600
) -> None:
    """Put the hooks into a user's client as `helmr gate install` does, and shorten the time of those that ask."""
    home.prepare()
    environ: Mapping[str, str] = {**os.environ, **home.environ, **environ_of(runtime)}
    words = [str(HELMR), "gate", "install", client, "--yes", *options]
    subprocess.run(words, env=environ, cwd=home.project, check=True, timeout=RUN_S)
    text = home.settings.read_text()
    for was, now in (("--timeout 600", f"--timeout {timeout_s}"), ("_s=600", f"_s={timeout_s}")):
        text = text.replace(was, now)
    home.settings.write_text(text.replace('"timeout": 600', f'"timeout": {timeout_s}'))


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
    """Answer the one question that there is, once it is there; the wait."""
    (wait,) = asked(runtime)
    runtime.client.waits.answer(wait.id, data)
    return wait


def statuses(runtime: LiveRuntime) -> list[str]:
    """Of the sessions of all calls, once none is open."""

    def are_over() -> list[str] | None:
        found = [str(one.status) for one in runtime.client.sessions.list(task=CALL_TASK)]
        return found if found and "open" not in found else None

    return until(are_over, within_s=WITHIN_S, what="the end of all calls")
