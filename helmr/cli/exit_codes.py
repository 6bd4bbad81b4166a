"""What the process tells its caller: one code per class of error, and one function that maps errors to them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from helmr.errors import HelmrError


class ExitCode(IntEnum):
    """Exit codes; the docstring of each is its line in the reference."""

    OK = 0
    """Done."""
    BUG = 1
    """A mistake of Helmr's own; the traceback is on stderr."""
    USAGE = 2
    """The call is wrong: unknown option, bad JSON, bad id, data that does not fit its schema."""
    NOT_FOUND = 3
    """What the call names does not exist."""
    NOT_ALLOWED = 4
    """The key is missing, unknown, or has no right to it."""
    CONFLICT = 5
    """The world is not as the caller believed: look again, then decide."""
    UNAVAILABLE = 6
    """No runtime, or it can't do it now: try again later."""
    DATA = 7
    """Stored data is damaged: stop, and keep the data directory as it is."""
    INTERRUPTED = 130
    """Ctrl-C, as shells report it (128 + SIGINT)."""
    BROKEN_PIPE = 141
    """Whoever read the output has gone, as shells report it (128 + SIGPIPE)."""


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that ends a command."""
    match error:
        case HelmrError():
            return ExitCode(error.exit_code)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.BUG


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The code for many outcomes: the highest class, `OK` if there is none."""
    return max(codes, default=ExitCode.OK)
