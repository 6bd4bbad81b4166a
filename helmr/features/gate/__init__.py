"""The gate: what agents may call is asked, decided and granted for a while."""

from __future__ import annotations

from helmr.feature import Feature

FEATURE = Feature(
    name="gate",
    about="An agent's calls of tools: asked, decided, granted for a while.",
    section="helmr.matching:read_rules",
    tasks="helmr.gate:gate_modules",
    page="gate-claude-code.md",
)
