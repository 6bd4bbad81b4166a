"""`python -m tests.programs.histories run` takes a history of a real runtime under faults.

`… check FILE` judges a kept one, `… campaign` takes many, until there are enough.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from functools import partial
from pathlib import Path

from tests.programs.figures import record
from tests.programs.histories import campaign, checker, history
from tests.programs.histories.nemesis import BETWEEN_S
from tests.programs.histories.taking import Plan

ROOT = Path(__file__).resolve().parents[3]
CALLS = 1_000_000
HITS = 1_000


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if a promise was broken."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    match options.command:
        case "check":
            return max(_judge(path) for path in options.files)
        case "campaign":
            return _campaign(options, _repeated(given))
        case _:
            return _run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.programs.histories", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="take a history, keep it and check it")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--seconds", type=float, default=60.0)
    run.add_argument("--calls", type=int, default=CALLS)
    run.add_argument("--calm", action="store_true", help="do nothing to the runtime")
    run.add_argument("--in-process", action="store_true", help="a runtime of one process")
    run.add_argument("--out", type=Path, default=Path("history.parquet"))
    many = commands.add_parser("campaign", help="take histories until there are enough, or go on")
    many.add_argument("--calls", type=int, default=CALLS, help="in all")
    many.add_argument("--kills", type=int, default=HITS, help="kills and pauses in all")
    many.add_argument("--seconds", type=float, default=300.0, help="of each history")
    many.add_argument("--at-once", type=int, default=2, help="histories at a time")
    many.add_argument("--folder", type=Path, default=ROOT / ".bench" / "histories")
    record.add_option(many)
    for one in (run, many):
        one.add_argument("--clients", type=int, default=32)
        one.add_argument("--sessions", type=int, default=40)
        one.add_argument(
            "--between-s", type=float, default=BETWEEN_S, help="between two faults, at most"
        )
    judge = commands.add_parser("check", help="check kept histories")
    judge.add_argument("files", type=Path, nargs="+")
    return parser


def _repeated(given: list[str]) -> str:
    """How anybody does it again: in a folder of their own."""
    told = [
        one
        for before, one in zip(["", *given], given, strict=False)
        if "--folder" not in (before, one.partition("=")[0])
    ]
    return f'make histories HISTORY_ARGS="{shlex.join(told)}"'


def _campaign(options: argparse.Namespace, command: str) -> int:
    folder: Path = options.folder.resolve()
    wanted = campaign.Campaign(
        folder=folder,
        calls=options.calls,
        hits=options.kills,
        at_once=options.at_once,
        start=partial(
            campaign.start,
            folder=folder,
            seconds=options.seconds,
            clients=options.clients,
            sessions=options.sessions,
            between_s=options.between_s,
        ),
    )
    is_as_promised = wanted.run()
    if options.record:
        rows = campaign.read_rows(folder)
        commits = ", ".join(sorted({row.commit for row in rows}))
        record.put("histories", command, campaign.sums(rows), commit_=commits)
    return 0 if is_as_promised else 1


def _run(options: argparse.Namespace) -> int:
    # A shell starts what runs in its background with this ignored, and a campaign ends its histories by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    plan = Plan(
        seed=options.seed,
        seconds=options.seconds,
        calls=options.calls,
        clients=options.clients,
        sessions=options.sessions,
        has_faults=not options.calm,
        in_process=options.in_process,
        between_s=options.between_s,
        logs=options.out.with_suffix(".logs"),
    )
    row = campaign.take_one(plan, options.out)
    for line in (*campaign.table([row]), *history.longest(history.read(options.out))):
        sys.stdout.write(f"{line}\n")
    return 0 if row.is_as_promised else 1


def _judge(path: Path) -> int:
    calls = history.read(path)
    for line in (*history.counts(calls), *history.longest(calls)):
        sys.stdout.write(f"{line}\n")
    found = checker.check(calls)
    for line in found:
        sys.stdout.write(f"BROKEN {line}\n")
    sys.stdout.write(f"{path}: {len(calls):,} calls, {'broken' if found else 'as promised'}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
