"""How Ray starts each of its workers here: `ray_worker.py WORKER ARGUMENTS…` becomes the worker at once.

Ray's own script in this place (`setup_worker.py`) prepares what a runtime environment wants. For that it imports Ray,
and then becomes the worker by way of a shell, which imports Ray again. Where no environment is wanted, as by every
actor of a runtime, there is nothing to prepare. And while Ray is imported, what it imports and a runtime doesn't use is
left for whoever asks for it first.

Ray runs this as a file, before anything is imported; so it imports little, and nothing of ours.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

CONTEXT = "--serialized-runtime-env-context="
LANGUAGE = "--language="
PLAIN = frozenset({CONTEXT + "{}", LANGUAGE + "PYTHON"})
LATER = ("requests", "jsonschema")
"""For TPUs and for checking plugins of runtime environments: a third of the time that importing Ray takes, and 8 MB."""


def worker_arguments(arguments: list[str]) -> list[str] | None:
    """The worker and what it is told; None if Ray must prepare an environment for it."""
    told = {one for one in arguments if one.startswith((CONTEXT, LANGUAGE))}
    if not told <= PLAIN or arguments[0].startswith("-"):
        return None
    return [one for one in arguments if one not in told]


class Later(ModuleType):
    """Stands for a module until somebody looks into it; whoever imports it after Ray gets the module itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        stand_in_no_more(self)
        return getattr(importlib.import_module(self.__name__), name)


def stand_in_no_more(stand_in: ModuleType) -> None:
    """The next import is a real one."""
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


@contextmanager
def leaving_for_later() -> Iterator[None]:
    """What is imported meanwhile gets stand-ins for the modules that Ray needs only where others run it."""
    stand_ins = [Later(name) for name in LATER if name not in sys.modules]
    sys.modules.update({one.__name__: one for one in stand_ins})
    try:
        yield
    finally:
        for one in stand_ins:
            stand_in_no_more(one)


def main(arguments: list[str]) -> None:
    """Become the worker; does not return before its end."""
    worker = worker_arguments(arguments)
    if worker is None:
        setup = [sys.executable, "-m", "ray._private.workers.setup_worker", *arguments]
        os.execv(sys.executable, setup)
    sys.argv = worker
    sys.path[0] = os.path.dirname(worker[0])
    with leaving_for_later():
        importlib.import_module("ray._private.workers.default_worker")
    runpy.run_path(worker[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
