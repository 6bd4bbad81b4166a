"""The features of the console, a folder each."""

from __future__ import annotations

from importlib import import_module, util

from helmr.features.names import NAMES
from helmr_console.feature import Feature

FEATURES: tuple[Feature, ...] = tuple(
    import_module(f"{__name__}.{name}").FEATURE
    for name in NAMES
    if util.find_spec(f"{__name__}.{name}") is not None
)
"""All of them."""
