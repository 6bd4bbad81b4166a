"""`python -m tests.histories run` takes a history of a real runtime under faults; `… check FILE` judges a kept one."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.histories import checker, history
from tests.histories.taking import Plan, take


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="take a history, keep it and check it")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--seconds", type=float, default=60.0)
    run.add_argument("--calls", type=int, default=1_000_000)
    run.add_argument("--clients", type=int, default=16)
    run.add_argument("--sessions", type=int, default=40)
    run.add_argument("--calm", action="store_true", help="do nothing to the runtime")
    run.add_argument("--in-process", action="store_true", help="a runtime of one process")
    run.add_argument("--out", type=Path, default=Path("history.parquet"))
    judge = commands.add_parser("check", help="check kept histories")
    judge.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    if options.command == "check":
        return max(_judge(path) for path in options.files)
    plan = Plan(
        seed=options.seed,
        seconds=options.seconds,
        calls=options.calls,
        clients=options.clients,
        sessions=options.sessions,
        has_faults=not options.calm,
        in_process=options.in_process,
    )
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="hh-") as folder:
        taken = asyncio.run(take(Path(folder), plan))
    history.write(taken.calls, options.out)
    for what, count in sorted(taken.faults.items()):
        sys.stdout.write(f"fault: {what}: {count}\n")
    if taken.unfinished:
        sys.stdout.write(f"{taken.unfinished} runs had what they waited for and did not go on\n")
    return max(_judge(options.out), int(bool(taken.unfinished)))


def _judge(path: Path) -> int:
    calls = history.read(path)
    for line in checker.counts(calls):
        sys.stdout.write(f"{line}\n")
    found = checker.check(calls)
    for line in found:
        sys.stdout.write(f"BROKEN {line}\n")
    sys.stdout.write(f"{path}: {len(calls):,} calls, {'broken' if found else 'as promised'}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
