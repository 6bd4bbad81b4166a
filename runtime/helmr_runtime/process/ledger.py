"""The ledger's process. A module of its own, as that of each kind of actor: no process loads what another needs."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

from helmr_runtime.clock import SystemClock
from helmr_runtime.features import named
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.log.stores import open_log
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import Calls
from helmr_runtime.security.keys import read_key_ring


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> LedgerActor:
    """The ledger; it opens its file at its first call."""
    place = LedgerPlace(spec.ledger_path, features=named(spec.features))
    if spec.log_url is not None:
        place = replace(place, open_log=partial(open_log, spec.log_url))
    return LedgerActor(
        place,
        clock=SystemClock(),
        ring=read_key_ring(spec.ring_path, os.environ),
        encrypts=spec.encrypts,
        retention=spec.retention,
    )
