"""Ends of a step's try and of a run, as values that leave the task's thread."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helmr_runtime
from helmr.errors import HelmrError, NondeterminismError

TRACEBACK_FRAMES_MAX = 30


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A try of a step: a JSON value, or an error `{code, type, message, traceback}`."""

    value: Any = None
    error: dict[str, Any] | None = None
    may_retry: bool = False
    closes_s: float | None = None
    """Seconds for which it reports its limit closed."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The task returned; `result` is JSON."""

    result: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception left the task; `failed_op` is the op whose outcome it is, if any (S-5)."""

    error: dict[str, Any]
    failed_op: int | None
    may_retry: bool = True


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The code asked for another op than the journal holds (S-31)."""

    error: NondeterminismError
    place: str | None = None
    """Place in the code that asked for it; None if it asked for nothing."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Recorded data does not fit the types that the code has now (S-21)."""

    op: int | None
    message: str
    path: str = ""
    """Place in the data, in the form of schema errors."""


RunEnd = Returned | Raised | Mismatch | Unreadable


OTHER_LOOP = ("different event loop", "different loop", "Event loop is closed")
"""Texts of asyncio's errors about an object of another loop."""

LOOP_HINT_TASK = (
    "each replay of a run has an event loop of its own: use clients, locks and pools that live in module globals "
    "inside async steps, whose bodies share one loop"
)
LOOP_HINT_STEP = (
    "the bodies of async steps share one event loop, the code around them has another: a step that uses objects "
    'made there is declared with @step(loop="run")'
)


def error_of(error: BaseException, *, loop_hint: str = LOOP_HINT_TASK) -> dict[str, Any]:
    """Return an exception as the transcript holds it; the traceback names code, never values.

    An exception of a remote Ray function is unwrapped, behind the frames that awaited it. Errors about an object of
    another event loop get the hint.
    """
    raised = raised_by(error)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame.filename)] or frames
    lines = traceback.format_list(theirs)
    if raised is not error:
        lines += _remote_frames(str(error))
    shown = "".join(lines[-TRACEBACK_FRAMES_MAX:])
    return {
        "code": raised.code if isinstance(raised, HelmrError) else "exception",
        "type": type(raised).__name__,
        "message": _hinted(raised, loop_hint)[:4000],
        "traceback": shown.encode("utf-8", "replace").decode("utf-8") or None,
    }


def raised_by(error: BaseException) -> BaseException:
    """Return the exception that a remote function raised, if Ray wraps it; otherwise the error itself.

    Ray is never imported: if it is not loaded, it cannot have raised.
    """
    wrapper = getattr(sys.modules.get("ray.exceptions"), "RayTaskError", None)
    if wrapper is None or not isinstance(error, wrapper):
        return error
    cause: Any = error.cause
    return cause if isinstance(cause, BaseException) else error


_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r'^  File "[^"\n]*", line \d+.*\n(?:^ {4}.*\n)*', re.MULTILINE)


def _remote_frames(text: str) -> list[str]:
    """Return the frames of another process's traceback; the lines between them may hold values."""
    return _FRAME.findall(_COLOR.sub("", text) + "\n")


_OURS = (Path(helmr_runtime.__file__).parent, Path(inspect.getfile(HelmrError)).parents[1])
_EXAMPLES = _OURS[1] / "examples"


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return _EXAMPLES not in path.parents and any(folder in path.parents for folder in _OURS)


def met_text(error: BaseException) -> str:
    """Describe an exception that left the task while its journal goes on."""
    return f"{type(error).__name__}: {_hinted(error, LOOP_HINT_TASK)}"


def _hinted(error: BaseException, hint: str) -> str:
    text = _text(error)
    if any(isinstance(found, RuntimeError) and _is_of_other_loop(found) for found in _chain(error)):
        return f"{text}: {hint}" if text else hint
    return text


def _is_of_other_loop(error: RuntimeError) -> bool:
    text = _text(error)
    return any(said in text for said in OTHER_LOOP)


def text_of(error: BaseException) -> str:
    """Return `ValueError: its message`, for an exception of any kind."""
    return f"{type(error).__name__}: {_text(error)}"


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the task's own exception may fail here, and is reported anyway
        text = "(its text can't be read)"
    if isinstance(error, BaseExceptionGroup):
        text = f"{text}: {'; '.join(text_of(inner) for inner in error.exceptions)}"
    return text.encode("utf-8", "replace").decode("utf-8")


def failed_op(error: BaseException) -> int | None:
    """Return the op whose outcome this exception is, found through causes, contexts and groups (S-5)."""
    for found in _chain(error):
        if isinstance(found, HelmrError) and found.op is not None:
            return found.op
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the chain depth first, without recursion, since a chain of contexts may be long."""
    rest: list[BaseException | None] = [error]
    seen: set[int] = set()
    while rest:
        found = rest.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        rest += [found.__context__, found.__cause__, *reversed(inner)]
