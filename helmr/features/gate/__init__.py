"""The gate: what agents may call is asked, decided and granted for a while."""

from __future__ import annotations

from helmr.feature import Feature

_HERE = "helmr.features.gate"

FEATURE = Feature(
    name="gate",
    title="The gate",
    about="An agent's calls of tools: asked, decided, granted for a while.",
    operations=f"{_HERE}.operations",
    commands={"gate": f"{_HERE}.commands:gate_app"},
    client={
        "grants": (f"{_HERE}.client:AsyncGrants", f"{_HERE}.blocking:Grants"),
        "outcomes": (f"{_HERE}.client:AsyncOutcomes", f"{_HERE}.blocking:Outcomes"),
    },
    section="helmr.matching:read_rules",
    tasks="helmr.gate:gate_modules",
    words={
        "gate": "what asks people before an agent's tool runs",
        "gated call": "an agent's call of a tool, as a session that asks about it",
        "grant": "a person's leave for such calls of an agent, for a while",
    },
    page="gate-claude-code.md",
)
