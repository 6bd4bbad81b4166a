"""`helmr demo --console` on a real terminal: from the command to an answered approval, on screen and in the ledger."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from helmr.client.aio import AsyncClient
from helmr.client.discovery import find_runtime
from helmr.examples import demo
from helmr.models import WaitInfo
from tests.console.flow.terminal import Terminal

READY_S = 240
END_S = 90
KEYS_MAX = 6
REVIEW = SEND = "\x13"
PERSON = "ana"
SIGNS = (
    ("[1 Inbox]", "Publish the", "security: passed", "a Answer"),
    ("This is sent, exactly", '"decision": "approve"', PERSON, "^s Send"),
    ("✓ Publish the",),
    ("input.accepted", "wait.fulfilled", "step.succeeded", "output.appended", "run.succeeded"),
)
"""What the screens show, in their order: the inbox, the review, afterwards, the transcript."""


class Operator:
    """Somebody at a terminal, the keys they pressed and the screens they looked at."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.keys: list[str] = []
        self.screens: list[str] = []

    async def press(self, key: str, *, then: str) -> None:
        self.keys.append(key)
        await self.terminal.press(key)
        await self.terminal.sees(then)

    def look(self) -> None:
        self.screens.append(self.terminal.text().rstrip("\n"))

    async def answers_the_first_approval(self) -> None:
        """Go to it, open it, choose, review, send."""
        await self.terminal.sees("security: passed")  # the pane of the first row is there
        self.look()
        lines = self.terminal.text().splitlines()
        head = next(number for number, line in enumerate(lines) if re.search("due +subject", line))
        rows = [*takewhile(lambda line: line.split("│")[1].strip(), lines[head + 1 :])]
        place = next(number for number, row in enumerate(rows) if " Publish the " in row)
        for row in rows[1 : place + 1]:
            # Ages change meanwhile, and how much of a subject there is room for.
            subject = re.split("  +", row[1:].split("│")[0].rstrip())[-1]
            self.keys.append("j")
            await self.terminal.press("j")
            await self.terminal.shows(rf"│▌.*{re.escape(subject[:12])}")
        await self.press("a", then="( ) approve")
        await self.press(" ", then="(•) approve")
        await self.press(REVIEW, then="This is sent, exactly")
        await self.terminal.sees("^s sends it.")
        self.look()
        await self.press(SEND, then="✓ Publish the")
        self.look()


@asynccontextmanager
async def opened(columns: int, lines: int) -> AsyncIterator[Terminal]:
    terminal = Terminal(columns, lines)
    try:
        yield terminal
    finally:
        if terminal.is_running:
            terminal.process.send_signal(signal.SIGTERM)
            await terminal.ended(within_s=END_S)
        await terminal.close()


async def went_on(client: AsyncClient, wait: WaitInfo) -> None:
    """The ledger has exactly this answer, by this person, and the run that went on behind it."""
    run = await client.runs.wait(wait.run_id, timeout=60)
    assert run.status == "succeeded"
    assert run.result["status"] == "posted"
    held = await client.waits.get(wait.id)
    assert held.status == "fulfilled"
    assert held.resolved_by is not None
    assert held.resolved_by.on_behalf_of == PERSON
    session = client.sessions.open(wait.session_id)
    records = [one async for one in session.input("approval").list()]
    assert [one.data for one in records if one.consumed_by == wait.id] == [{"decision": "approve"}]
    kinds = [entry.kind async for entry in session.transcript()]
    assert kinds[-6:] == [
        "input.accepted", "wait.fulfilled", "step.started", "step.succeeded", "output.appended",
        "run.succeeded",
    ]  # fmt: skip


async def printed(place: Path, *arguments: str) -> str:
    """What a command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "helmr.cli", "--data-dir", str(place / "data"), *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def shows(screens: list[str]) -> None:
    """Each screen holds what it is there to show: a live runtime moves."""
    assert len(screens) == 2 * len(SIGNS)
    for number, seen in enumerate(screens):
        for sign in SIGNS[number % len(SIGNS)]:
            assert sign in seen, f"screen {number}"


@pytest.mark.long  # what it consists of: test_demo.py, tests/examples/test_seed.py, tests/console/flow/test_terminal.py
@pytest.mark.ray
@pytest.mark.pty
@pytest.mark.slow
@pytest.mark.allows_blocking
@pytest.mark.timeout(500)
async def test_five_keys_from_the_demo_to_an_answer_at_both_sizes() -> None:
    """At 120x36 in the demo's own console, then at 80x24 in a second one on the same runtime."""
    # Ray's sockets need a short path, which pytest's own folders are not.
    with tempfile.TemporaryDirectory(prefix="hd-") as folder:
        # HELMR_URL names another runtime, which is not to be touched.
        environ = {"TMPDIR": folder, "USER": PERSON, "HELMR_URL": "http://127.0.0.1:9"}
        async with opened(120, 36) as terminal:
            await terminal.run("-m", "helmr.cli", "demo", "--console", **environ)
            await terminal.comes_to("[1 Inbox]", within_s=READY_S)
            seen = set(demo.family(terminal.process.pid))
            (place,) = places(folder)
            screens = await both_sizes(terminal, place)
            seen |= set(demo.family(terminal.process.pid))
            await terminal.press("q")
            assert await terminal.ended(within_s=END_S) == 0
            await terminal.sees("no process is left")
            assert demo.alive(seen) == []
            assert places(folder) == []
    shows(screens)


def places(folder: str) -> list[Path]:
    """The demos' own folders."""
    return list(Path(folder).glob("helmr-demo-*"))


async def both_sizes(terminal: Terminal, place: Path) -> list[str]:
    """Answer the first approval in this terminal and the next in a smaller one; what there was to see."""
    endpoint = find_runtime(data_dir=place / "data", environ={})
    async with AsyncClient(url=endpoint.url, key=endpoint.key) as client, opened(80, 24) as other:
        waits = [one async for one in client.waits.list() if one.stream == "approval"]
        waits.sort(key=lambda wait: str(wait.deadline_at))
        screens = []
        for wait, seat in zip(waits, (terminal, other), strict=True):
            if seat is other:
                await other.run(
                    "-m", "helmr.cli", "--data-dir", str(place / "data"), "console",
                    USER=PERSON, XDG_STATE_HOME=str(place / "state"),
                )  # fmt: skip
                await other.comes_to("[1 Inbox]", within_s=60)
            operator = Operator(seat)
            await operator.answers_the_first_approval()
            assert operator.keys[-4:] == ["a", " ", REVIEW, SEND]
            assert len(operator.keys) <= KEYS_MAX
            await went_on(client, wait)
            told = await printed(place, "session", "transcript", wait.session_id)
            screens += [*operator.screens, "\n".join(told.splitlines()[-6:])]
        await other.press("q")
        assert await other.ended() == 0
        return screens


def test_without_a_terminal_it_says_so_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert demo.main(["--console"]) == 2
    out, err = capsys.readouterr()
    assert "the console needs a terminal" in err
    assert out == ""
