"""`python -m tests.programs.simulation`: simulate seeds, one after another or the one that failed.

Each seed runs in a forked child, from the same state of this process: what a seed does depends on nothing but itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from unittest import mock

from helmr_runtime.service import feed
from tests.programs.figures import record
from tests.programs.simulation.history import History
from tests.programs.simulation.planted import planted
from tests.programs.simulation.probes import FEWEST, unreached
from tests.programs.simulation.shrink import shrink
from tests.programs.simulation.simulation import Outcome, simulate
from tests.programs.simulation.users import MIXES

STEPS = 8_000
"""Of a seed, before it is brought to its end."""

PATIENCE = 5
"""With `--probes` it goes on until every rare branch was reached, for so many times the steps at most."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is simulated.

    Attributes:
        source: Its name among the figures on record.
        target: Of make, which simulates it.
        module: What Python runs for it.
        simulate: Runs a seed.
        planted: Puts a bug in.
        unreached: The rare branches that were not come by.
    """

    source: str
    target: str
    module: str
    simulate: Callable[..., Outcome]
    planted: Callable[[str | None], AbstractContextManager[object]]
    unreached: Callable[[Counter[str]], list[str]]


RUNTIME = Kind("simulation", "simulate", "tests.programs.simulation", simulate, planted, unreached)

FAULT = "fault:"
"""What the counts of faults begin with."""


def main(arguments: list[str], kind: Kind = RUNTIME) -> int:
    """Simulate; the exit code: 0 if everything held, 1 if not, 3 if a rare branch was never reached."""
    options = _options(arguments, kind)
    began_s = time.monotonic()
    counts: Counter[str] = Counter()
    steps = seeds = 0
    for seed in _seeds(options):
        outcome = forked(lambda seed=seed: _one(seed, options, options.only))  # type: ignore[misc]
        seeds += 1
        steps += outcome.steps
        counts.update(outcome.counts)
        if options.digests:
            _say(f"{seed} {outcome.digest} after {outcome.steps} steps")
        if outcome.failure is not None:
            _say(f"{seeds} seeds, {steps} steps")
            _record(arguments, options, seeds, steps, counts, broken=1)
            _say(f"{outcome.rule} after {outcome.steps} steps: {outcome.failure}")
            _show(counts, options)
            only = options.only
            if not options.no_shrink:
                only = shrink(outcome, partial(_fails, outcome, options))
            _say(replay_line(options.kind, seed, options.steps, only, options.bug, options.day))
            return 1
        if _is_enough(options, time.monotonic() - began_s, steps, counts):
            break
    took_s = time.monotonic() - began_s
    cpu_s = os.times().children_user + os.times().children_system
    _say(
        f"{seeds} seeds from {options.first}, {steps} steps in {took_s:.1f} s "
        f"and {cpu_s:.1f} s of processor: {steps / cpu_s:.0f} a second of it"
    )
    _show(counts, options)
    _record(arguments, options, seeds, steps, counts, broken=0)
    missing = options.kind.unreached(counts) if options.probes else []
    for name in missing:
        _say(f"never reached: {name}")
    return 3 if missing else 0


def _is_enough(
    options: argparse.Namespace, took_s: float, steps: int, counts: Counter[str]
) -> bool:
    """A branch that is come by once in a million steps is missed by a third of all runs of a million."""
    if options.seeds:
        return False
    if options.for_s:
        return bool(took_s >= options.for_s)
    is_missing = options.probes and options.kind.unreached(counts)
    return bool(steps >= (PATIENCE * options.total if is_missing else options.total))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _record(
    arguments: list[str],
    options: argparse.Namespace,
    seeds: int,
    steps: int,
    counts: Counter[str],
    *,
    broken: int,
) -> None:
    """Write down what was simulated, if that is wanted; beside what was before."""
    if not options.record:
        return
    times = os.times()
    given = " ".join(one for one in arguments if one != "--probes")
    figures = {
        "seeds": seeds,
        "steps": steps,
        "cpu_s": round(times.children_user + times.children_system),
        "faults": {
            name.removeprefix(FAULT): count
            for name, count in sorted(counts.items())
            if name.startswith(FAULT)
        },
        "broken": broken,
    }
    record.add(options.kind.source, f'make {options.kind.target} SIMULATE_ARGS="{given}"', figures)


def _show(counts: Counter[str], options: argparse.Namespace) -> None:
    if options.counts:
        for name, count in sorted(counts.items()):
            _say(f"{count:8} {name}")


def replay_line(
    kind: Kind,
    seed: str,
    steps: int,
    only: list[str] | None,
    bug: str | None = None,
    day: str | None = None,
) -> str:
    """The command that does it again."""
    parts = [f"python -m {kind.module}", f"--seed {seed}", f"--steps {steps}"]
    if day is not None:
        parts.append(f"--day {day}")
    if bug is not None:
        parts.append(f"--bug {bug}")
    if only is not None:
        parts.append(f"--only {','.join(only)}")
    return " ".join(parts)


def _fails(failed: Outcome, options: argparse.Namespace, kept: list[str]) -> bool:
    again = forked(lambda: _one(failed.seed, options, kept))
    return again.failure is not None and again.rule == failed.rule


def forked(work: Callable[[], Outcome]) -> Outcome:
    """The outcome of `work` in a child of this process."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        gc.disable()  # what is collected, and when, would be part of a history
        with os.fdopen(writer, "w") as answers:
            answers.write(work().to_json())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return Outcome(**json.loads(text))


def _one(seed: str, options: argparse.Namespace, only: list[str] | None) -> Outcome:
    with ExitStack() as stack:
        lines = stack.enter_context(open(options.trace, "w")) if options.trace else None
        if options.feed_pause_s:
            stack.enter_context(mock.patch.object(feed, "PAUSE_MAX_S", options.feed_pause_s))
        stack.enter_context(options.kind.planted(options.bug))
        history = History(lines, is_unsettled=options.unsettled)
        kind: Kind = options.kind
        return kind.simulate(
            seed,
            steps=options.steps,
            only=only,
            watch=options.watch,
            history=history,
            day=options.day,
        )


def _seeds(options: argparse.Namespace) -> Iterator[str]:
    if options.seeds:
        yield from options.seeds
        return
    number = options.first
    while True:
        yield str(number)
        number += 1


def _options(arguments: list[str], kind: Kind) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {kind.module}", description=__doc__)
    parser.set_defaults(kind=kind)
    parser.add_argument("--seed", dest="seeds", action="append", help="only this one")
    parser.add_argument("--first", type=int, default=time.time_ns() % 10**9, help="first seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="events of a seed")
    parser.add_argument("--total", type=int, default=FEWEST, help="events of all")
    parser.add_argument("--seconds", dest="for_s", type=float, default=0.0, help="instead of total")
    parser.add_argument("--only", type=lambda text: text.split(","), help="of the plan")
    parser.add_argument("--watch", help="print the calls that name this session")
    parser.add_argument("--digests", action="store_true", help="print one of each seed's events")
    parser.add_argument("--trace", help="write every event of a seed to this file")
    parser.add_argument("--unsettled", action="store_true", help="on a machine that is busy")
    parser.add_argument("--feed-pause", dest="feed_pause_s", type=float, help="of the feed, in s")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for less that fails")
    parser.add_argument("--counts", action="store_true", help="print what was reached how often")
    parser.add_argument(
        "--probes", action="store_true", help="fail if a rare branch was not reached"
    )
    parser.add_argument("--day", choices=list(MIXES), help="of these users only")
    parser.add_argument("--bug", help="with a planted bug")
    record.add_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
