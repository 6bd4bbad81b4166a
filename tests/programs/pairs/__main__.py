"""`python -m tests.programs.pairs` has two runtimes over one store take over from each other, under load.

Clients know both addresses and go on by themselves; the next fault comes when both runtimes are what they are to be.
Then a program that knows nothing of Helmr judges what clients were told, and what this prints is how often one took
over from the other, and how long it was until the next answer.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.programs.histories import checker, history
from tests.programs.pairs.nemesis import PAUSE_S
from tests.programs.pairs.taking import CALLS_PER_S, CLIENTS, SESSIONS, Plan, Taken, take
from tests.programs.pairs.times import (
    Happened,
    answered_ns,
    answers_per_s,
    by_kind,
    next_answer_s,
    said_by_kind,
)
from tests.stack.paired import STORES

ALL = 1_000_000
LONGEST = 5
KINDS = ("kill", "down", "pause", "cut", "takeover", "kill and start", "store")


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if a promise was broken."""
    options = _parser().parse_args(arguments)
    out: Path = options.out
    plan = Plan(
        store=options.store,
        seed=options.seed,
        takeovers=options.takeovers,
        seconds=options.minutes * 60,
        calls_per_s=options.calls_per_s,
        clients=options.clients,
        sessions=options.sessions,
        kinds=frozenset(options.kinds.split(",")) if options.kinds else None,
        pause_s=options.pause_s,
        in_process=not options.ray,
        logs=out.with_suffix(".logs"),
    )
    # A shell starts what runs in its background with this ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hp-") as folder:  # Ray's sockets need a short path
        taken = take(Path(folder), plan)
    history.write(taken.calls, out)
    broken = checker.check(taken.calls)
    for line in (*(f"BROKEN {one}" for one in broken), *report(taken)):
        sys.stdout.write(f"{line}\n")
    verdict = "broken" if broken or taken.unfinished else "as promised"
    sys.stdout.write(f"{verdict}; {time.monotonic() - began_s:,.0f} s, kept in {out}\n")
    return int(verdict == "broken")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("make pairs", description=__doc__, allow_abbrev=False)
    parser.add_argument("--store", choices=STORES, default="seaweed")
    parser.add_argument("--takeovers", type=int, default=ALL, help="at most")
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults, at most")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--in-process", action="store_true", help="one process each; so without it")
    form.add_argument("--ray", action="store_true", help="each on a Ray of its own")
    parser.add_argument("--calls-per-s", type=float, default=CALLS_PER_S, help="of all clients")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="live at once")
    parser.add_argument("--kinds", help=f"only these, with commas between them: {','.join(KINDS)}")
    parser.add_argument("--pause-s", type=float, default=PAUSE_S, help="of a primary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("pairs.parquet"))
    return parser


def report(taken: Taken) -> Iterator[str]:
    """What it held, a line each."""
    yield from history.counts(taken.calls)
    answers_ns = answered_ns(taken.calls)
    counts = Counter(one.kind for one in taken.happened if one.is_takeover)
    for kind, times in by_kind(taken.happened, answers_ns).items():
        yield (
            f"{kind}: {len(times)}, of these {counts[kind]} takeovers; next answer after "
            f"{times[0]:.2f} to {times[-1]:.2f} s, half within {median(times):.2f}"
        )
    for kind, times in said_by_kind(taken.happened).items():
        yield f"{kind}: said after {times[0]:.2f} to {times[-1]:.2f} s, half within {median(times):.2f}"
    for took_s, kind, at in longest(taken.happened, answers_ns):
        yield f"  {took_s:.2f} s after a {kind} at {at:%H:%M:%S} UTC: the logs beside the history say more"
    yield (
        f"{counts.total()} takeovers, {len(taken.calls):,} calls, {len(answers_ns):,} answers, "
        f"{len(answers_ns) / taken.load_s:.0f} a second, {answers_per_s(answers_ns):.0f} outside of outages; "
        f"{taken.marked:,} reads said that they may be stale; "
        f"{taken.unfinished} runs unfinished"
    )


def longest(
    happened: Iterable[Happened], answers_ns: Sequence[int]
) -> list[tuple[float, str, datetime]]:
    """The longest waits for an answer, what they were for, and when that was by the wall clock."""
    wall_ns = time.time_ns() - time.monotonic_ns()
    found = [
        (took_s, one.kind, datetime.fromtimestamp((one.at_ns + wall_ns) / 1e9, UTC))
        for one in happened
        if (took_s := next_answer_s(one, answers_ns)) is not None
    ]
    return sorted(found, reverse=True)[:LONGEST]


if __name__ == "__main__":
    sys.exit(main())
