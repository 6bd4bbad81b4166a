"""Which edition of Helmr this is; the number is in `pyproject.toml`."""

from __future__ import annotations

import importlib.metadata
from functools import cache

SOURCE_TREE = "0.0.0+source"
"""Of code that was never installed."""


@cache
def version() -> str:
    """The version that is installed."""
    try:
        return importlib.metadata.version("helmr")
    except importlib.metadata.PackageNotFoundError:
        return SOURCE_TREE
