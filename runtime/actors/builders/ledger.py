"""The ledger's process."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.actors.boundary import Calls
from runtime.actors.ledger import LedgerActor
from runtime.actors.spec import RuntimeSpec
from runtime.clock import SystemClock
from runtime.security.keys import read_key_ring

FILE_NAME = "ledger.duckdb"


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> LedgerActor:
    """The ledger; it opens its file at its first call."""
    return LedgerActor(
        Path(spec.data_dir) / FILE_NAME,
        clock=SystemClock(),
        ring=read_key_ring(spec.ring_path, os.environ),
        encrypts=spec.encrypts,
    )
