"""The same for many runs: which, at which attempt and by which operation, fixed when they were shown (S-124).

A plan is the list that someone has seen, never "all that match by then". It is kept in a file before the first call
leaves, so that any program of the same person goes on with it after a crash. Each of its calls has an operation id of
its own and names the attempt that was seen: a run that was done before is not done again, and one that has begun
another attempt since is refused and reported. The console and `helmr run retry --all` have this in common.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from helmr import ids
from helmr.errors import UsageError
from helmr.models import BATCH_ID_PATTERN, RunInfo, RunStatus
from helmr.profiles import write_private

PLAN_RUNS_MAX = 1_000
"""Runs of one plan; a thousand are one screen of groups, and some ten seconds of calls."""
PLANS_MAX = 100
PLAN_BYTES_MAX = 4_000_000
VALID = timedelta(hours=24)
"""What was shown longer ago is looked at again."""
WHY_MAX = 300


class BulkVerb(StrEnum):
    """What is done to each of them."""

    RETRY = "retry"
    CANCEL = "cancel"

    def takes(self, status: RunStatus | None) -> bool:
        """Whether it can be done to a session's newest run of this status."""
        if self is BulkVerb.RETRY:
            return status in (RunStatus.FAILED, RunStatus.BLOCKED)
        return status is not None and not status.is_final


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One of them as it was shown; `task` and `why` are texts of a session."""

    run_id: str
    session_id: str
    attempt: int
    operation_id: str
    task: str
    status: str
    why: str

    @property
    def title(self) -> str:
        """The first line of why, else its status."""
        return self.why.partition("\n")[0] or self.status


@dataclass(frozen=True, slots=True)
class BulkPlan:
    """What was shown, in the order in which it is done."""

    id: str
    verb: BulkVerb
    made_at: datetime
    runs: tuple[PlannedRun, ...]

    def groups(self) -> list[tuple[int, str]]:
        """How many there are of each task and first line of an error, the most first. The texts are not made safe."""
        alike = Counter(f"{one.task}  {one.title}" for one in self.runs)
        return [(count, text) for text, count in alike.most_common()]


def plan(
    verb: BulkVerb, runs: Iterable[RunInfo], made_at: datetime, batch_id: str | None = None
) -> BulkPlan:
    """The plan for these runs, under this name or a new one.

    Raises:
        UsageError: The name can't be one.
    """
    if batch_id is not None and re.match(BATCH_ID_PATTERN, batch_id) is None:
        raise UsageError(
            f"{batch_id!r} is no name of a batch",
            hint="1 to 128 letters, digits and ._:-, the first a letter or digit.",
        )
    planned = (
        PlannedRun(
            run_id=one.id,
            session_id=one.session_id,
            attempt=one.attempt,
            operation_id=ids.new_id(ids.OPERATION),
            task=one.task,
            status=one.status.value,
            why=one.error.text[:WHY_MAX] if one.error is not None else "",
        )
        for one in runs
        if verb.takes(one.status)
    )
    return BulkPlan(batch_id or ids.new_id("batch"), verb, made_at, tuple(planned))


class BulkPlans:
    """One file for each plan, mode 0600; the oldest go when there are more than `PLANS_MAX`.

    Args:
        folder: Where they are; made when the first plan is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, plan: BulkPlan) -> None:
        """Keep it, before its first call.

        Raises:
            OSError: It can't be kept.
        """
        parts = {**asdict(plan), "made_at": plan.made_at.isoformat()}
        write_private(self._path(plan.id), json.dumps(parts))
        files = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in files[: max(0, len(files) - PLANS_MAX)]:
            old.unlink(missing_ok=True)

    def load(self, batch_id: str, verb: BulkVerb, now: datetime) -> BulkPlan | None:
        """The plan of that name; None if there is none, or its file can't be read.

        Raises:
            UsageError: It was shown too long ago, or does something else.
        """
        found = self._read(self._path(batch_id))
        if found is None or found.id != batch_id:
            return None
        if found.verb is not verb:
            raise UsageError(
                f"the runs of batch {batch_id} are to {found.verb.value}, not to {verb.value}",
                hint="Name another batch.",
            )
        if now - found.made_at > VALID:
            raise UsageError(
                f"the runs of batch {batch_id} were looked at more than a day ago",
                hint="Look at them again, under another name.",
            )
        return found

    def _path(self, batch_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(batch_id.encode()).hexdigest()[:32]}.json"

    def _read(self, path: Path) -> BulkPlan | None:
        try:
            if path.stat().st_size > PLAN_BYTES_MAX:
                return None
            return _plan(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def _plan(parts: Mapping[str, Any]) -> BulkPlan:
    made_at = datetime.fromisoformat(parts["made_at"])
    if made_at.tzinfo is None:
        raise ValueError("a time without its zone")
    runs = tuple(PlannedRun(**one) for one in parts["runs"])
    return BulkPlan(str(parts["id"]), BulkVerb(parts["verb"]), made_at, runs)
