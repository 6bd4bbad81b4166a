"""A host's process: its actor, and what is done in it for the code of its sessions.

- A task module's folder is appended to the import path of hosts and of nothing else. A function that a step hands to
  Ray runs in a worker without that path; so what it names in these modules travels by value.
- A thread that task code starts and leaves behind executes while its run waits, or after it has left the host. If it
  ends the process, nothing else says whose it was: so it is noted. Threads of executors are not: they live on, idle,
  beyond the work that needed the first of them.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import thread as executors
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from ray import cloudpickle

from helmr_runtime.catalog import RESERVED, Registry, load_modules
from helmr_runtime.host_status import StatusFile
from helmr_runtime.process.actors import make_host, status_slots
from helmr_runtime.process.output import json_formatter, look_at_log_file, tag_prints
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.replay.loop import code_mark
from helmr_runtime.rpc.calls import Calls
from helmr_runtime.rpc.ray import this_node
from helmr_runtime.security.keys import ENVIRONMENT_NAME
from helmr_runtime.session.host import HostActor

logger = logging.getLogger(__name__)

T = TypeVar("T")


def loaded(load: Callable[[], T], register: Callable[[ModuleType], None]) -> T:
    """Call `load`, register the modules that it imported from folders it added to the path, and return its result.

    Args:
        load: Imports task modules.
        register: Has Ray pickle a module's functions and classes by value, those of its submodules too.
    """
    known = frozenset(sys.path)
    result = load()
    added = [Path(folder) for folder in sys.path if folder not in known]
    for module in modules_in(added, dict(sys.modules)):
        register(module)
    return result


def modules_in(folders: Iterable[Path], modules: Mapping[str, ModuleType]) -> list[ModuleType]:
    """The top-level modules and packages that lie in these folders, by name; never those of Helmr."""
    wanted = {folder.resolve() for folder in folders}
    return [
        module
        for name, module in sorted(modules.items())
        if "." not in name and name not in RESERVED and _home(module) in wanted
    ]


def _home(module: ModuleType) -> Path | None:
    """The folder from which a top-level module or package is imported."""
    paths = getattr(module, "__path__", None)
    if paths is not None:
        first = next(iter(paths), None)
        return Path(first).resolve().parent if first is not None else None
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file is not None else None


def mark_threads() -> None:
    """From now on a thread that session code starts is noted as that session's, and those that it starts in turn."""
    start = threading.Thread.start

    def marked_start(thread: threading.Thread) -> None:
        mark = code_mark.get()
        if mark is None or _is_called_by_executor():
            start(thread)
            return
        run = thread.run

        def marked_run() -> None:
            code_mark.set(mark)
            try:
                run()
            finally:
                mark.own_thread_ends()

        thread.run = marked_run  # type: ignore[method-assign]
        mark.own_thread_begins()
        try:
            start(thread)
        except BaseException:
            mark.own_thread_ends()
            raise

    threading.Thread.start = marked_start  # type: ignore[method-assign,assignment]


def _is_called_by_executor() -> bool:
    """The caller of the function that asks is the module of the standard library's executors."""
    here = inspect.currentframe()
    asks = here.f_back if here is not None else None
    caller = asks.f_back if asks is not None else None
    return caller is not None and caller.f_globals.get("__name__") == executors.__name__


SWITCH_INTERVAL_S = 0.0005
"""How long a spinning task may keep the interpreter from the host's loop."""


async def build(name: str, spec: RuntimeSpec, calls: Calls) -> HostActor:
    """A host; it imports the task modules when it is first asked who it is."""
    # Of ledger and gateway, which Ray gives the same environment. What code starts or reports would carry it on.
    os.environ.pop(ENVIRONMENT_NAME, None)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    tag_prints(formatter=json_formatter(name, is_wanted=spec.json_logs), written=look_at_log_file)
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
    return loaded(
        lambda: load_modules(spec.tasks, folder=Path(spec.folder)),
        cloudpickle.register_pickle_by_value,
    )
