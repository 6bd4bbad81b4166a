"""Whether a ledger that opens has everything that was acknowledged, and nothing that never was."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from helmr.errors import DataError, HelmrError, UsageError
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import sessions_of
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tools.audit import audit
from helmr_runtime.ledger.tools.repair import repair
from tests.ledger.sessions import SMALL

WHOLE = "whole"
"""It opens, with everything."""

REPAIRED = "repaired"
"""It is refused; `helmr repair` makes of it one with everything."""

DROPPED = "dropped"
"""It is refused; `helmr repair` says from which entry on it lacks something, and makes one of what comes before."""

BACKUP = "backup"
"""It is refused, and repaired by nothing."""

LOST, INVENTED, GAP, FAILED = "lost", "invented", "gap", "failed"
BROKEN = frozenset({LOST, INVENTED, GAP, FAILED})
"""What no image may come to: to open without something, or with something else, or to be refused without a way out."""


_DROP_FROM = re.compile(r"--drop-from (\d+)")


@dataclass(frozen=True, slots=True)
class Truth:
    """Every entry that there ever was.

    Args:
        entries: Session and hash by feed offset.
    """

    entries: Mapping[int, tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Truth:
        """As the recorded process wrote it down.

        Raises:
            AssertionError: It was one thing and then another.
        """
        entries: dict[int, tuple[str, str]] = {}
        for line in path.read_text().splitlines():
            offset, session, _, digest = json.loads(line)
            assert entries.setdefault(offset, (session, digest)) == (session, digest), offset
        return cls(entries)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an image.

    Args:
        result: One of the words above.
        said: Which entry, or the error.
        code: Of the error.
    """

    result: str
    said: str = ""
    code: str = ""

    @property
    def is_broken(self) -> bool:
        """No ledger may come to this."""
        return self.result in BROKEN


@dataclass(slots=True)
class Verdicts:
    """How many images of each kind came to what."""

    by_way: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, way: str, verdict: Verdict) -> None:
        """Count one."""
        self.by_way.setdefault(way, Counter())[verdict.result] += 1

    def total(self, *results: str) -> int:
        """So many came to these, or in all."""
        return sum(
            count
            for counts in self.by_way.values()
            for result, count in counts.items()
            if not results or result in results
        )


def judged(found: Iterable[Entry], truth: Truth, acknowledged: int) -> Verdict:
    """Hold the entries of a ledger against what was acknowledged by then."""
    entries = {entry.feed_offset or 0: entry for entry in found}
    for offset, entry in entries.items():
        if truth.entries.get(offset) != (entry.session_id, entry.hash.hex()):
            return Verdict(INVENTED, f"entry {offset}")
    last = max(entries, default=0)
    if last < acknowledged:
        return Verdict(LOST, f"entries {last + 1} to {acknowledged}")
    gone = {
        session
        for entry in entries.values()
        if entry.kind is EntryKind.SESSIONS_PRUNED
        for session in sessions_of(entry.body)
    }
    for offset in range(1, last + 1):
        if offset not in entries and truth.entries[offset][0] not in gone:
            return Verdict(LOST if offset <= acknowledged else GAP, f"entry {offset}")
    return Verdict(WHOLE)


async def judge(
    path: Path,
    truth: Truth,
    acknowledged: int,
    now: datetime,
    *,
    thorough: bool = False,
    log: ObjectLog | None = None,
) -> Verdict:
    """Open a ledger as a runtime does, and look; if it is refused, do what the error says.

    Args:
        path: Its database.
        truth: What there ever was.
        acknowledged: Feed offset of the last entry that a caller had been told of.
        now: The time.
        thorough: Open it once more, and audit it as `helmr verify` does.
        log: Its log, if the file is the cache of one elsewhere: then it opens with everything, whatever it is.
    """
    if log is not None:
        return await _opened(path, truth, acknowledged, now, log)
    try:
        verdict = await _opened(path, truth, acknowledged, now)
        if thorough and not verdict.is_broken:
            verdict = await _opened(path, truth, acknowledged, now)
            with stored_ledger(path) as stored:
                audit(stored, LedgerKeys(None), now)
    except DataError as error:
        if not error.hint:
            return Verdict(FAILED, error.message, error.code)
        result = await _mended(path, truth, acknowledged, now)
        return Verdict(result, error.message, error.code)
    except HelmrError as error:
        return Verdict(FAILED, error.message, error.code)
    return verdict


async def _mended(path: Path, truth: Truth, acknowledged: int, now: datetime) -> str:
    keys, result = LedgerKeys(None), REPAIRED
    try:
        repair(path, keys, now)
    except (DataError, UsageError) as error:
        told = _DROP_FROM.search(str(error.hint))
        if told is None:
            return BACKUP
        result, acknowledged = DROPPED, 0
        repair(path, keys, now, drop_from=int(told[1]))
    verdict = await _opened(path, truth, acknowledged, now)
    return verdict.result if verdict.is_broken else result


async def _opened(
    path: Path, truth: Truth, acknowledged: int, now: datetime, log: ObjectLog | None = None
) -> Verdict:
    try:
        ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, log=log)
    except HelmrError as error:
        if log is None:
            raise
        return Verdict(FAILED, error.message, error.code)
    try:
        found = await ledger.entries_after(0, 1_000_000)
        if log is not None:  # this opening is an entry, behind all that there was
            found = [one for one in found if (one.feed_offset or 0) <= max(truth.entries)]
        return judged(found, truth, acknowledged)
    finally:
        await ledger.close()
