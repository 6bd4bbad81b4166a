"""The installed command on a real terminal: it answers, resizes, survives the gateway, and leaves no mess."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from helmr.cli.app import ExitCode
from tests.console.flow.bench import Bench
from tests.console.flow.terminal import Terminal
from tests.console.flow.walk import STEPS, hostile_everywhere
from tests.hostile import HOSTILE
from tests.service.stack import until
from tests.warm import Warm

pytestmark = [pytest.mark.pty, pytest.mark.allows_blocking]

ALTERNATE_OFF = b"\x1b[?1049l"
CURSOR_ON = b"\x1b[?25h"
MOUSE_OFF = b"\x1b[?1000l"


def _more_than(terminal: Terminal, written: int) -> bool:
    return len(terminal.raw) > written


@pytest.fixture(
    params=[(120, 36), pytest.param((80, 24), marks=pytest.mark.long)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
async def terminal(request: pytest.FixtureRequest) -> AsyncIterator[Terminal]:
    """A terminal; the test starts the console in it."""
    found = Terminal(*request.param)
    yield found
    await found.close()


def is_sane(terminal: Terminal) -> None:
    """The terminal is as it was before."""
    for code in (ALTERNATE_OFF, CURSOR_ON, MOUSE_OFF):
        assert code in terminal.raw
    assert terminal.modes() == terminal.before


async def test_a_wait_is_answered_and_the_console_left(
    bench: Bench, terminal: Terminal, tmp_path: Path
) -> None:
    wait = await bench.ask(subject="Publish A?", timeout="5m")
    await bench.ask(subject="Publish B?", timeout="30m")
    await terminal.start(bench.stack.url, bench.stack.key, tmp_path, "--on-behalf-of", "ana")
    await terminal.sees("Publish A?")
    await terminal.sees("approve | reject | edit")
    await terminal.press("a")
    await terminal.sees("( ) approve")
    await terminal.press(" ")
    await terminal.sees("(•) approve")
    await terminal.press("\x13")
    await terminal.sees('"decision": "approve"')
    await terminal.sees("^s sends it.")
    await terminal.press("\x13")
    await terminal.sees("✓ ")
    await bench.stack.run_until(wait["run"]["id"], "succeeded")
    assert (await bench.wait(wait["id"]))["resolved_by"]["on_behalf_of"] == "ana"
    await terminal.press("q")
    assert await terminal.ended() == 0
    is_sane(terminal)


async def test_sigterm_leaves_the_terminal_sane(
    bench: Bench, terminal: Terminal, tmp_path: Path
) -> None:
    await bench.ask(subject="Publish A?")
    await terminal.start(bench.stack.url, bench.stack.key, tmp_path)
    await terminal.sees("Publish A?")
    terminal.process.send_signal(signal.SIGTERM)
    assert await terminal.ended() == 128 + signal.SIGTERM
    is_sane(terminal)


CLOSES: dict[str, tuple[Callable[[Terminal], None], signal.Signals]] = {
    "SIGTERM": (lambda one: one.process.send_signal(signal.SIGTERM), signal.SIGTERM),
    "SIGHUP": (lambda one: one.process.send_signal(signal.SIGHUP), signal.SIGHUP),
    "gone": (Terminal.hang_up, signal.SIGHUP),
    "gone, of no session": (Terminal.hang_up, signal.SIGHUP),
}
"""What ends a console from outside, and the signal that its exit code names."""


@pytest.mark.parametrize("how", CLOSES)
async def test_a_window_that_is_closed_gives_its_claim_back(
    bench: Bench, terminal: Terminal, tmp_path: Path, how: str
) -> None:
    terminal.has_session = how != "gone, of no session"
    closes, number = CLOSES[how]
    wait = await bench.ask(subject="Publish A?")
    await terminal.start(bench.stack.url, bench.stack.key, tmp_path, "--on-behalf-of", "ana")
    await terminal.sees("Publish A?")
    await terminal.press("a")
    await terminal.sees("( ) approve")

    async def is_claimed() -> bool:
        return (await bench.wait(wait["id"]))["claim"] is not None

    await bench.until(is_claimed)
    closes(terminal)
    assert await terminal.ended() == 128 + number
    assert not await is_claimed()


async def test_a_terminal_is_no_place_for_it_whose_stdin_is_at_its_end(
    terminal: Terminal, tmp_path: Path
) -> None:
    reads, writes = os.pipe()
    os.close(writes)
    ended = os.open(os.devnull, os.O_RDONLY)
    for stdin in (ended, reads):
        command = Warm(
            ["console", "--url", "http://127.0.0.1:9"],
            env={**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path)},
            files=[stdin, terminal.slave, terminal.slave],
            has_session=True,
        )
        os.close(stdin)
        assert await asyncio.to_thread(command.wait, 30.0) == ExitCode.USAGE
        said = os.read(terminal.master, 65_536).decode()
        assert said.startswith("helmr: the console needs a terminal")
        assert "\x1b" not in said, "nothing was drawn"


async def test_keys_typed_before_it_is_there_are_not_for_it(
    bench: Bench, terminal: Terminal, tmp_path: Path
) -> None:
    """Somebody who waits for a slow start presses keys; an early `q` would end the console unseen."""
    await bench.ask(subject="Publish A?")
    await terminal.press("q")
    await terminal.start(bench.stack.url, bench.stack.key, tmp_path)
    await terminal.sees("Publish A?")
    await terminal.press("q")
    assert await terminal.ended() == 0


BROKEN = """
from helmr_console.app import ConsoleApp
def on_mount(self):
    secret = "said by a session"
    raise RuntimeError(secret)
ConsoleApp.on_mount = on_mount
from helmr.cli.main import main
main()
"""


@pytest.mark.long
async def test_a_fault_at_the_start_is_one_clear_line(terminal: Terminal, tmp_path: Path) -> None:
    await terminal.run(
        "-c", BROKEN, "console", "--url", "http://127.0.0.1:9", XDG_STATE_HOME=str(tmp_path)
    )
    assert await terminal.ended() == 1
    await terminal.sees("helmr: the console met a fault of its own: RuntimeError at")
    await terminal.sees("hint: Start it again, drafts are kept; the trace is in")
    assert "Traceback" not in terminal.text()
    assert b"said by a session" not in terminal.raw
    is_sane(terminal)
    log = (tmp_path / "helmr" / "console" / "console.log").read_text()
    assert "RuntimeError: said by a session" in log


@pytest.mark.long
async def test_a_resize_while_it_starts_is_followed(
    bench: Bench, terminal: Terminal, tmp_path: Path
) -> None:
    await bench.ask(subject="Publish A?")
    await terminal.start(bench.stack.url, bench.stack.key, tmp_path)
    terminal.resize(50, 12)  # before it reads its size
    for columns, lines in ((130, 40), (61, 17), (100, 30)):  # while it draws its first frames
        written = len(terminal.raw)
        await until(partial(_more_than, terminal, written))
        terminal.resize(columns, lines)
    await terminal.sees("Publish A?")
    await terminal.sees("3 Activity")
    await terminal.press("q")
    assert await terminal.ended() == 0


@pytest.mark.long
async def test_a_resize_is_followed(bench: Bench, terminal: Terminal, tmp_path: Path) -> None:
    await bench.ask(subject="Publish A?")
    await terminal.start(bench.stack.url, bench.stack.key, tmp_path)
    await terminal.sees("Publish A?")
    terminal.resize(50, 12)
    await terminal.sees("needs 60 by 16")
    terminal.resize(110, 30)
    await terminal.sees("3 Activity")
    await terminal.press("q")
    assert await terminal.ended() == 0


@pytest.mark.long
async def test_a_killed_gateway_is_shown_and_the_console_stays(
    bench: Bench, terminal: Terminal, tmp_path: Path
) -> None:
    await bench.ask(subject="Publish A?")
    bench.wire._target = int(bench.stack.url.rpartition(":")[2])
    await bench.wire.start()
    url = f"http://127.0.0.1:{bench.wire.port}"
    await terminal.start(url, bench.stack.key, tmp_path)
    await terminal.sees("Publish A?")
    await bench.wire.cut()
    await terminal.sees("STALE")

    async def is_refused() -> bool:
        # What could not be read is told in the same line, and may be so just now.
        await terminal.press("a")
        await asyncio.sleep(0.1)
        return "not answering" in terminal.text()

    await until(is_refused)
    await bench.wire.start()
    await terminal.press("r")
    await terminal.sees("live")
    await terminal.press("q")
    assert await terminal.ended() == 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("terminal", [(120, 36)], indirect=True, ids=["120x36"])
async def test_hostile_text_sends_no_byte_of_its_own(
    bench: Bench, terminal: Terminal, tmp_path: Path
) -> None:
    """Every screen, by the walk that the in-process test checks for completeness."""
    wait, typed = await hostile_everywhere(bench)
    await terminal.start(
        bench.stack.url, bench.stack.key, tmp_path, "--on-behalf-of", HOSTILE[:60].replace("\0", "")
    )
    await terminal.sees("3 waits")  # all of them, and so the cursor on the first
    for step in STEPS:
        for key in step.keys:
            await terminal.presses(key, typed)
        await terminal.sees(step.sees)
    assert terminal.is_running
    assert (await bench.wait(wait["id"]))["status"] == "pending", "no action ran"
    await terminal.press("q")
    assert await terminal.ended() == 0
    own = terminal.raw.decode("utf-8", "strict")
    assert "\x1b]52" not in own
    assert "\x1b]0" not in own
    assert not re.search("[\x80-\x9f\u202a-\u202e\u2066-\u2069\u200b]", own)
    assert "\x1b[31mred" not in own
    # What is left after taking CSI, charset and mode sequences away holds no control but line ends.
    # OSC 22 sets the shape of the mouse pointer.
    codes = r"\x1b(\[[0-?]*[ -/]*[@-~]|P[^\x1b]*\x1b\\|\]22;[a-z]*(\x1b\\|\x07)|[()][AB0]|[=>78cM])"
    rest = re.sub(codes, "", own)
    assert "\x1b" not in rest
    assert not re.search("[\x00-\x07\x0b\x0c\x0e-\x1f\x7f]", rest)
    is_sane(terminal)


BLOCKS, BLOCK = 100, 20_000
DRAWS = f"""
import sys
from helmr_console.start import draw_buffered
draw_buffered()
for _ in range({BLOCKS}):
    sys.__stderr__.write("x" * {BLOCK})
    sys.__stderr__.flush()
"""


@pytest.mark.long
def test_what_a_stop_has_cut_short_is_written_on_also_by_a_python_that_buffers_nothing() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    drawing = subprocess.Popen(
        [sys.executable, "-c", DRAWS], stderr=slave, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    os.close(slave)

    def stops_it_often() -> None:
        while drawing.poll() is None:
            for number in (signal.SIGSTOP, signal.SIGCONT):
                with suppress(ProcessLookupError):
                    os.kill(drawing.pid, number)
                time.sleep(0.002)

    stopping = threading.Thread(target=stops_it_often)
    stopping.start()
    arrived = 0
    with suppress(OSError):  # EIO: the process has ended
        while data := os.read(master, 65_536):
            arrived += len(data)
            time.sleep(0.0005)  # a terminal that draws: its buffer is full most of the time
    stopping.join()
    os.close(master)
    assert arrived == BLOCKS * BLOCK
