"""Sessions under a limit, against a provider that counts, while processes of the runtime are killed.

```
python -m tests.programs.limits --sessions 1000 --at-once 8 --per 200 --within 60 --kill host,directory,all
python -m tests.programs.limits --sessions 1000 --at-once 8 --per 200 --within 60
python -m tests.programs.limits --sessions 1000 --at-once 8 --per 200 --within 60 --beside PYTHON
python -m tests.programs.limits --tenants --at-once 8
python -m tests.programs.limits --tenants --at-once 8 --per 200 --within 60
python -m tests.programs.limits --cost
```

It fails if a permit too many was used: by what was under way at the provider, and by the steps' beginnings in the
ledger, in any time of `within`. Without kills it says how much of what the limit allows was used. `--cost` says what a
permit costs: CPU of a step under a limit that no one reaches, less that of one without, in turns. `--beside` has DBOS's
queue make the same calls to a provider of its own meanwhile, by an interpreter that has DBOS. `--tenants` has a small
tenant beside a large one (`tests.programs.limits.tenants`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from helmr.errors import HelmrError
from helmr.hash_seed import VARIABLE as SEED
from tests.programs.benchmarks.processes import cpu_by_process
from tests.programs.limits.beside import Asked, DbosQueue, arrived
from tests.programs.limits.counting import Provider, most_at_once, most_within
from tests.programs.limits.tenants import Tenants, TenantsRun, is_fair
from tests.stack.live import LiveRuntime, kill, until

TASKS = Path(__file__).with_name("limit_tasks.py")
STARTERS = 4
AT_PROVIDER = 59 / 60
"""Of `within`: a call reaches the provider up to a moment after its step began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run. `kills`: parts of the runtime, one after the other while the calls are made."""

    sessions: int
    at_once: int
    per: int
    within_s: float
    hold_s: float = 0.5
    kills: Sequence[str] = ()
    in_process: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of it.

    Attributes:
        at_once: Calls that were under way at the provider at the same time.
        begun: Steps that began in some `within`, by the ledger.
        arrived: Calls that reached the provider in 59 sixtieths of that.
        calls: All calls, those that a killed host made too.
        share: Of the calls that `per` allows between the first beginning and the last, how many were made.
        pauses_s: The longest between two beginnings, one for each kill and one more.
    """

    at_once: int
    begun: int
    arrived: int
    calls: int
    share: float
    pauses_s: tuple[float, ...] = ()

    def is_fine(self, plan: Plan) -> bool:
        """No permit too many was used."""
        return self.at_once <= plan.at_once and self.begun <= plan.per


def run(
    plan: Plan, folder: Path, beside: Callable[[Provider], None] = lambda provider: None
) -> Seen:
    """Start the sessions, kill what the plan says, and wait for all of them.

    Args:
        beside: Called when every run has ended, while the provider is there.

    Raises:
        AssertionError: A run did not succeed, or not in time.
    """
    provider = Provider(plan.hold_s)
    said = {**asdict(plan), "port": provider.port}
    folder.mkdir(exist_ok=True)
    live = LiveRuntime(
        folder,
        tasks=TASKS,
        hosts=1 if plan.in_process else 2,
        sessions_per_host=100,
        in_process=plan.in_process,
        environ=_environ(said),
    )
    allowed_s = plan.sessions / plan.per * plan.within_s
    within_s = 60.0 + 3 * allowed_s
    live.start()
    try:
        with ThreadPoolExecutor(STARTERS) as pool:
            ids = list(pool.map(lambda n: _begin(live, n), range(plan.sessions)))
        for place, part in enumerate(plan.kills, 1):
            count = plan.sessions * place // (len(plan.kills) + 1)
            until(lambda count=count: len(provider.calls) >= count, within_s=within_s, what="calls")  # type: ignore[misc]
            _kill(live, part)
        until(lambda: len(provider.calls) >= plan.sessions, within_s=within_s, what="all calls")
        for session_id in ids:
            ended = live.ended(session_id, within_s=within_s)
            assert ended.status == "succeeded", live.seen_of(session_id)
        begun = [
            entry.recorded_at.timestamp()
            for session_id in ids
            for entry in live.transcript(session_id)
            if entry.kind == "step.started"
        ]
        beside(provider)
    finally:
        live.stop()
        provider.stop()
    begun.sort()
    span_s = begun[-1] - begun[0]
    pauses_s = sorted((round(later - one, 2) for one, later in pairwise(begun)), reverse=True)
    return Seen(
        at_once=most_at_once(provider.calls),
        begun=most_within(begun, plan.within_s),
        arrived=most_within((one.began_s for one in provider.calls), plan.within_s * AT_PROVIDER),
        calls=len(provider.calls),
        share=(len(begun) - 1) / span_s / (plan.per / plan.within_s) if span_s else 1.0,
        pauses_s=tuple(pauses_s[: len(plan.kills) + 1]),
    )


def cost(folder: Path, *, rounds: int = 10, count: int = 300) -> dict[str, float]:
    """Milliseconds of CPU of a step without a limit, and of a permit: medians of rounds in turns, in one process."""
    said = {**asdict(Plan(sessions=0, at_once=1, per=1, within_s=1.0)), "port": 0}
    live = LiveRuntime(folder, tasks=TASKS, in_process=True, environ=_environ(said))
    live.start()
    found: dict[bool, list[float]] = {False: [], True: []}
    try:
        for place in range(2 * (rounds + 1)):
            is_bound = bool(place % 2)
            before_s = _cpu_s(live)
            session_id = live.begin("steps", {"count": count, "is_bound": int(is_bound)})
            assert live.ended(session_id).status == "succeeded"
            if place >= 2:  # the first of each warms up
                found[is_bound].append((_cpu_s(live) - before_s) / count * 1000)
    finally:
        live.stop()
    each = [bound - free for free, bound in zip(found[False], found[True], strict=True)]
    return {"step_ms": median(found[False]), "permit_ms": median(each)}


def _cpu_s(live: LiveRuntime) -> float:
    return sum(cpu_by_process(live.pids()[:1]).values())


def _environ(said: dict[str, Any]) -> dict[str, str]:
    return {"HELMR_LIMITS_PROGRAM": json.dumps(said), SEED: "1"}


def _begin(live: LiveRuntime, number: int) -> str:
    tenant = "small" if number % 100 == 0 else "large"
    return live.begin("calls", {"name": f"call {number}", "tenant": tenant})


def _kill(live: LiveRuntime, part: str) -> None:
    """`kill -9` of a host, of the directory, or of every process, which is then started again."""
    if part == "all":
        live.kill_all()
        live.start()
        return
    pids = live.host_pids() if part == "host" else [live.pid_of(part)]
    kill(pids[0])
    until(lambda: _is_ready(live), within_s=60, what=f"ready without {part}")


def _is_ready(live: LiveRuntime) -> bool:
    try:
        return live.client.health().ready
    except (HelmrError, OSError):
        return False


def main(words: Sequence[str] | None = None) -> int:
    """Run it, and say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.limits")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--per", type=int, help="200, if there are no tenants")
    parser.add_argument("--within", type=float, default=60.0, help="seconds")
    parser.add_argument("--hold", type=float, default=0.5, help="seconds that a call takes")
    parser.add_argument("--kill", default="", help="host, directory, all, with commas")
    parser.add_argument("--in-process", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--beside", metavar="PYTHON", help="an interpreter that has DBOS")
    parser.add_argument("--tenants", action="store_true")
    parser.add_argument("--small", type=int, help="sessions of the small tenant")
    given = parser.parse_args(words)
    if given.tenants:
        return _tenants(given, is_rated=given.per is not None)
    given.per = given.per if given.per is not None else 200
    if given.cost:
        with tempfile.TemporaryDirectory(prefix="helmr-limits-") as folder:
            sys.stdout.write(json.dumps(cost(Path(folder))) + "\n")
        return 0
    plan = Plan(
        sessions=given.sessions,
        at_once=given.at_once,
        per=given.per,
        within_s=given.within,
        hold_s=given.hold,
        kills=tuple(filter(None, given.kill.split(","))),
        in_process=given.in_process,
    )
    with tempfile.TemporaryDirectory(prefix="helmr-limits-") as folder:
        found = _beside(plan, Path(folder), given.beside) if given.beside else {}
        seen = found.pop("seen") if found else run(plan, Path(folder))
    said = {"plan": asdict(plan), "seen": asdict(seen), **found}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0 if seen.is_fine(plan) else 1


def _beside(plan: Plan, folder: Path, python: str) -> dict[str, Any]:
    """As `run`, and what the providers of Helmr and of DBOS saw, both in the same minutes."""
    asked = Asked(
        sessions=plan.sessions, at_once=plan.at_once, per=plan.per, within_s=plan.within_s
    )
    queue = DbosQueue(python, folder / "dbos", hold_s=plan.hold_s)
    found: dict[str, Any] = {}
    try:
        queue.start(asked)
        found["seen"] = run(
            plan,
            folder / "helmr",
            lambda provider: found.update(helmr=asdict(arrived(provider, asked))),
        )
        within_s = 60.0 + 3 * plan.sessions / plan.per * plan.within_s
        found["dbos"] = asdict(queue.wait(asked, within_s=within_s))
    finally:
        queue.stop()
    return found


def _tenants(given: argparse.Namespace, *, is_rated: bool) -> int:
    plan = Tenants(
        large=given.sessions,
        small=given.small or (100 if is_rated else 10),
        at_once=given.at_once,
        per=given.per,
        within_s=given.within,
        hold_s=given.hold,
        in_process=given.in_process,
    )
    said: dict[str, Any]
    with tempfile.TemporaryDirectory(prefix="helmr-limits-") as folder:
        run = TenantsRun(plan, Path(folder))
        if is_rated:
            found = run.begun()
            is_fine, said = is_fair(found), {"small_and_large_in_10_s": found}
        else:
            times = run.times()
            is_fine, said = times.is_fine(), asdict(times)
    sys.stdout.write(json.dumps({"plan": asdict(plan), **said}) + "\n")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
