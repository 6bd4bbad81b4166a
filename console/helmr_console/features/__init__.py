"""The features of the console, a folder each."""

from __future__ import annotations

from importlib import import_module, util

from helmr import features
from helmr_console.feature import Feature

FEATURES: tuple[Feature, ...] = tuple(
    import_module(f"{__name__}.{one.name}").FEATURE
    for one in features.FEATURES
    if util.find_spec(f"{__name__}.{one.name}") is not None
)
"""All of them."""
