"""The gate in a runtime: calls of agents, their outcomes, and grants."""

from __future__ import annotations

from helmr.features import gate
from helmr_runtime.feature import Feature

_HERE = "helmr_runtime.features.gate"

FEATURE = Feature(
    face=gate.FEATURE,
    ledger=f"{_HERE}.memory:PART",
    service={
        "gated_calls": f"{_HERE}.service:gated_calls",
        "gate": f"{_HERE}.service:gate",
        "grants": f"{_HERE}.service:grants",
        "outcomes": f"{_HERE}.service:outcomes",
    },
    handlers=f"{_HERE}.handlers:HANDLERS",
)
