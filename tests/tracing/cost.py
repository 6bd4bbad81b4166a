"""What OpenTelemetry costs an answer: `python -m tests.tracing.cost [ROUNDS]`.

Three runtimes in processes of their own answer in turns, so that what the machine does besides falls on each: in one
the extra `otel` can't be imported, in one it is installed and off, in one it makes spans and sends numbers. Told is the
CPU time of the whole process for one session: a start, an answer, two turns with a step each.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from helmr import step, streams, task

WAYS = ("absent", "off", "on")
SESSIONS = 20
"""Of one turn, which takes a second or two."""

ROUNDS = 5

words = streams.input("words", schema=str)


@step
async def upper(text: str) -> str:
    """Cheap: what is around it is measured."""
    return text.upper()


@task(id="measured")
async def measured(text: str) -> str:
    """Asks between two steps."""
    return await upper(await upper(text) + await words.wait().unwrap())


async def serve(way: str) -> None:
    """Answer for each line of standard input, and tell the CPU seconds for a session."""
    if way == "absent":
        for name in ("opentelemetry.sdk", "opentelemetry.exporter"):  # the API comes with FastAPI
            sys.modules[name] = None  # type: ignore[assignment]  # from now on importing it fails
    from helmr_runtime import tracing
    from helmr_runtime.catalog import Registry
    from helmr_runtime.process.gateway import GatewayActor
    from tests.service.stack import Stack

    if way == "on":
        tracing.start("measured")
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry([measured], modules=[__name__], code_hash="cost")
        stack = Stack(Path(folder), registry=registry)
        stack.gateway = GatewayActor(stack.service, stack.settings())
        await stack.start(sessions_per_host=SESSIONS)
        try:
            while await asyncio.to_thread(sys.stdin.readline):
                before_s = time.process_time()
                for _ in range(SESSIONS):
                    await one(stack)
                spent_s = time.process_time() - before_s
                sys.stdout.write(f"{spent_s / SESSIONS}\n")
                sys.stdout.flush()
        finally:
            await stack.stop()


async def one(stack: Any) -> None:
    """A session to its end."""
    started = await stack.started("measured", "a")
    answer = f"/v1/waits/{started['session']['wait']['id']}/answer"
    response = await stack.http.post(answer, json={"data": "b"})
    assert response.status_code == 200, response.text
    await stack.run_until(started["run"]["id"], "succeeded")


def compare(rounds: int) -> dict[str, list[float]]:
    """CPU seconds for a session, by way and round; the first round warms up and is not told."""
    from tests.tracing.collector import collector

    with collector() as taken:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": taken.url}
        serving = {
            way: subprocess.Popen(
                [sys.executable, "-m", "tests.tracing.cost", "--serve", way],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for way in WAYS
        }
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            turns = WAYS[number % 3 :] + WAYS[: number % 3]
            for way in turns:
                spent_s = _asked(serving[way])
                if number:
                    found[way].append(spent_s)
        for process in serving.values():
            process.communicate()
    return found


def _asked(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def table(found: dict[str, list[float]]) -> str:
    """Milliseconds: the middle of the rounds, the least and the most."""
    lines = ["| | CPU for a session, ms | least | most |", "|---|---|---|---|"]
    for way, spent in found.items():
        told = [1000 * one for one in (statistics.median(spent), min(spent), max(spent))]
        lines.append(f"| {way} | " + " | ".join(f"{one:.2f}" for one in told) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(sys.argv[2]))
    else:
        sys.stdout.write(table(compare(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)) + "\n")
