"""`python -m tests.programs.planted [NAME…]`: apply each patch to a copy of the sources and require that it is caught.

What is to catch them runs first without any patch, and has to succeed there. Prints what caught each, after how many
tests or steps, and how long that took.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.programs.figures import record
from tests.programs.planted.bugs import Bug, apply, known_bugs
from tests.programs.planted.catching import (
    Missed,
    catch,
    copy_sources,
    fault_without_patch,
    require_imported,
)

ROOT = Path(__file__).resolve().parents[3]


def main(arguments: list[str]) -> int:
    """Try them; 1 if one is not caught."""
    known = known_bugs()
    parser = argparse.ArgumentParser(prog="python -m tests.programs.planted", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    record.add_option(parser)
    options = parser.parse_args(arguments)
    names = options.names
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    if options.record and names:
        parser.error("only all of them are put on record; name none")
    bugs = [known[name] for name in names or known]
    count = caught(bugs)
    if options.record:
        figures = {"planted": len(bugs), "caught": count}
        record.put("planted", 'make planted PLANTED_ARGS="--record"', figures)
    return 0 if count == len(bugs) else 1


def caught(bugs: Collection[Bug]) -> int:
    """How many of these everything catches that is to."""
    with tempfile.TemporaryDirectory(prefix="helmr-planted-") as folder:
        sound = Path(folder) / "sound"
        sound.mkdir()
        copy_sources(ROOT, sound)
        require_imported(sound)
        fault = fault_without_patch([one for bug in bugs for one in bug.caught_by], sound)
        if fault is not None:
            _say(fault)
            return 0
        _say(f"{'bug':28} {'after':>14} {'seconds':>8}  caught by")
        found = [_is_caught(bug, sound) for bug in bugs]
    _say(f"{sum(found)} of {len(found)} caught")
    return sum(found)


def _is_caught(bug: Bug, sound: Path) -> bool:
    patched = sound.parent / bug.name
    # With its bytecode: Python compiles anew what is newer than that, and the patched files are.
    shutil.copytree(sound, patched)
    if (refusal := apply(bug, patched)) is not None:
        _say(f"{bug.name:28} does not apply: {refusal}")
        return False
    found = [catch(command, patched) for command in bug.caught_by]
    for command, one in zip(bug.caught_by, found, strict=True):
        if isinstance(one, Missed):
            _say(f"{bug.name:28} is missed by {' '.join(command)}: {one.why}\n{one.said}")
        else:
            _say(f"{bug.name:28} {one.after:>14} {one.took_s:8.1f}  {one.by}")
    shutil.rmtree(patched)
    return not any(isinstance(one, Missed) for one in found)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
