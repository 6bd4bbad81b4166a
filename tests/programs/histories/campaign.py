"""Histories over Ray and in one process, several at a time, until there are enough calls and faults in them.

Each is taken and judged by a process of its own and kept as a Parquet file; what it held is a JSON file beside it, so
that a campaign can be ended at any time and goes on where it was. Several at a time, because a runtime that comes back
after a fault, or is stopped, leaves processors idle.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.programs.figures import record
from tests.programs.histories import checker, history
from tests.programs.histories.history import Call, Kind, Outcome
from tests.programs.histories.nemesis import HITS
from tests.programs.histories.taking import Plan, Taken, take

ROWS = "history-????.json"
IN_TURNS = 2
"""Every second seed is of one process."""
SHARE = 3
"""Of so many kills and pauses at least one is over Ray and one in one process."""
POLL_S = 0.2
END_S = 150.0
"""A history that is ended has stopped its runtime within so long."""
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One history of a campaign.

    Args:
        seed: Its number, from 1.
        in_process: Whether the runtime was one process.
        took_s: From the start of the runtime to the verdict.
        commit: Of the sources.
        calls: By kind, then by outcome.
        faults: By what was done.
        repeated: Operations that were called more than once.
        broken: What the checker found, by kind of promise.
        unfinished: Runs that did not go on.
    """

    seed: int
    in_process: bool
    took_s: float
    commit: str
    calls: Mapping[str, Mapping[str, int]]
    faults: Mapping[str, int]
    repeated: int
    broken: Mapping[str, int] = field(default_factory=dict)
    unfinished: int = 0

    @property
    def calls_count(self) -> int:
        """All its calls."""
        return sum(sum(outcomes.values()) for outcomes in self.calls.values())

    @property
    def hits_count(self) -> int:
        """Processes killed or stopped."""
        return sum(count for what, count in self.faults.items() if what.startswith(HITS))

    @property
    def is_as_promised(self) -> bool:
        """Nothing was broken, and nothing stood still."""
        return not self.broken and not self.unfinished


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What is to be reached.

    Args:
        folder: Where histories and rows are.
        calls: So many calls in all.
        hits: So many processes killed or stopped.
        at_once: So many histories at a time.
        start: Starts the process that takes the history with this seed.
    """

    folder: Path
    calls: int
    hits: int
    at_once: int
    start: Callable[[int], subprocess.Popen[bytes]]

    def run(self) -> bool:
        """Take histories until it is reached; False if one was not as promised, and then no more are begun.

        Raises:
            AssertionError: One was not taken, as when a runtime does not come back after a fault. What it said and
                its runtime's logs are in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = read_rows(self.folder)
        began_s = time.monotonic()
        with _ended_with_us() as running:
            while running or not self._is_over(rows):
                while len(running) < self.at_once and not self._is_over(rows):
                    seed = next_seed({row.seed for row in rows}, set(running))
                    running[seed] = self.start(seed)
                time.sleep(POLL_S)
                for seed in [seed for seed, one in running.items() if one.poll() is not None]:
                    code = running.pop(seed).returncode
                    row = read_row(self.folder, seed)
                    assert row is not None, (
                        f"history {seed} ended with {code} and was not judged: see history-{seed:04}.log"
                    )
                    rows.append(row)
                    _say(progress(rows, since_s=time.monotonic() - began_s))
        for line in table(rows):
            _say(line)
        return all(row.is_as_promised for row in rows)

    def _is_over(self, rows: Iterable[Row]) -> bool:
        found = list(rows)
        by_form = [
            sum(row.hits_count for row in found if row.in_process is in_process)
            for in_process in (False, True)
        ]
        is_reached = (
            sum(row.calls_count for row in found) >= self.calls
            and sum(by_form) >= self.hits
            and min(by_form) * SHARE >= self.hits
        )
        return is_reached or not all(row.is_as_promised for row in found)


@contextmanager
def _ended_with_us() -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """Processes by seed; those still there at the end are told to end, and end their runtimes."""
    running: dict[int, subprocess.Popen[bytes]] = {}

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield running
    finally:
        for one in running.values():
            one.send_signal(signal.SIGINT)
        for one in running.values():
            one.wait(END_S)
        signal.signal(signal.SIGTERM, before)


def is_in_process(seed: int) -> bool:
    """Whether the runtime of this history of a campaign is one process."""
    return seed % IN_TURNS == 0


def next_seed(taken: set[int], running: set[int]) -> int:
    """The first that is not taken yet, of the form of which fewer have been taken or are running."""
    begun = taken | running
    alone = sum(is_in_process(seed) for seed in running or begun)
    wants_alone = alone * 2 < len(running or begun)
    return next(
        seed
        for seed in itertools.count(1)
        if seed not in begun and is_in_process(seed) is wants_alone
    )


def start(
    seed: int, *, folder: Path, seconds: float, clients: int, sessions: int, between_s: float
) -> subprocess.Popen[bytes]:
    """Take and judge a history in a process of its own; what it says is in the folder."""
    with (folder / f"history-{seed:04}.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable, "-m", "tests.programs.histories", "run", f"--seed={seed}",
                f"--seconds={seconds}", f"--clients={clients}", f"--sessions={sessions}",
                f"--between-s={between_s}", f"--out={folder / f'history-{seed:04}.parquet'}",
                *(["--in-process"] if is_in_process(seed) else []),
            ],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,  # what ends the campaign's group reaches it once, from the campaign
        )  # fmt: skip


def take_one(plan: Plan, out: Path) -> Row:
    """Take a history, keep it and judge it; the last thing that is written is its row, beside it.

    Raises:
        AssertionError: The runtime does not start, or does not come back after a fault.
    """
    began_s = time.monotonic()
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="hh-") as folder:
        taken = take(Path(folder), plan)
    history.write(taken.calls, out)
    broken = checker.check(taken.calls)
    for line in broken:
        _say(f"BROKEN {line}")
    row = row_of(plan, taken, broken, took_s=time.monotonic() - began_s)
    write_row(row, out)
    return row


def write_row(row: Row, out: Path) -> None:
    """Beside its history."""
    fresh = out.with_suffix(".fresh")
    fresh.write_text(json.dumps(asdict(row), indent=1) + "\n")
    fresh.rename(out.with_suffix(".json"))


def row_of(plan: Plan, taken: Taken, broken: Iterable[str], *, took_s: float) -> Row:
    """What a history held, and what the checker said of it."""
    return Row(
        seed=plan.seed,
        in_process=plan.in_process,
        took_s=round(took_s, 1),
        commit=record.commit(),
        calls=_by_kind(taken.calls),
        faults=dict(sorted(taken.faults.items())),
        repeated=sum(
            count > 1
            for count in Counter(call.operation for call in taken.calls if call.operation).values()
        ),
        broken=dict(Counter(line.split(":")[0] for line in broken)),
        unfinished=taken.unfinished,
    )


def _by_kind(calls: Iterable[Call]) -> dict[str, dict[str, int]]:
    counts = Counter((call.kind, call.outcome) for call in calls)
    return {
        kind.value: {
            outcome.value: counts[kind, outcome] for outcome in Outcome if counts[kind, outcome]
        }
        for kind in Kind
        if kind is not Kind.FAULT and any(counts[kind, outcome] for outcome in Outcome)
    }


def read_rows(folder: Path) -> list[Row]:
    """What a campaign has so far."""
    return [Row(**json.loads(path.read_text())) for path in sorted(folder.glob(ROWS))]


def read_row(folder: Path, seed: int) -> Row | None:
    """Of a history, if it was judged."""
    path = folder / f"history-{seed:04}.json"
    return Row(**json.loads(path.read_text())) if path.exists() else None


def sums(rows: Iterable[Row]) -> dict[str, Any]:
    """What a record of figures holds of a campaign."""
    calls: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    found = list(rows)
    for row in found:
        for kind, outcomes in row.calls.items():
            calls.update({f"{kind} {outcome}": count for outcome, count in outcomes.items()})
        faults.update(row.faults)
        broken.update(row.broken)
    return {
        "histories": len(found),
        "took_s": round(sum(row.took_s for row in found)),
        "calls": sum(row.calls_count for row in found),
        "hits": sum(row.hits_count for row in found),
        "repeated": sum(row.repeated for row in found),
        "unfinished": sum(row.unfinished for row in found),
        "by_call": dict(sorted(calls.items())),
        "faults": dict(sorted(faults.items())),
        "broken": {kind: broken[kind] for kind in checker.PROMISES},
    }


def progress(rows: list[Row], *, since_s: float) -> str:
    """One line after each history."""
    newest, found = rows[-1], sums(rows)
    where = "one process" if newest.in_process else "Ray"
    verdict = "as promised" if newest.is_as_promised else "BROKEN"
    return (
        f"{newest.seed:4} {where:11} {newest.calls_count:8,} calls {newest.hits_count:4} kills and pauses "
        f"{newest.took_s:5.0f} s {verdict}; in all {found['calls']:,} and {found['hits']:,}; {since_s:,.0f} s"
    )


def table(rows: list[Row]) -> list[str]:
    """All sums, a line each."""
    found = sums(rows)
    lines = [f"{count:12,} {what}" for what, count in found["by_call"].items()]
    lines += [f"{count:12,} {what}" for what, count in found["faults"].items()]
    lines += [f"{count:12,} broken: {kind}" for kind, count in found["broken"].items()]
    lines.append(
        f"{found['histories']} histories, {found['calls']:,} calls, {found['hits']:,} kills and pauses, "
        f"{found['repeated']:,} operations repeated, {found['unfinished']} runs unfinished, {found['took_s']:,} s"
    )
    return lines


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
