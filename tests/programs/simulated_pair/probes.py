"""Branches of a pair that are rare and matter: a long run that missed one of them has proved less than it seems."""

from __future__ import annotations

from collections import Counter

from tests.programs.simulated_pair.pair import KINDS

RARE = (
    *(
        f"{what} {where} a call of the store"
        for what in ("kill", "pause")
        for where in ("before", "after")
    ),
    *(f"{how}: {what}" for how in ("lost", "late") for what in ("requests", "answers")),
    *(f"call: {code}" for code in ("standby", "timeout", "ledger_superseded", "outcome_unknown")),
    *(f"call: {code}" for code in ("token_completed", "token_expired", "store_unavailable")),
    *(f"cut:{what}" for what in ("request", "answer")),
    "completed: completed",
    "ended by itself",
    "flush refused",
    "flush sent to the other one",
    "garbage stored",
    "log opened",
    "opened below the floor",
    "receipt repeated",
    "session adopted",
    "sessions pruned",
    "stale read",
    "store away",
    "superseded",
    "taken over",
    "taken over under load",
    "trimmed behind what is read",
)


def unreached(counts: Counter[str]) -> list[str]:
    """Those that were not come by."""
    return [name for name in (*RARE, *(f"fault:{kind}" for kind, _ in KINDS)) if not counts[name]]
