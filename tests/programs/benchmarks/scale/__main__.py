"""The command behind `make scale`: builds a data directory for each size, serves each, and says how figures grow.

What was built is kept in `--folder`, and only what is missing is added the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from tests.programs.benchmarks import report as benchmark
from tests.programs.benchmarks.__main__ import machine, say, until_ended
from tests.programs.benchmarks.scale import report
from tests.programs.benchmarks.scale.build import Built, Pattern, grow
from tests.programs.benchmarks.scale.measure import (
    Memory,
    Served,
    due_at_once,
    memory,
    p50_p99,
    serve,
)
from tests.programs.benchmarks.scale.patterns import run_patterns

BUILT = "built.json"


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Attributes:
        sizes: Parked sessions.
        entries_each: Entries of a ledger for each of its parked sessions, most of them of sessions that are over.
        due: How many deadlines fall in one second; 0 leaves that out.
    """

    sizes: tuple[int, ...]
    entries_each: int
    rounds: int
    resumes: int
    due: int
    folder: Path
    out: Path
    plot: Path | None


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser("make scale", description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", default="0,1000,10000,100000", help="parked sessions")
    parser.add_argument("--entries-each", type=int, default=100, help="entries for each of them")
    parser.add_argument("--rounds", type=int, default=3, help="each serves every size; medians")
    parser.add_argument("--resumes", type=int, default=100, help="answered one by one in a round")
    parser.add_argument("--due", type=int, default=10_000, help="deadlines in one second")
    parser.add_argument("--folder", type=Path, default=Path(".bench/scale"))
    parser.add_argument("--out", type=Path, default=Path(".bench/results"))
    parser.add_argument("--plot", type=Path, help="where the plot goes, if not to --out")
    given = parser.parse_args(arguments)
    sizes = tuple(sorted({int(size) for size in given.sizes.split(",")}))
    given.folder = given.folder.resolve()  # what is served there runs in it
    return Options(sizes, *(getattr(given, name) for name in Options.__slots__[1:]))


async def run(options: Options) -> int:
    """Build what is missing, serve every size in each round, write and print."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        parked, over = await run_patterns(Path(folder))
    facts["a parked session"] = f"{parked.entries} entries"
    held: dict[int, Memory] = {}
    made: dict[int, Built] = {}
    for size in options.sizes:
        made[size] = await build(options, size, parked, over)
        held[size] = await asyncio.to_thread(memory, _data(options, size))
    served: dict[int, list[Served]] = defaultdict(list)
    for number in range(options.rounds):
        for size in options.sizes:
            say(f"round {number + 1} of {options.rounds}: {size:,} parked")
            served[size].append(
                await serve(options.folder / str(size), resumes=options.resumes if size else 0)
            )
    due = None
    if options.due:
        say(f"{options.due:,} deadlines in one second")
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            due = options.due, await due_at_once(Path(folder), parked, options.due)
    sizes = [
        summed(size, made[size], held[size], held.get(0), served[size]) for size in options.sizes
    ]
    facts["rounds"] = f"{options.rounds}, medians"
    text = report.markdown(facts, sizes, due)
    content = {
        "facts": facts,
        "sizes": [asdict(one) for one in sizes],
        "rounds": {str(size): [asdict(one) for one in found] for size, found in served.items()},
        "due": due,
    }
    benchmark.write(options.out, text, content, name="scale")
    report.plot(sizes, options.plot or options.out / "scale.svg")
    sys.stdout.write(text)
    return 0 if all(one.holds for one in report.bounds(sizes, due and due[1])) else 1


async def build(options: Options, size: int, parked: Pattern, over: Pattern) -> Built:
    """Have a data directory of that size; what its parked sessions take is known from when they were added."""
    data_dir = _data(options, size)
    data_dir.mkdir(parents=True, exist_ok=True)
    entries = size * options.entries_each
    built = await grow(data_dir, parked, over, sessions=size, entries=entries)
    say(f"{size:,} parked among {built.entries:,} entries ({built.entries_per_s:,.0f} a second)")
    kept = data_dir.parent / BUILT
    if kept.exists():
        built = replace(built, disk_bytes_each=json.loads(kept.read_text())["disk_bytes_each"])
    elif built.disk_bytes_each is not None:
        kept.write_text(json.dumps(asdict(built)), encoding="utf-8")
    return built


def summed(
    size: int, built: Built, held: Memory, empty: Memory | None, rounds: Sequence[Served]
) -> report.AtSize:
    """The medians of a size's rounds."""
    resumes = [p50_p99(one.resume_ms) for one in rounds if one.resume_ms]
    return report.AtSize(
        sessions=size,
        entries=built.entries,
        ready_s=median(one.ready_s for one in rounds),
        first_inbox_ms=median(one.first_inbox_ms for one in rounds),
        inbox_ms=median(one.inbox_ms for one in rounds),
        filters_ms={
            name: median(one.filters_ms[name] for one in rounds) for name in rounds[0].filters_ms
        },
        open_s=held.open_s,
        engine_bytes=held.engine_bytes,
        memory_bytes_each=(
            (held.own_bytes - empty.own_bytes) / size if size and empty is not None else None
        ),
        disk_bytes_each=built.disk_bytes_each,
        resume_p50_ms=median(p50 for p50, _ in resumes) if resumes else None,
        resume_p99_ms=median(p99 for _, p99 in resumes) if resumes else None,
    )


def _data(options: Options, size: int) -> Path:
    return options.folder / str(size) / "data"


if __name__ == "__main__":
    raise SystemExit(asyncio.run(until_ended(run(parse(sys.argv[1:])))))
