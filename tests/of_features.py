"""Parts of the tests of features (`tests/features/NAME`) that tests of the kernel walk too."""

from __future__ import annotations

from importlib import import_module, util
from types import ModuleType

from helmr.features.names import NAMES


def of_features(module: str) -> list[ModuleType]:
    """The modules of that name in the folders of the features that are in use."""
    names = [f"tests.features.{name}.{module}" for name in NAMES]
    return [import_module(name) for name in names if util.find_spec(name) is not None]
