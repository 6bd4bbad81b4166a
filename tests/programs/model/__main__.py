"""`python -m tests.programs.model`: many sequences through the model and the core, or one again.

Prints what was reached and how often. A difference ends it, with its seed and the shrunk sequence; `--seed` shows it
again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.programs.figures import record
from tests.programs.model.commands import COMMANDS, Generator
from tests.programs.model.compare import report
from tests.programs.model.core_door import in_core
from tests.programs.model.random_code import LATE

AT_ONCE = 500
"""Sequences of one piece of work."""


def piece(first: int, count: int, commands: int) -> tuple[Counter[str], list[str]]:
    """So many seeds: what was reached, and the differences."""
    reached: Counter[str] = Counter()
    differing = []
    for seed in range(first, first + count):
        sequence = Generator(seed, LATE).sequence(commands)
        if in_core(sequence, reached) is not None:
            differing.append(str(report(seed, LATE, commands, in_core)))
    return reached, differing


def main() -> int:
    """Run; 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.model", description=__doc__)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--commands", type=int, default=COMMANDS, help="of each sequence")
    parser.add_argument("--processes", type=int, default=2)
    record.add_option(parser)
    options = parser.parse_args()
    if options.seed is not None:
        found = report(options.seed, LATE, options.commands, in_core)
        sys.stdout.write(f"{found or 'no difference'}\n")
        return 1 if found else 0
    began = time.perf_counter()
    reached: Counter[str] = Counter()
    last = options.first + options.sequences
    firsts = range(options.first, last, AT_ONCE)
    counts = [min(AT_ONCE, last - first) for first in firsts]
    with ProcessPoolExecutor(options.processes) as pool:
        for part, differing in pool.map(piece, firsts, counts, repeat(options.commands)):
            reached.update(part)
            if differing:
                sys.stdout.write(differing[0] + "\n")
                if options.record:
                    _record(options, sum(reached.values()), differences=len(differing))
                pool.shutdown(cancel_futures=True)
                return 1
    for name, count in sorted(reached.items()):
        sys.stdout.write(f"{count:9,} {name}\n")
    took = time.perf_counter() - began
    commands = sum(count for name, count in reached.items() if not name.startswith("entry:"))
    sys.stdout.write(
        f"{options.sequences:,} sequences, {commands:,} commands, {took:.0f} s: no difference\n"
    )
    if options.record:
        _record(options, commands, differences=0)
    return 0


def _record(options: argparse.Namespace, commands: int, *, differences: int) -> None:
    given = f"--first {options.first} --sequences {options.sequences} --record"
    figures = {
        "sequences": options.sequences, "commands": commands, "differences": differences,
    }  # fmt: skip
    record.add("model", f'make model MODEL_ARGS="{given}"', figures)


if __name__ == "__main__":
    raise SystemExit(main())
