"""The ledger's process."""

from __future__ import annotations

import os

from runtime.actors.boundary import Calls
from runtime.actors.ledger import LedgerActor
from runtime.actors.spec import RuntimeSpec
from runtime.clock import SystemClock
from runtime.security.keys import read_key_ring


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> LedgerActor:
    """The ledger; it opens its file at its first call."""
    return LedgerActor(
        spec.ledger_path,
        clock=SystemClock(),
        ring=read_key_ring(spec.ring_path, os.environ),
        encrypts=spec.encrypts,
    )
