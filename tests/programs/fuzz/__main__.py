"""`python -m tests.programs.fuzz`: parsers given damaged inputs for as long as it is told.

Prints of each how many inputs were read and how many refused. What a parser does wrong ends it, with the smallest
input that shows it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.programs.fuzz.all_parsers import PARSERS
from tests.programs.fuzz.file_parsers import restoring
from tests.programs.fuzz.parsers import Parser
from tests.programs.fuzz.served import served
from tests.programs.fuzz.trying import READ, REFUSED, try_one

EXAMPLES = 100
"""Of one parser, before the next has its turn."""


def turn(parser: Parser, tried: Counter[str]) -> None:
    """So many inputs for one parser."""

    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(parser.inputs)
    def run(one: Any) -> None:
        tried[try_one(parser, one)] += 1

    run()


def main() -> int:
    """Run; 1 if a parser does what it does not document."""
    arguments = argparse.ArgumentParser(prog="python -m tests.programs.fuzz", description=__doc__)
    arguments.add_argument("parsers", nargs="*", help="only these, by name")
    arguments.add_argument("--seconds", type=float, default=600.0)
    options = arguments.parse_args()
    with served() as gateway:
        known = {one.name: one for one in (*PARSERS, restoring(), gateway)}
        if unknown := sorted(set(options.parsers) - known.keys()):
            arguments.error(f"there is no {unknown[0]}; there are {', '.join(known)}")
        chosen = [known[name] for name in options.parsers or known]
        tried = {one.name: Counter[str]() for one in chosen}
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            for parser in chosen:
                try:
                    turn(parser, tried[parser.name])
                except Exception as error:  # the finding, with what Hypothesis says of its input
                    notes = "\n".join(getattr(error, "__notes__", ()))
                    sys.stdout.write(f"{parser.name}: {error!r}\n{notes}\n")
                    return 1
    for name, counts in tried.items():
        sys.stdout.write(f"{counts[READ]:9,} read {counts[REFUSED]:9,} refused  {name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
