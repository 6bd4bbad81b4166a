"""What `make bench BENCH_ARGS="…"` takes. Pure."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each case is done."""

    hot_answers: int
    crowds: tuple[int, ...]
    crowd_answers: int
    starts: int
    waiting: int
    running: tuple[int, ...]
    step_callers: tuple[int, ...]
    step_runs: int
    live: int
    held: tuple[int, ...]
    earlier_turns: int
    late_turns: int
    commands: int


USUAL = Sizes(
    hot_answers=200,
    crowds=(16, 64),
    crowd_answers=50,
    starts=300,
    waiting=300,
    running=(50, 200, 1000),
    step_callers=(1, 16),
    step_runs=50,
    live=400,
    held=(1_000, 100_000),
    earlier_turns=1_000,
    late_turns=50,
    commands=10,
)
QUICK = Sizes(
    hot_answers=20,
    crowds=(8,),
    crowd_answers=3,
    starts=20,
    waiting=20,
    running=(20,),
    step_callers=(1, 4),
    step_runs=5,
    live=20,
    held=(100,),
    earlier_turns=20,
    late_turns=5,
    commands=2,
)


LOAD_MAX = 1.5
"""Load average above which nothing is measured: the figures would be of what else runs."""


@dataclass(frozen=True, slots=True)
class Options:
    """One run of the benchmark."""

    systems: tuple[str, ...]
    cases: tuple[str, ...]
    rounds: int
    sizes: Sizes
    limit_s: float
    out: Path
    is_pinned: bool = False
    beside: str | None = None
    load_max: float = LOAD_MAX


def parse(arguments: Sequence[str], *, systems: Sequence[str], cases: Sequence[str]) -> Options:
    """Read the command line; ends the program with code 2 and a line that says why if it can't be read."""
    parser = argparse.ArgumentParser("make bench", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--systems",
        type=lambda text: _names(text, systems),
        default=tuple(systems),
        help=f"of {', '.join(systems)}; separated by commas",
    )
    parser.add_argument(
        "--cases",
        type=lambda text: _names(text, cases),
        default=tuple(cases),
        help=f"of {', '.join(cases)}; separated by commas",
    )
    parser.add_argument("--rounds", type=_positive, help="each starts every system; 3 if not given")
    parser.add_argument("--crowds", type=_numbers, help="sessions that are hot at once")
    parser.add_argument("--running", type=_numbers, help="sessions that run at once")
    parser.add_argument("--waiting", type=_positive, help="sessions that wait and are answered")
    parser.add_argument("--starts", type=_positive, help="sessions that are started")
    parser.add_argument("--held", type=_numbers, help="sessions that are parked at a restart")
    parser.add_argument(
        "--pinned", action="store_true", help="servers on one core, the load generator on another"
    )
    parser.add_argument(
        "--limit-s", type=_positive, default=600, help="seconds after which a case is left"
    )
    parser.add_argument(
        "--beside", metavar="REF", help="an earlier commit, which runs in turns with this one"
    )
    parser.add_argument(
        "--busy", action="store_true", help=f"measure above a load average of {LOAD_MAX} too"
    )
    parser.add_argument("--quick", action="store_true", help="one round of small sizes")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(".bench/results"),
        help="folder for bench.md and bench.json",
    )
    given = parser.parse_args(arguments)
    usual = QUICK if given.quick else USUAL
    names = ("crowds", "running", "waiting", "starts", "held")
    sizes = replace(usual, **{name: found for name in names if (found := getattr(given, name))})
    rounds = given.rounds or (1 if given.quick else 3)
    return Options(
        systems=given.systems,
        cases=given.cases,
        rounds=rounds,
        sizes=sizes,
        limit_s=float(given.limit_s),
        out=given.out,
        is_pinned=bool(given.pinned),
        beside=given.beside,
        load_max=math.inf if given.busy or given.quick else LOAD_MAX,
    )


def _names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown) or 'nothing'} is not known; there are {', '.join(known)}"
        )
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
