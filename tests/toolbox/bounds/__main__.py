"""`make toolbox`: measure the bounds of the operator's toolbox; exit code 1 if one does not hold.

Times are of this machine as it is: it says its load. What commits wait for is compared in turns of one run; `verify`,
which uses one processor, is held to its processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.programs.figures import record
from tests.toolbox.bounds.commits import Compared, beside_backup, beside_pruning
from tests.toolbox.bounds.ledgers import built
from tests.toolbox.bounds.verifying import verified

VERIFY_MAX_S = 30.0
"""For a million entries."""

ADDED_MAX_MS = 100.0


def main(arguments: list[str]) -> int:
    """Measure what is asked for."""
    options = _options(arguments)
    wanted = set(options.what or ("verify", "backup", "prune"))
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    figures: dict[str, Any] = {"load": load}
    broken: list[str] = []
    data_dir = asyncio.run(built(options.folder, options.entries))
    if "verify" in wanted:
        one = verified(data_dir)
        figures["verify"] = asdict(one)
        _say(f"verify: {one.entries:,} entries in {one.took_s:.1f} s, {one.cpu_s:.1f} s of CPU")
        if one.cpu_s >= VERIFY_MAX_S * one.entries / 1_000_000:
            broken.append("verify")
    for name, measure in (("backup", beside_backup), ("prune", beside_pruning)):
        if name in wanted:
            compared = asyncio.run(measure(data_dir, options.turns))
            figures[name] = {**asdict(compared), "added_ms": compared.added_ms}
            _say_compared(name, compared)
            if compared.added_ms > ADDED_MAX_MS:
                broken.append(name)
    _say(f"load {load} before, {' '.join(f'{one:.1f}' for one in os.getloadavg())} after")
    for name in broken:
        _say(f"out of its bound: {name}")
    if options.record:
        figures = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 2))
        given = " ".join(arguments)
        record.put("toolbox", f'make toolbox TOOLBOX_ARGS="{given}"', {**figures, "broken": broken})
    return 1 if broken else 0


def _say_compared(name: str, compared: Compared) -> None:
    for kind, waits in (("without", compared.without), ("beside", compared.beside)):
        _say(
            f"{name}: {waits.count} commits {kind} it, ms: p50 {waits.p50:.1f}, "
            f"p99 {waits.p99:.1f}, longest {waits.longest:.1f}"
        )
    _say(f"{name}: {compared.done} pages; the longest commit took {compared.added_ms:+.1f} ms more")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("make toolbox", description=__doc__, allow_abbrev=False)
    parser.add_argument("what", nargs="*", help="verify, backup, prune; all of them")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the ledger")
    parser.add_argument("--turns", type=int, default=15, help="of two seconds, of each kind")
    parser.add_argument("--folder", type=Path, default=Path(".bench/toolbox"))
    record.add_option(parser)
    options = parser.parse_args(arguments)
    if options.record and options.what:
        parser.error("what is put on record is all three")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
