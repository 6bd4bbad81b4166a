"""The words that name the gate in code."""

from __future__ import annotations

from tests.programs.gauges.named import Named

NAMED = Named(
    "gate",
    (
        *("gates?", "gated", "grants?", "granted", "granting", "claude", "codex"),
        *("unknown_outcomes", "said_outcome", "say_outcome"),
    ),
    folders=("helmr/gate/",),
    besides=("device_grant",),
    outside_max=24,  # what has not moved yet
)
