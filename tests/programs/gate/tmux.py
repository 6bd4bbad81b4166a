"""A real terminal, tmux, in which clients and commands run as at a user's desk."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.stack.live import until

RUN_S = 120.0
COLUMNS, LINES = 110, 40


class TmuxTerminal:
    """One terminal with a server of its own.

    Args:
        folder: For the server's socket.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
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

    def start(self, command: str, environ: Mapping[str, str], folder: Path) -> None:
        """Start a command in it."""
        given = [word for name, value in environ.items() for word in ("-e", f"{name}={value}")]
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        self._tmux("new-session", "-d", *size, "-c", str(folder), *given, command)

    def screen(self) -> str:
        """What it shows."""
        return self._tmux("capture-pane", "-p", "-J")  # wrapped lines as one

    def shows(self, *texts: str, within_s: float = RUN_S) -> None:
        """Wait until it shows all of these."""

        def are_there() -> bool:
            screen = self.screen()
            return all(text in screen for text in texts)

        until(are_there, within_s=within_s, what=str(texts), seen=self.screen)

    def types(self, *keys: str) -> None:
        """Press these keys."""
        self._tmux("send-keys", *keys)

    def enters(self, line: str) -> None:
        """Type a line, and Enter."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def end(self) -> None:
        """End it, and what runs in it."""
        self._tmux("kill-server")
