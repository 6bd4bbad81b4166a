"""The console as its own process on a real pseudo-terminal, read through a terminal emulator."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pyte

from tests.service.stack import until


class Terminal:
    """A pseudo-terminal with `helmr console` in it. `raw` is every byte it wrote."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.master, self.slave = pty.openpty()
        self._size(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self.process: asyncio.subprocess.Process

    async def start(self, url: str, key: str, folder: Path, *options: str, **environ: str) -> None:
        """Run the installed command."""
        env = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "HELMR_API_KEY": key,
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            **environ,
        }
        env.pop("NO_COLOR", None)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "helmr.cli", "console", "--url", url, *options,
            stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env, start_new_session=True,
            preexec_fn=self._take_terminal,
        )  # fmt: skip
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def _take_terminal(self) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def _read(self) -> None:
        try:
            data = os.read(self.master, 65_536)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.master)
            return
        self.raw += data
        # pyte 0.8 takes some private modes for others; what is on screen does not depend on them.
        self._stream.feed(data)

    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    async def sees(self, text: str) -> None:
        """Return when this is on the screen."""
        try:
            await until(lambda: text in self.text())
        except TimeoutError:
            raise AssertionError(f"{text!r} is not on:\n{self.text()}") from None

    async def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())
        await asyncio.sleep(0)

    def resize(self, columns: int, lines: int) -> None:
        """Another window size."""
        self.screen.resize(lines, columns)
        self._size(columns, lines)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    async def ended(self) -> int:
        """The exit code."""
        async with asyncio.timeout(20):
            return await self.process.wait()

    def modes(self) -> list[Any]:
        """The terminal's settings now."""
        return termios.tcgetattr(self.slave)

    async def close(self) -> None:
        """End what still runs."""
        asyncio.get_running_loop().remove_reader(self.master)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self.master)
        os.close(self.slave)
