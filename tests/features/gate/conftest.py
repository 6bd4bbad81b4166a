"""Ledgers that have the feature."""

from __future__ import annotations

from tests.ledger.conftest import clock, duck, ledger, opener, path

__all__ = ["clock", "duck", "ledger", "opener", "path"]
