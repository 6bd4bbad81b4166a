"""The command behind `make bench`."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.benchmarks import report
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.measures import Measured, summarize
from tests.benchmarks.options import Options, parse
from tests.benchmarks.systems import SYSTEMS, Missing, System

Results = dict[tuple[str, int, str], list[Measured]]


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
    }


async def measure(system: System, case: Case, size: int, options: Options) -> Measured:
    """One case; with how often the system refused a call for too much at once, if it did."""
    before = system.refused
    measured = await case.run(system, size, options)
    refused = system.refused - before
    extra = {**measured.extra, **({"refused and sent again": float(refused)} if refused else {})}
    return replace(measured, extra=extra)


async def one_round(name: str, options: Options, results: Results) -> dict[str, str]:
    """Start a system, have it do every case, end it; its settings."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    system = SYSTEMS[name]()
    try:
        await system.start(folder)
        settings = system.settings()
        for case_name in options.cases:
            case = CASES[case_name]
            if case.only is not None and name not in case.only:
                continue
            for size in case.sizes(options):
                async with asyncio.timeout(2 * options.limit_s):
                    measured = await measure(system, case, size, options)
                results[case_name, size, name].append(measured)
                say(f"{name}: {case_name} {size}: {measured.elapsed_s:.2f} s")
                if measured.operations < measured.wanted:
                    say(f"{name}: started again, for what it did not end in time is still there")
                    await system.stop()
                    system = SYSTEMS[name]()
                    await system.start(Path(tempfile.mkdtemp(prefix="again-", dir=folder)))
        return settings
    finally:
        await system.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def run(options: Options) -> int:
    """All rounds; the order of the systems turns by one each round. What was measured is written after each system."""
    facts = machine()
    results: Results = defaultdict(list)
    text = ""
    failed: list[str] = []
    for number in range(options.rounds):
        turned = number % len(options.systems)
        for name in (*options.systems[turned:], *options.systems[:turned]):
            say(f"round {number + 1} of {options.rounds}: {name}")
            try:
                settings = await one_round(name, options, results)
                facts[name] = ", ".join(f"{key} {value}" for key, value in settings.items())
            except (httpx.HTTPError, TimeoutError, RuntimeError) as error:
                failed.append(f"{name} in round {number + 1}: {type(error).__name__} {error}")
                say(f"failed: {failed[-1]}")
            facts["load average at the end"] = f"{os.getloadavg()[0]:.1f}"
            facts["rounds"] = f"{number + 1}, medians"
            if failed:
                facts["failed"] = "; ".join(failed)
            text = publish(options, facts, results)
    sys.stdout.write(text)
    say(f"written to {options.out}")
    return 1 if failed else 0


def publish(options: Options, facts: dict[str, Any], results: Results) -> str:
    """Write both files; the text of the one to read."""
    ordered = sorted(
        results.items(),
        key=lambda item: (
            options.cases.index(item[0][0]),
            item[0][1],
            options.systems.index(item[0][2]),
        ),
    )
    summaries = [summarize(*key, rounds) for key, rounds in ordered]
    titles = {name: case.title for name, case in CASES.items()}
    text = report.markdown(summaries, titles, facts)
    content = {
        "facts": facts,
        "summaries": [one.to_json() for one in summaries],
        "rounds": [
            {"case": key[0], "size": key[1], "system": key[2], "measured": list(map(asdict, found))}
            for key, found in ordered
        ],
    }
    report.write(options.out, text, content)
    return text


def main(arguments: list[str]) -> int:
    """Read the arguments, refuse what is not installed, run."""
    options = parse(arguments, systems=tuple(SYSTEMS), cases=tuple(CASES))
    for name in options.systems:
        try:
            SYSTEMS[name].check()
        except Missing as missing:
            say(f"{name}: {missing}; or leave it out with --systems")
            return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(run(options))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
