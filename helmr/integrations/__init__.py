"""Agents of other frameworks, as code of durable runs: their model and tool calls are steps, their approvals waits.

Each framework has a module here and an extra of its name. A module imports its framework when something of it is first
used, so that `helmr` needs none and a task file costs what it uses.
A model's failures are worth another try, unless its server says that the request is wrong.
"""

from __future__ import annotations

import importlib
from typing import Any

from helmr.errors import MissingExtra
from helmr.steps import StepOptions


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


PASSING = frozenset((408, 409, 425, 429))
"""Statuses from 400 to 499 that another try may not meet: a timeout, a conflict, too early, too many."""
CAUSES_MAX = 10


def may_pass(error: Exception) -> bool:
    """Whether the same request may go through later.

    It may unless the exception, or one that caused it, has an HTTP status from 400 to 499 that is none of `PASSING`: a
    wrong key, an unknown model, a prompt that is too long.
    """
    if isinstance(error, ExceptionGroup):  # of several models, one after the other
        return any(may_pass(one) for one in error.exceptions)
    status = _status(error)
    return status is None or not 400 <= status < 500 or status in PASSING


def retried(options: StepOptions) -> StepOptions:
    """Options of model requests: `may_pass` decides if they do not say what is retried."""
    return {"retry_on": may_pass, **options}


def _status(error: BaseException) -> int | None:
    """The HTTP status that an exception or its cause bears, by whatever name its library has for it."""
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None:
            return None
        holders = (cause, getattr(cause, "response", None))
        for found in (getattr(one, name, None) for one in holders for name in NAMES):
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found < 600:
                return found
        cause = cause.__cause__
    return None


NAMES = ("status_code", "status", "code")
