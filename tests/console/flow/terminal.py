"""A command as its own process on a real pseudo-terminal, read through a terminal emulator."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyte

from tests.console.flow.walk import PASTE, PASTED
from tests.service.stack import until
from tests.warm import AwaitedWarm, Warm

CODES = {
    "escape": "\x1b",
    "enter": "\r",
    "tab": "\t",
    "space": " ",
    "slash": "/",
    "question_mark": "?",
    "exclamation_mark": "!",
    "right_square_bracket": "]",
    "left_square_bracket": "[",
    "down": "\x1b[B",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "ctrl+p": "\x10",
    "ctrl+s": "\x13",
    "ctrl+t": "\x14",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
}
"""What a terminal sends for a key."""

LOOK_EVERY_S = 0.04
QUIET_LOOKS = 4
"""Without a change on the screen, and what a key set off has been drawn."""
SETTLES_WITHIN_S = 20.0

HELMR = ("-m", "helmr.cli")
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes the terminal the command's own. Not a `preexec_fn`: between fork and exec in a process with threads it may
wait for ever on a lock that one of them held."""


class Terminal:
    """A pseudo-terminal with a command in it. `raw` is every byte it wrote.

    Args:
        columns: Cells of a line.
        lines: Lines.
        python: The interpreter that runs the command; this one if not given.
    """

    has_session = True
    """It is the command's session's own, which gets a SIGHUP when it goes."""

    def __init__(self, columns: int, lines: int, *, python: str = sys.executable) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.arrived_s = 0.0
        """When the last of it came, by the monotonic clock."""
        self.raw = bytearray()  # a console writes megabytes; bytes would be copied for each read
        self._text: str | None = ""
        self._python = python
        self.master, self.slave = pty.openpty()
        self._size(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self._process: asyncio.subprocess.Process | AwaitedWarm | None = None

    async def start(self, url: str, key: str, folder: Path, *options: str, **environ: str) -> None:
        """Run the installed `helmr console`."""
        places = {
            "HELMR_API_KEY": key,
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }
        await self.run("-m", "helmr.cli", "console", "--url", url, *options, **places, **environ)

    async def run(self, *arguments: str, **environ: str) -> None:
        """Run Python with these arguments; the terminal is its own. A `helmr` is forked."""
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environ}
        env.pop("NO_COLOR", None)
        if arguments[:2] == HELMR and self._python == sys.executable:
            one = Warm(
                arguments[2:],
                env=env,
                files=[self.slave] * 3,
                has_session=True,
                has_terminal=self.has_session,
            )
            self._process = AwaitedWarm(one)
        else:
            self._process = await asyncio.create_subprocess_exec(
                self._python, "-c", TAKE_TERMINAL, *arguments,
                stdin=self.slave, stdout=self.slave, stderr=self.slave, env=env, start_new_session=True,
            )  # fmt: skip
        asyncio.get_running_loop().add_reader(self.master, self._read)

    @property
    def process(self) -> asyncio.subprocess.Process | AwaitedWarm:
        """The command."""
        assert self._process is not None, "nothing was started"
        return self._process

    @property
    def is_running(self) -> bool:
        """Whether the command was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    def _read(self) -> None:
        try:
            data = os.read(self.master, 65_536)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.master)
            return
        self.arrived_s = time.monotonic()
        self._take(data)

    def _take(self, data: bytes) -> None:
        self.raw += data
        # pyte 0.8 takes some private modes for others; what is on screen does not depend on them.
        self._stream.feed(data)
        self._text = None

    def text(self) -> str:
        """What is on the screen."""
        if self._text is None:  # put together once for all looks in between
            self._text = "\n".join(line.rstrip() for line in self.screen.display)
        return self._text

    async def sees(self, text: str) -> None:
        """Return when this is on the screen."""
        try:
            await until(lambda: text in self.text())
        except TimeoutError:
            raise AssertionError(f"{text!r} is not on:\n{self.text()}") from None

    async def shows(self, pattern: str) -> None:
        """Return when a line of the screen has what this regular expression says."""
        try:
            await until(lambda: re.search(pattern, self.text()) is not None)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} is not on:\n{self.text()}") from None

    async def comes_to(self, text: str, *, within_s: float) -> None:
        """Return when this is on the screen; fails at once if the command ends before."""
        try:
            async with asyncio.timeout(within_s):
                while text not in self.text():
                    assert self.process.returncode is None, self.text()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{text!r} is not on:\n{self.text()}") from None

    async def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())
        await asyncio.sleep(0)

    async def presses(self, key: str, typed: Mapping[str, str]) -> None:
        """A key of the walk by Textual's name; returns when the console has read it and draws no more for it."""
        codes = {**CODES, **typed, PASTE: f"\x1b[200~{PASTED}\x1b[201~"}
        await self.press(codes[key] if len(key) > 1 else key)
        async with asyncio.timeout(SETTLES_WITHIN_S):
            while self._unread():
                await asyncio.sleep(LOOK_EVERY_S)
            looks, seen = 0, ""
            while looks < QUIET_LOOKS:
                await asyncio.sleep(LOOK_EVERY_S)
                now = _words(self.text())
                looks, seen = (looks + 1, seen) if now == seen else (0, now)

    def _unread(self) -> int:
        """Bytes typed that the command has not read."""
        waiting = fcntl.ioctl(self.slave, termios.FIONREAD, struct.pack("i", 0))
        return int(struct.unpack("i", waiting)[0])

    def resize(self, columns: int, lines: int) -> None:
        """Another window size."""
        self.screen.resize(lines, columns)
        self._text = None
        self._size(columns, lines)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the window."""
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        self.master = -1

    async def ended(self, *, within_s: float = 20) -> int:
        """The exit code."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    def modes(self) -> list[Any]:
        """The terminal's settings now."""
        return termios.tcgetattr(self.slave)

    async def close(self) -> None:
        """End what still runs."""
        if self.is_running:
            self.process.kill()
            await self.process.wait()
        if self.master >= 0:
            self.hang_up()
        os.close(self.slave)


def _words(text: str) -> str:
    """What stands there, without what changes by itself: counts and times."""
    return re.sub(r"\d", "", text)
