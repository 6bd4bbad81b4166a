"""A host's process."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from ray import cloudpickle

from helmr_runtime.catalog import Registry, load_modules
from helmr_runtime.host_status import StatusFile
from helmr_runtime.process import by_value, log_file
from helmr_runtime.process.actors import make_host, status_slots
from helmr_runtime.process.own_threads import mark_threads
from helmr_runtime.process.session_output import json_formatter, tag_prints
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import Calls
from helmr_runtime.rpc.ray import this_node
from helmr_runtime.security.keys import ENVIRONMENT_NAME
from helmr_runtime.session.host import HostActor

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long a spinning task may keep the interpreter from the host's loop."""


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> HostActor:
    """A host; it imports the task modules when it is first asked who it is."""
    # Of ledger and gateway, which Ray gives the same environment. What code starts or reports would carry it on.
    os.environ.pop(ENVIRONMENT_NAME, None)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    tag_prints(formatter=json_formatter(name, is_wanted=spec.json_logs), written=log_file.look)
    mark_threads()
    return make_host(
        name,
        calls,
        spec,
        lambda: _load(spec),
        statuses=lambda: StatusFile(spec.status_path(name), status_slots(spec)),
        node=this_node() if spec.is_joined else "",
        owns_process=True,
    )


def _load(spec: RuntimeSpec) -> Registry:
    """Import the task modules, in the folder where `up` was typed; steps may hand what is in them to Ray."""
    with suppress(OSError):  # on another machine of a cluster it may not be there
        os.chdir(spec.folder)
    return by_value.loaded(
        lambda: load_modules(spec.tasks, folder=Path(spec.folder)),
        cloudpickle.register_pickle_by_value,
    )
