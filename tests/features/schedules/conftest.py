"""Ledgers and runtimes that have the feature."""

from __future__ import annotations

from tests.console.flow.conftest import bench, registry
from tests.http.conftest import shared_stack, stack
from tests.ledger.conftest import clock, duck, ledger, opener, path

__all__ = [
    "bench",
    "clock",
    "duck",
    "ledger",
    "opener",
    "path",
    "registry",
    "shared_stack",
    "stack",
]
