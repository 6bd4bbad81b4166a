"""Agents of other frameworks, as code of durable runs: their model and tool calls are steps, their approvals waits.

Each framework has a module here and an extra of its name. A module imports its framework when something of it is first
used, so that `helmr` needs none and a task file costs what it uses.
A model's failures are worth another try, unless its server says that the request is wrong. Requests under a limit close
it where the server says that there were too many, and when to come back.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from helmr.errors import MissingExtra
from helmr.limits import CLOSED_MAX_S, IN_ADAPTERS, Limit, LimitClosed, LimitName
from helmr.steps import StepOptions

P = ParamSpec("P")
T = TypeVar("T")


def loading(face: dict[str, Any], *, extra: str, framework: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that imports its framework when one of its names is first used.

    The names of `__all__` are in a module beside it, called the same with an underscore before. The function raises
    `MissingExtra` if the framework, or a part of it, is not installed.

    Args:
        face: The `globals()` of the module.
        extra: The extra that installs the framework.
        framework: Its top-level package.
    """
    of = str(face["__name__"])
    package, _, own = of.rpartition(".")

    def __getattr__(name: str) -> Any:  # noqa: N807 - what it is there
        if name not in face["__all__"]:
            raise AttributeError(f"module {of!r} has no attribute {name!r}")
        found = face[name] = _load(
            name, of=of, module=f"{package}._{own}", extra=extra, framework=framework
        )
        return found

    return __getattr__


def _load(name: str, *, of: str, module: str, extra: str, framework: str) -> Any:
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
"""Statuses from 400 to 499 that may pass at another try: timeout, conflict, too early, too many."""
CAUSES_MAX = 10


def may_pass(error: Exception) -> bool:
    """True if the same request may succeed later.

    It may unless the exception, or one that caused it, has an HTTP status from 400 to 499 that is none of `PASSING`: a
    wrong key, an unknown model, a prompt that is too long.
    """
    if isinstance(error, ExceptionGroup):  # of several models, one after the other
        return any(may_pass(one) for one in error.exceptions)
    status = _status(error)
    return status is None or not 400 <= status < 500 or status in PASSING


def retried(options: StepOptions, limit: LimitName | None = None) -> StepOptions:
    """Options of model requests: `may_pass` decides if they do not say what is retried."""
    limited: StepOptions = {"limit": limit} if limit is not None else {}
    given = limit if limit is not None else options.get("limit")
    if isinstance(given, Limit):
        IN_ADAPTERS[given.name] = given
    return {"retry_on": may_pass, **options, **limited}


def closing(asking: Callable[P, Awaitable[T]], options: StepOptions) -> Callable[P, Awaitable[T]]:
    """A request that raises `LimitClosed` if its options name a limit and the server says when to come back."""
    if options.get("limit") is None:
        return asking

    @functools.wraps(asking)
    async def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asking(*args, **kwargs)
        except Exception as error:
            for_s = retry_after_s(error)
            if for_s is None:
                raise
            raise LimitClosed(for_s, str(error)) from error

    return asked


def retry_after_s(error: BaseException) -> float | None:
    """Return the server's wait after a 429, in seconds, from the exception or its causes; at most a day."""
    if _status(error) != HTTPStatus.TOO_MANY_REQUESTS:
        return None
    for cause in _causes(error):
        for holder in (getattr(cause, "response", None), cause):
            headers = getattr(holder, "headers", None)
            if isinstance(headers, Mapping) and (found := _wait_s(headers)) is not None:
                return min(found, CLOSED_MAX_S)
    return None


def _wait_s(headers: Mapping[str, Any]) -> float | None:
    """Seconds, if they are more than none; a date counts from the server's own."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            found = float(headers[name]) * unit
        except (KeyError, TypeError, ValueError):
            continue
        return found if found > 0 else None
    try:
        until, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
        left_s = (until - now).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return left_s if left_s > 0 else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what caused it."""
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status that an exception or its cause bears, by whatever name its library has for it."""
    for cause in _causes(error):
        holders = (cause, getattr(cause, "response", None))
        for found in (getattr(one, name, None) for one in holders for name in NAMES):
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found < 600:
                return found
    return None


NAMES = ("status_code", "status", "code")
