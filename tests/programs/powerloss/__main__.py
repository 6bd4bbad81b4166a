"""`python -m tests.programs.powerloss`: record a ledger's lives, build images, judge them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.programs.figures.record import add_option, put
from tests.programs.powerloss.campaign import ALL_WAYS, Found, again, run, shares, table
from tests.programs.powerloss.judge import BACKUP, BROKEN, DROPPED, LOST, REPAIRED, WHOLE
from tests.programs.powerloss.recording import NoCompiler, Recording, kept, record

COMMITS = 40
IMAGES = 1_000
SABOTAGED = 60


def main(words: list[str] | None = None) -> int:
    """Run it; 1 if an image came to what none may."""
    options = _options().parse_args(words)
    started = time.process_time()
    with tempfile.TemporaryDirectory(prefix="helmr-powerloss-") as name:
        folder = Path(name)
        try:
            recording = _recording(options, folder)
        except NoCompiler:
            sys.stderr.write("powerloss: there is no C compiler here\n")
            return 2
        if options.image is not None:
            one = again(recording, options.image, folder, options.keep or options.kept)
            sys.stdout.write(table(one))
            return 1 if one.broken else 0
        said = f"{len(recording.events):,} events, {len(recording.truth.entries):,} entries\n"
        sys.stdout.write(said)
        found = _found(options, recording, folder)
        sabotaged = run(recording, shares(SABOTAGED), folder, seed=options.seed, sabotages=True)
    sys.stdout.write(table(found))
    lost = sabotaged.verdicts.total(LOST)
    sys.stdout.write(
        f"with the log emptied and the mark gone {lost} of {SABOTAGED} are found lost\n"
    )
    if options.record:
        totals = found.verdicts.total
        put(
            "powerloss",
            f"make powerloss POWERLOSS_ARGS={' '.join(words or sys.argv[1:])!r}",
            {
                "images": totals(),
                "whole": totals(WHOLE),
                "repaired": totals(REPAIRED),
                "dropped": totals(DROPPED),
                "backup": totals(BACKUP),
                "lost": totals(LOST),
                "broken": totals(*BROKEN),
                "ways": {way: counts.total() for way, counts in found.verdicts.by_way.items()},
                "events": len(recording.events),
                "entries": len(recording.truth.entries),
                "sabotaged": SABOTAGED,
                "sabotage_found": lost,
                "cpu_s": round(time.process_time() - started, 1),
            },
        )
    if lost == 0:
        sys.stdout.write("the judge sees no loss where there is one\n")
    return 1 if found.broken or lost == 0 else 0


def _recording(options: argparse.Namespace, folder: Path) -> Recording:
    if options.kept is not None:
        return kept(options.kept)
    if options.image is not None:
        raise SystemExit("--image needs --kept: another recording has other events")
    return record(folder, options.commits)


def _found(options: argparse.Namespace, recording: Recording, folder: Path) -> Found:
    wanted = _wanted(options.ways, options.images)
    return run(recording, wanted, folder, seed=options.seed, keep=options.keep)


def _wanted(ways: str | None, count: int) -> dict[str, int]:
    if ways is None:
        return shares(count)
    wanted = {}
    for one in ways.split(","):
        way, _, number = one.partition("=")
        if way not in ALL_WAYS:
            raise SystemExit(f"there is no way {way!r}: {', '.join(ALL_WAYS)}")
        wanted[way] = int(number or count)
    return wanted


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.powerloss", description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="how many, of all ways in turn")
    parser.add_argument(
        "--ways", help="some ways only, each with its own number: sectors=91,pages=98"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commits", type=int, default=COMMITS, help="of each caller in each life")
    parser.add_argument(
        "--keep",
        type=Path,
        help="a folder for the recording, and for images that do not open at once",
    )
    parser.add_argument("--kept", type=Path, help="a folder with a recording that --keep has left")
    parser.add_argument(
        "--image", help="one image of that recording, as it was said: WAY:EVENT:SEED"
    )
    add_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
