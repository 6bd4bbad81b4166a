"""Checks of the arguments that tests pass to a harness; a wrong type gets an error with the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from helmr.errors import UsageError
from helmr.steps import Step
from helmr.streams import Stream
from helmr.tasks import Task
from helmr.tokens import Token


def stream_name(given: Any, call: str) -> str:
    """Return the name of a stream; `call` is the call for the message, with `{}` for the name."""
    if isinstance(given, str):
        return given
    name = repr(given.id) if isinstance(given, Stream) else '"NAME"'
    raise _wrong(given, call, "takes a stream's name", f"Pass its name: {call.format(name)}.")


def session_id(given: Any, call: str) -> str:
    """Return the id of a session."""
    if isinstance(given, str):
        return given
    raise _wrong(given, call, "takes a session's id", "Pass `session.id`.")


def tasks(given: Iterable[Any], call: str) -> list[Task[..., Any]]:
    """Return declared tasks."""
    return [task(one, call) for one in given]


def task(given: Any, call: str) -> Task[..., Any]:
    """Return a declared task."""
    if isinstance(given, Task):
        return given
    raise _wrong(given, call, "takes tasks", "Pass the function that @task decorates, uncalled.")


def step(given: Any, call: str) -> Step[..., Any]:
    """Return a declared step."""
    if isinstance(given, Step):
        return given
    raise _wrong(given, call, "takes a step", "Pass the function that @step decorates, uncalled.")


def function(given: Any, call: str) -> Callable[..., Any]:
    """Return the function to call instead of a step."""
    if callable(given):
        return given  # type: ignore[no-any-return]
    raise _wrong(
        given, call, "takes a function", "Pass one that returns the value: `lambda *args: …`."
    )


def token_text(given: Any, call: str) -> str:
    """Return the id or the callback URL of a token."""
    if isinstance(given, str):
        return given
    if isinstance(given, Token):
        return given.id
    raise _wrong(given, call, "takes a token", "Pass its id, its handle or its callback URL.")


def _wrong(given: Any, call: str, takes: str, hint: str) -> UsageError:
    if hasattr(given, "close") and hasattr(given, "cr_frame"):
        given.close()  # a coroutine, which no one awaits now
    name = call.partition("(")[0]
    return UsageError(f"{name}() {takes}, and this is of type {type(given).__name__}", hint=hint)
