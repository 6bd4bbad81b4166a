"""A pool actor's process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from ray import cloudpickle

from helmr_runtime.catalog import Registry, load_modules
from helmr_runtime.clock import SystemClock
from helmr_runtime.process import by_value
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc import proxies
from helmr_runtime.rpc.protocol import Calls
from helmr_runtime.rpc.ray import this_node
from helmr_runtime.session.actor import SessionActor

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long a spinning task may keep the interpreter from the actor's loop."""

DOOM_DELAY_S = 0.05
"""An actor that ends itself answers its last call first."""


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> SessionActor:
    """A pool actor; it imports the task modules when it is first asked who it is."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return SessionActor(
        name,
        name.split("-")[1],
        proxies.ledger(calls),
        SystemClock(),
        lambda: _load(spec),
        on_retire=_end_soon,
        status_path=spec.status_path(name),
        linger_s=spec.linger_s,
        base_url=spec.base_url,
        node=this_node() if spec.is_joined else "",
    )


def _load(spec: RuntimeSpec) -> Registry:
    """Import the task modules, in the folder where `up` was typed; steps may hand what is in them to Ray."""
    with suppress(OSError):  # on another machine of a cluster it may not be there
        os.chdir(spec.folder)
    return by_value.loaded(
        lambda: load_modules(spec.tasks, folder=Path(spec.folder)),
        cloudpickle.register_pickle_by_value,
    )


def _end_soon(reason: str) -> None:
    logger.info("ending: %s", reason)
    asyncio.get_running_loop().call_later(DOOM_DELAY_S, os._exit, 0)
