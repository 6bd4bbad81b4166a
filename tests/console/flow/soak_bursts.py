"""Bursts of keys in tmux, many rounds of each kind of field, on one busy processor; prints how many were sent as typed.

`taskset -c 0 python -m tests.console.flow.soak_bursts --rounds 50 --burn 1`
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import secrets
import shlex
import sys
import tempfile
import time
from pathlib import Path

from tests.console.flow import kinds
from tests.console.flow.bursts import one_form, one_lost, one_schedule
from tests.console.flow.kinds import KINDS
from tests.service.stack import Stack

SEES_WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


class Tmux:
    """A console in a window of a tmux server of its own."""

    def __init__(self) -> None:
        self._server = f"helmr-soak-{secrets.token_hex(4)}"

    async def _run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "tmux", "-L", self._server, "-f", "/dev/null", *arguments,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return out.decode("utf-8", "replace")

    async def start(self, url: str, key: str, folder: Path, *, hold: str) -> None:
        console = [sys.executable, "-m", "helmr.cli", "console", "--url", url]
        command = shlex.join([*console, "--undo-for", hold])
        places = {
            "HELMR_API_KEY": key,
            "XDG_STATE_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
        }
        given = [part for name, value in places.items() for part in ("-e", f"{name}={value}")]
        await self._run("new-session", "-d", "-x", "120", "-y", "36", *given, command)

    async def write(self, text: str) -> None:
        """One write of all bytes."""
        await self._run("send-keys", "-H", *(f"{byte:02x}" for byte in text.encode()))

    async def text(self) -> str:
        return await self._run("capture-pane", "-p")

    async def sees(self, wanted: str) -> None:
        ends_s = time.monotonic() + SEES_WITHIN_S
        while wanted not in (shown := await self.text()):
            if time.monotonic() > ends_s:
                raise AssertionError(f"{wanted!r} is not on:\n{shown}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def end(self) -> None:
        await self._run("kill-server")


def burn() -> None:
    """Keep a processor busy."""
    while True:
        pass


PAGES = {"schedule": one_schedule, "lost": one_lost}
"""Keys that fill no form of a wait: `n` and `X` of System, `L`."""


async def is_good(stack: Stack, tmux: Tmux, kind: str) -> bool:
    """One round; what went wrong is printed."""
    if kind in PAGES:
        wrong = await PAGES[kind](stack, tmux.write, tmux.sees)
    else:
        sent = await one_form(stack, kind, tmux.write, tmux.sees)
        wrong = "" if sent == KINDS[kind].sent else str(sent)
    if wrong:
        sys.stdout.write(f"  {kind}: {wrong}\n")
    return not wrong


async def soak(rounds: int, wanted: list[str]) -> int:
    """Every kind, so many rounds; how many were not sent as typed."""
    lost = [kind for kind in wanted if kind == "lost"]
    rest = [kind for kind in wanted if kind != "lost"]
    wrong = 0
    if rest:
        wrong += await soak_held(rounds, rest, hold="0s")  # a review for each kind of form
    if lost:
        wrong += await soak_held(rounds, lost, hold="2s")
    return wrong


async def soak_held(rounds: int, wanted: list[str], *, hold: str) -> int:
    """These kinds, at a console that holds so long what was confirmed."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="hs-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        stack = Stack(folder / "data", registry=kinds.REGISTRY)
        tmux = Tmux()
        await stack.start(sessions_per_host=4)
        try:
            await tmux.start(stack.url, stack.key, folder, hold=hold)
            await tmux.sees("No waits need an answer")
            for kind in wanted:
                began_s, good = time.monotonic(), 0
                for _ in range(rounds):
                    good += await is_good(stack, tmux, kind)
                wrong += rounds - good
                each_s = (time.monotonic() - began_s) / rounds
                load = os.getloadavg()[0]
                sys.stdout.write(
                    f"{kind:<10} {good} of {rounds} as typed, {each_s:.1f} s each, load {load:.1f}\n"
                )
                sys.stdout.flush()
        finally:
            await tmux.end()
            await stack.stop()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument(
        "--burn", type=int, default=0, help="processes that keep the processor busy"
    )
    parser.add_argument("kinds", nargs="*", default=[*KINDS, *PAGES])
    given = parser.parse_args()
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(given.burn)]
    for burner in burners:
        burner.start()
    try:
        return 1 if asyncio.run(soak(given.rounds, given.kinds)) else 0
    finally:
        for burner in burners:
            burner.kill()


if __name__ == "__main__":
    sys.exit(main())
