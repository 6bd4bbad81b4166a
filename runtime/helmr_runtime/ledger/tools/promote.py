"""A follower's ledger becomes the ledger, and what two ledgers differ in (S-68)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helmr import ids
from helmr.errors import UsageError
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import EntryKind, Principal, iso
from helmr_runtime.core.ledger_facts import Promote
from helmr_runtime.ledger.log.rebuild import Keys
from helmr_runtime.ledger.log.stored import StoredLedger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import rows
from helmr_runtime.ledger.tools.followed import (
    PRIMARY,
    WHOLE_FROM,
    end_following,
    followed_ledger,
)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What was made the ledger.

    Attributes:
        after: Feed offset of the last entry that the primary has sent: up to there everything is here.
        generation: One more than the primary's.
    """

    after: int
    generation: int
    entries: int
    sessions: int


async def promote(
    path: Path,
    keys: Keys,
    clock: Clock,
    reason: str | None,
    *,
    on_checked: Callable[[], None] = lambda: None,
) -> Promoted:
    """Check every entry of a follower's ledger, make its tables, and have it go on by itself.

    It can be repeated after whatever has ended it.

    Args:
        path: The file.
        keys: Of the primary.
        clock: Tells the time.
        reason: What the ledger's entry says.
        on_checked: Called when all of it was checked, and nothing was written but tables.

    Raises:
        UsageError: It is no follower's, not whole at the offset where it ends, or empty.
        LedgerDamaged: An entry is not what was written.
        MasterKeyMissing: The keys are another ledger's, or one is lacking.
    """
    with followed_ledger(path) as followed:
        if not followed.position.offset:
            raise UsageError(
                f"the copy in {path.parent} is empty: it has never got an entry of its primary",
                hint="Let `helmr follow` get what the primary has, or promote another copy, or restore a backup.",
            )
        if not followed.is_whole:
            raise UsageError(
                f"the copy ends at feed offset {followed.position.offset}, in the middle of sessions that the primary "
                f"has pruned at {followed.meta[WHOLE_FROM]}",
                hint="Let it follow that far, or restore a backup.",
            )
        primary = followed.meta.get(PRIMARY, 1)
        folded = followed.fold(keys, clock.now())
    on_checked()
    ledger = await open_ledger(path, clock=clock, ring=keys.ring, promotes=True)
    try:
        generation, after = ledger.index.generation, folded.offset
        if generation <= primary:
            promotion = Promote(
                principal=Principal("runtime", name="helmr promote"), after=after, reason=reason
            )
            generation = (await ledger.fact(promotion))["generation"]
    finally:
        await ledger.close()
    end_following(path)
    return Promoted(after, generation, folded.entries, folded.sessions)


@dataclass(frozen=True, slots=True)
class Difference:
    """How two ledgers of one origin differ: one was promoted while the other may have gone on.

    Attributes:
        after: Feed offset of the last entry that both have.
        is_same: The entries up to there are the same.
        lost: How many entries only the old one has.
    """

    after: int
    is_same: bool
    lost: int


def difference(promoted: StoredLedger, old: StoredLedger) -> Difference:
    """Compare a promoted ledger with the one that it followed.

    Raises:
        UsageError: The first was never promoted.
    """
    after = _promoted_after(promoted)
    kept, other = promoted.hash_at(after), old.hash_at(after)
    lost = rows.first_row(
        old.connection.execute(
            "SELECT count(*) FROM stored.entries WHERE feed_offset > $1", [after]
        )
    )
    assert lost is not None
    is_same = after == 0 or (kept is not None and kept == other)
    return Difference(after, is_same, int(lost[0]))


def lost_entries(old: StoredLedger, after: int) -> Iterator[dict[str, Any]]:
    """What the old ledger has acknowledged after the last entry that it sent; bodies are left out."""
    for chunk in old.entries(after=after):
        for offset, session, seq, recorded_us, kind, run, op, principal, *_ in chunk:
            yield {
                "feed_offset": offset,
                "session_id": rows.id_of(ids.SESSION, session),
                "seq": seq,
                "recorded_at": iso(rows.time_of(recorded_us)),
                "kind": kind,
                "run_id": rows.id_or_none(ids.RUN, run),
                "op": op,
                "principal": principal,
            }


def _promoted_after(ledger: StoredLedger) -> int:
    found = rows.first_row(
        ledger.connection.execute(
            "SELECT CAST(json_extract(body, '$.after') AS BIGINT) FROM stored.entries WHERE kind = $1 "
            "ORDER BY feed_offset DESC LIMIT 1",
            [EntryKind.LEDGER_PROMOTED.value],
        )
    )
    if found is None:
        raise UsageError(
            f"the ledger in {ledger.path.parent} was never promoted",
            hint="Name the promoted one with --data-dir, the old one with --compare.",
        )
    return int(found[0])
