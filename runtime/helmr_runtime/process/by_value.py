"""Which modules' functions and classes travel to Ray workers by value: those that no other process can import.

A task module's folder is appended to the import path of hosts and of nothing else. A function that a step
hands to Ray runs in a worker without that path; so what it names in these modules goes with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from helmr_runtime.catalog import RESERVED

T = TypeVar("T")


def loaded(load: Callable[[], T], register: Callable[[ModuleType], None]) -> T:
    """What `load` returns; the modules that it imported from folders it added to the path are registered.

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
