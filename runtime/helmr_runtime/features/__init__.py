"""The features of a runtime, a folder each.

Launchers, tools for ledgers and the test harness hand in those that a runtime or a ledger is to have.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module, util

from helmr.features.names import NAMES
from helmr_runtime.feature import Feature


def named(names: Iterable[str]) -> tuple[Feature, ...]:
    """Those of these names that a runtime has a folder of.

    An actor's process is given names: what it runs is of its own installation.
    """
    return tuple(
        import_module(f"{__name__}.{name}").FEATURE
        for name in names
        if util.find_spec(f"{__name__}.{name}") is not None
    )


FEATURES: tuple[Feature, ...] = named(NAMES)
"""All of them."""
