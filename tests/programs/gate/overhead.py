"""What the gate adds to a call that a rule allows: by the hook's program and by the proxy, beside none.

    python -m tests.programs.gate.overhead --calls 200

Times mean something only on a machine that does nothing else; the processor's, of all processes in it together, also
on a busy one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from mcp import Client, StdioServerParameters

from tests.programs.gate.runtime import gated_runtime
from tests.stack.live import ROOT, LiveRuntime, descendants

RULES = """
[[gate.rule]]
action = "allow"
tool = ["Bash", "shop.*"]
"""
EVENT = {
    "session_id": "overhead",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
    "cwd": "/",
}
WARM_UP = 5
MS = 1000.0


@dataclass(frozen=True, slots=True)
class Measured:
    """How long each call took, and the processor's time of one."""

    took_s: list[float]
    cpu_s: float

    def __str__(self) -> str:
        cuts = quantiles(self.took_s, n=20)
        times = f"p50 {cuts[9] * MS:7.1f} ms   p95 {cuts[18] * MS:7.1f} ms"
        return f"{times}   processor {self.cpu_s * MS:6.1f} ms"


def measured(call: Callable[[int], float], calls: int) -> Measured:
    """What so many calls take, once some have warmed it up."""
    for number in range(WARM_UP):
        call(number)
    began_s = spent_s()
    took_s = [call(WARM_UP + number) for number in range(calls)]
    return Measured(took_s, (spent_s() - began_s) / calls)


def spent_s() -> float:
    """The processor's time of this process, of all below it, and of those that have ended."""
    ended, own = (
        resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
    )
    found = ended.ru_utime + ended.ru_stime + own.ru_utime + own.ru_stime
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    return found


def of_hook(runtime: LiveRuntime, key: Path, calls: int) -> Measured:
    """How long the hook's program takes for each call, from its start to its end."""
    where = ["--url", runtime.credentials.url, "--key-file", str(key), "--timeout", "60"]
    words = [sys.executable, "-m", "helmr.cli", "gate", "hook", "claude-code", *where]
    return measured(lambda number: _timed(words, json.dumps(_event(number))), calls)


def of_nothing(calls: int) -> Measured:
    """How long a Python takes that does nothing."""
    return measured(lambda number: _timed([sys.executable, "-c", ""], ""), calls)


def _event(number: int) -> dict[str, object]:
    call = {"tool_use_id": f"toolu_{number}", "tool_input": {"command": f"ls {number}"}}
    return {**EVENT, **call}


def _timed(words: list[str], given: str) -> float:
    began_at = time.perf_counter()
    subprocess.run(words, input=given, text=True, check=True, capture_output=True)
    return time.perf_counter() - began_at


async def of_server(parameters: StdioServerParameters, calls: int) -> Measured:
    """How long a call takes of a server, or of the proxy before it."""
    async with Client(parameters) as one:
        await one.list_tools()

        async def call() -> None:
            result = await one.call_tool("look", {"order": "a"})
            assert not result.is_error, result

        for _ in range(WARM_UP):
            await call()
        began_s = spent_s()
        took_s = [await _awaited(call) for _ in range(calls)]
        return Measured(took_s, (spent_s() - began_s) / calls)


async def _awaited(call: Callable[[], Awaitable[None]]) -> float:
    began_at = time.perf_counter()
    await call()
    return time.perf_counter() - began_at


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--calls", type=int, default=200)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory(prefix="helmr-overhead-") as name:
        folder = Path(name)
        with gated_runtime(folder, RULES) as runtime:
            key = folder / "asker.key"
            key.write_text(runtime.client.keys.create(role="asker", name="overhead").secret)
            server = [sys.executable, "-m", "tests.programs.gate.effects_server"]
            where = [f"--url={runtime.credentials.url}", f"--key-file={key}", "--name=shop", "--"]
            proxy = [sys.executable, "-m", "helmr.cli", "gate", "mcp", *where, *server]
            found = {
                "Python that does nothing": of_nothing(calls),
                "the hook's program": of_hook(runtime, key, calls),
            }
            for what, words in {"a server of MCP": server, "behind the proxy": proxy}.items():
                parameters = StdioServerParameters(
                    command=words[0], args=words[1:], env={"PYTHONPATH": str(ROOT)}, cwd=folder
                )
                found[what] = asyncio.run(of_server(parameters, calls))
    for what, one in found.items():
        sys.stdout.write(f"{what:26} {one}\n")


if __name__ == "__main__":
    main()
