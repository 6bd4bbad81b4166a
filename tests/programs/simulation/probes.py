"""Branches that are rare and matter: a long run that came by none of one of them has proved less than it seems."""

from __future__ import annotations

from collections import Counter

from tests.programs.simulation.faults import KINDS, POINTS
from tests.programs.simulation.users import MIXES

FEWEST = 1_000_000
"""Steps of a run that has to come by all of them."""

RARE = (
    "a host goes on after it was replaced",
    "a host of its own died",
    "a replaced host commits",
    "a suspect goes on alone",
    "agreed:2",
    "agreed:3",
    "amended",
    "answer kept",
    "blocked:actor_died",
    "child started",
    "commits moved into the database",
    "commits read from the log",
    "cut:answer",
    "cut:request",
    "crash counted",
    "decided and released",
    *(f"disk error in a {access}" for access in ("sync", "write")),
    "disk failed",
    "flush declined:TokenOpen",
    "flush refused",
    "flush stored before",
    "fold compared",
    "warm state compared",
    "key repeated",
    "key repeated that another stream has too",
    "adopted as it was left",
    *(f"ledger ends in a {access}" for access in ("sync", "write")),
    "goes on before others begin",
    "limit closed",
    *(f"limit reached:{name}" for name in ("calls", "quota", "runs")),
    "link revoked",
    "link:input.accepted",
    *(f"notice {what}" for what in ("due soon", "late", "not taken", "passed by", "repeated")),
    "notice taken unheard",
    "one person was enough",
    "operation repeated",
    "permit left unused",
    "power lost",
    "queued out of memory",
    "rewound",
    "schedule caught up",
    "schedule skipped:overlap",
    "schedule started",
    "session opened by a rewind",
    "sessions pruned",
    "stored unheard",
    "suspects:1",
    "suspects:2",
    "taken over by a new directory",
    "turn of another key",
    *(f"entry:{kind}" for kind in ("run.attempt_failed", "run.retried", "step.abandoned")),
    "entry:session.forked",
    *(f"entry:{kind}" for kind in ("wait.claimed", "wait.claim_ended")),
    *(f"entry:{kind}" for kind in ("wait.voted", "wait.vote_withdrawn")),
    *(f"refused:{code}" for code in ("not_an_answerer", "person_disabled")),
    *(f"refused:{code}" for code in ("wait_claimed", "not_found")),
    *(f"entry:{kind}" for kind in ("step.try_failed", "token.expired", "public_token.spent")),
    *(f"killed:{kind}" for kind in ("host", "directory", "gateway", "ledger")),
    *(f"refused:{code}" for code in ("idempotency_conflict", "external_id_conflict")),
    *(f"refused:{code}" for code in ("session_changed",)),
    *(f"refused:{code}" for code in ("session_terminal", "schema_mismatch", "run_active")),
    *(f"refused:{code}" for code in ("wait_resolved", "wait_timed_out", "idle_input_rejected")),
    *(f"refused:{code}" for code in ("token_completed", "token_cancelled", "token_expired")),
    "refused:token_exhausted",
    *(f"send:{outcome}" for outcome in ("buffered", "fulfilled", "late", "unmatched")),
    *(f"wait:input:{end}" for end in ("fulfilled", "timed_out", "cancelled")),
    *(f"wait:session:{end}" for end in ("fulfilled", "cancelled")),
    *(f"wait:token:{end}" for end in ("fulfilled", "timed_out", "cancelled")),
    *(f"wait:timer:{end}" for end in ("fulfilled", "cancelled")),
)


def unreached(counts: Counter[str]) -> list[str]:
    """Those that were not come by."""
    kinds = [f"fault:{kind}" for kind in KINDS]
    points = [f"killed at {point.value}" for point in POINTS]
    days = [f"day:{name}" for name in MIXES]
    return [name for name in (*RARE, *kinds, *points, *days) if not counts[name]]
