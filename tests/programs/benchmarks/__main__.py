"""The command behind `make bench`."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from helmr.errors import HelmrError
from tests.programs.benchmarks import beside, report
from tests.programs.benchmarks.cases import CASES, Case
from tests.programs.benchmarks.measures import Measured, summarize
from tests.programs.benchmarks.options import Options, parse
from tests.programs.benchmarks.processes import Server
from tests.programs.benchmarks.systems import SYSTEMS, Missing, System

Results = dict[report.Key, list[Measured]]

ERRORS = (aiohttp.ClientError, HelmrError, TimeoutError, RuntimeError, AssertionError)
"""What a case may end with that the others have nothing to do with."""


class NotStarted(Exception):
    """A system's servers did not become ready: there is no use in trying its other cases."""


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


class Round:
    """One system's turn: it does every case, started anew where a case asks for that or left something undone."""

    def __init__(self, name: str, options: Options, results: Results) -> None:
        self._name = name
        self._options = options
        self._results = results
        self._system: System | None = None
        self._folder = Path()
        self.settings: dict[str, str] = {}
        self.reasons: dict[report.Key, str] = {}
        self.failed: list[str] = []

    async def run(self) -> None:
        """Do every case of every size."""
        try:
            for case_name in self._options.cases:
                for size in CASES[case_name].sizes(self._options):
                    reason = SYSTEMS[self._name].cannot(case_name, size)
                    if reason is None:
                        await self._try(case_name, size)
                    else:
                        self.reasons[case_name, size, self._name] = reason
        except NotStarted as error:
            self._fail(f"it did not start: {error}")
        finally:
            await self._stop()

    async def _try(self, case_name: str, size: int) -> None:
        try:
            await self._one(case_name, CASES[case_name], size)
        except ERRORS as error:
            self._fail(f"{case_name} {size}: {type(error).__name__} {error}")
            await self._stop()

    def _fail(self, said: str) -> None:
        self.failed.append(f"{self._name}: {said.strip().splitlines()[-1]}")
        say(f"failed: {self._name}: {said}")

    async def _one(self, case_name: str, case: Case, size: int) -> None:
        if case.is_alone:
            await self._stop()
        system = await self._started()
        async with asyncio.timeout(2 * self._options.limit_s):
            measured = await measure(system, case, size, self._options)
        self._results[case_name, size, self._name].append(measured)
        say(f"{self._name}: {case_name} {size}: {measured.elapsed_s:.2f} s")
        # What it did not end in time is still there.
        if case.is_alone or measured.operations < measured.wanted:
            await self._stop()

    async def _started(self) -> System:
        if self._system is None:
            self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
            self._system = SYSTEMS[self._name]()
            try:
                await self._system.start(self._folder)
            except ERRORS as error:
                raise NotStarted(str(error)) from error
            self.settings = self._system.settings()
        return self._system

    async def _stop(self) -> None:
        if self._system is not None:
            system, self._system = self._system, None
            await system.stop()
            shutil.rmtree(self._folder, ignore_errors=True)


async def run(options: Options) -> int:
    """All rounds; the order of the systems turns by one each round. What was measured is written after each system."""
    facts = machine()
    facts["pinned"] = pin() if options.is_pinned else "no"
    results: Results = defaultdict(list)
    reasons: dict[report.Key, str] = {}
    failed: list[str] = []
    text = ""
    for number in range(options.rounds):
        turned = number % len(options.systems)
        for name in (*options.systems[turned:], *options.systems[:turned]):
            say(f"round {number + 1} of {options.rounds}: {name}")
            turn = Round(name, options, results)
            await turn.run()
            facts[name] = ", ".join(f"{key} {value}" for key, value in turn.settings.items())
            reasons |= turn.reasons
            failed += [f"round {number + 1}: {said}" for said in turn.failed]
            facts["load average at the end"] = f"{os.getloadavg()[0]:.1f}"
            facts["rounds"] = f"{number + 1}, medians"
            if failed:
                facts["failed"] = "; ".join(failed)
            text = publish(options, facts, results, reasons)
    sys.stdout.write(text)
    say(f"written to {options.out}")
    return 1 if failed else 0


def pin() -> str:
    """Put the servers on the first core and this process on the last; says so."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("--pinned needs two cores")
    Server.cores = frozenset({cores[0]})
    os.sched_setaffinity(0, {cores[-1]})
    return f"servers on core {cores[0]}, the load generator on core {cores[-1]}"


def publish(
    options: Options,
    facts: dict[str, Any],
    results: Results,
    reasons: Mapping[report.Key, str],
) -> str:
    """Write both files; the text of the one to read."""

    def place(key: report.Key) -> tuple[int, int, int]:
        return options.cases.index(key[0]), key[1], options.systems.index(key[2])

    ordered = [(key, results[key]) for key in sorted(results, key=place)]
    summaries = [summarize(*key, rounds) for key, rounds in ordered]
    titles = {name: case.title for name, case in CASES.items()}
    known = {key: reasons[key] for key in sorted(reasons, key=place)}
    text = report.markdown(summaries, titles, facts, known)
    content = {
        "facts": facts,
        "summaries": [one.to_json() for one in summaries],
        "cannot": [
            {"case": key[0], "size": key[1], "system": key[2], "reason": reason}
            for key, reason in known.items()
        ],
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
    if options.beside is not None:
        try:
            options = with_twins(options, options.beside)
        except Missing as missing:
            say(f"--beside {options.beside}: {missing}")
            return 2
    if (load := os.getloadavg()[0]) > options.load_max:
        say(f"the load average is {load:.1f}, above {options.load_max}: wait, or say --busy")
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return asyncio.run(until_ended(run(options)))


def with_twins(options: Options, ref: str) -> Options:
    """Return the options with the same systems of an earlier commit, which SYSTEMS knows from now on."""
    found = beside.twins(options.systems, ref, beside.checkout(ref))
    SYSTEMS.update(found)
    return replace(options, systems=beside.paired(options.systems, ref, found))


async def until_ended(work: Coroutine[Any, Any, int]) -> int:
    """Do it; a termination ends it as Ctrl-C does, so that no server is left behind."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
