"""The list of features, a line each, in the order of the docs."""

from __future__ import annotations

from typing import Final

NAMES: Final = (
    "schedules",
    "gate",
    "mcp",
)  # fmt: skip
"""Folders of `helmr.features`, and of `helmr_runtime.features` and `helmr_console.features` where they need them."""
