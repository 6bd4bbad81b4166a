"""Plans of many runs, kept in files before the first call leaves (S-124).

A plan is the list that someone has seen, never "all that match by then". Any program of the same person goes on with it
after a crash. The console and the command line have this in common; what a plan is, `helmr.models.bulk` says.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from pathlib import Path

from helmr.errors import UsageError
from helmr.models import BATCH_ID_PATTERN, BULK_AGE_S, BulkPlan, BulkVerb
from helmr.private_file import write_private

PLANS_MAX = 100
PLAN_BYTES_MAX = 4_000_000
VALID = timedelta(seconds=BULK_AGE_S)


def check_name(batch_id: str | None) -> None:
    """Return if it can name a batch.

    Raises:
        UsageError: It can't.
    """
    if batch_id is not None and re.match(BATCH_ID_PATTERN, batch_id) is None:
        raise UsageError(
            f"{batch_id!r} is no name of a batch",
            hint="1 to 128 letters, digits and ._:-, the first a letter or digit.",
        )


class BulkPlans:
    """One file for each plan, mode 0600; the oldest go when there are more than `PLANS_MAX`.

    Args:
        folder: Their folder; made with the first plan.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, plan: BulkPlan) -> None:
        """Keep it, before its first call.

        Raises:
            OSError: It can't be kept.
        """
        write_private(self._path(plan.id), plan.model_dump_json())
        files = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
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
        return self.folder / f"{hashlib.sha256(batch_id.encode()).hexdigest()[:32]}.json"

    def _read(self, path: Path) -> BulkPlan | None:
        try:
            if path.stat().st_size > PLAN_BYTES_MAX:
                return None
            found = BulkPlan.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            return None
        return found if found.made_at.tzinfo is not None else None
