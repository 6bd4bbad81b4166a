"""Ledgers and runtimes that have the feature."""

from __future__ import annotations

from tests.http.conftest import shared_stack, stack
from tests.ledger.conftest import clock, duck, ledger, opener, path

__all__ = ["clock", "duck", "ledger", "opener", "path", "shared_stack", "stack"]
