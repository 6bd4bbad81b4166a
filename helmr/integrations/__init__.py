"""Agents of other frameworks, as code of durable runs: their model and tool calls are steps, their approvals waits.

Each framework has a module here and an extra of its name. A module imports its framework when something of it is first
used, so that `helmr` needs none and a task file costs what it uses.
"""

from __future__ import annotations

import importlib
from typing import Any

from helmr.errors import MissingExtra


def load(name: str, *, of: str, module: str, extra: str, framework: str) -> Any:
    """A name of the module that needs the framework.

    Args:
        name: What was asked for.
        of: The module that was asked.
        module: The one that has it.
        extra: What brings the framework.
        framework: Its top-level package.

    Raises:
        MissingExtra: The framework, or a part of it, is not installed.
    """
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing != framework:
            raise
        raise MissingExtra(
            f"{of} needs the extra `{extra}`, which is not installed (no module {missing})",
            hint=f"pip install 'helmr[{extra}]'",
            extra=extra,
        ) from error
    return found
