"""Histories one after the other, in one process and over Ray in turns, until there are enough calls and faults in them.

Each is judged as it ends and kept as a Parquet file; what it held is a row of `campaign.json` beside it, so that a
campaign can be ended at any time and goes on where it was.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.figures import record
from tests.histories import checker, history
from tests.histories.history import Call, Kind, Outcome
from tests.histories.nemesis import HITS
from tests.histories.taking import Plan, Taken, take

ROWS = "campaign.json"
IN_TURNS = 2
"""Every second history is of one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One history of a campaign.

    Args:
        seed: Also its number, from 1.
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
        seconds: Of one history.
        clients: How many call at once.
        sessions: How many are live at once.
    """

    folder: Path
    calls: int
    hits: int
    seconds: float
    clients: int
    sessions: int

    def run(self) -> bool:
        """Take histories until it is reached; False as soon as one is not as promised.

        Raises:
            AssertionError: A runtime does not come back after a fault; its logs are in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = read_rows(self.folder)
        while all(row.is_as_promised for row in rows) and not self._is_reached(rows):
            rows.append(self._one(len(rows) + 1))
            _write_rows(self.folder, rows)
            _say(progress(rows))
        for line in table(rows):
            _say(line)
        return all(row.is_as_promised for row in rows)

    def _is_reached(self, rows: Iterable[Row]) -> bool:
        found = list(rows)
        return (
            sum(row.calls_count for row in found) >= self.calls
            and sum(row.hits_count for row in found) >= self.hits
        )

    def _one(self, seed: int) -> Row:
        plan = Plan(
            seed=seed,
            seconds=self.seconds,
            clients=self.clients,
            sessions=self.sessions,
            in_process=seed % IN_TURNS == 0,
            logs=self.folder / f"logs-{seed:04}",
        )
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="hh-") as folder:
            taken = take(Path(folder), plan)
        history.write(taken.calls, self.folder / f"history-{seed:04}.parquet")
        broken = checker.check(taken.calls)
        for line in broken:
            _say(f"BROKEN {line}")
        return row_of(plan, taken, broken, took_s=time.monotonic() - began_s)


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
    path = folder / ROWS
    return [Row(**row) for row in json.loads(path.read_text())] if path.exists() else []


def _write_rows(folder: Path, rows: Iterable[Row]) -> None:
    fresh = folder / f".{ROWS}"
    fresh.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    fresh.rename(folder / ROWS)


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


def progress(rows: list[Row]) -> str:
    """One line after each history."""
    newest, found = rows[-1], sums(rows)
    where = "one process" if newest.in_process else "Ray"
    verdict = "as promised" if newest.is_as_promised else "BROKEN"
    return (
        f"{newest.seed:4} {where:11} {newest.calls_count:8,} calls {newest.hits_count:4} kills and pauses "
        f"{newest.took_s:5.0f} s {verdict}; in all {found['calls']:,} and {found['hits']:,} in {found['took_s']:,} s"
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
