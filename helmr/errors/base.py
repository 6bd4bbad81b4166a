"""The base of all errors, the look-up of a class by its wire code, and the signals that steer a run.

Signals derive from `BaseException`, so that task code can't swallow them (S-34).
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from helmr.wire.old_names import ERROR_CODES

PAGE = "errors.md"
"""Page of the docs; its anchors are codes."""

FEATURES = "helmr.features."
"""Begins the modules of features, which may have errors of their own."""

_INVARIANTS = re.compile(r" \(S-[0-9, S-]+\)")


class HelmrError(Exception):
    """Base of all errors: a message, a hint what to do, and the facts as data.

    Args:
        message: One sentence; ids first.
        hint: Advice what to do, one sentence.
        errors: For data that does not fit a schema: `[{"path": "decision", "message": "…"}]`.
        facts: Further data that a caller may act on, JSON types only.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str | None] = None
    advice: ClassVar[str] = ""
    """Advice for the page of errors, if other than the default hint."""
    op: int | None = None
    """The op that raised it in a run's code, if any; a retry sets that op aside (S-5)."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        errors: list[dict[str, str]] | None = None,
        retry_after_s: float | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.default_hint
        self.errors = errors or []
        self.retry_after_s = retry_after_s
        self.facts: dict[str, Any] = facts

    def __init_subclass__(cls) -> None:
        """Set the wire name: the class's name in snake case unless it sets one.

        Other classes than Helmr's, of these modules and of features, have that of their base.
        """
        if cls.__module__ != __package__ and not cls.__module__.startswith(FEATURES):
            return
        if "code" not in vars(cls):
            words = "".join(f"_{c}" if c.isupper() else c for c in cls.__name__)
            cls.code = words.lstrip("_").lower()
        _BY_CODE[cls.code] = cls

    @classmethod
    def page(cls) -> str:
        """Return its place in the docs: `errors.md#wait_resolved`."""
        return f"{PAGE}#{cls.code}"

    @classmethod
    def meaning(cls) -> str:
        """Return its meaning for the docs, in Markdown."""
        if cls is HelmrError:
            return "Something that should not happen."
        return _INVARIANTS.sub("", " ".join((cls.__doc__ or "").split()))

    @classmethod
    def what_to_do(cls) -> str:
        """Return the advice for the docs, in Markdown: that of the class, else of its nearest base with one."""
        if cls is HelmrError:
            return "This is a bug in Helmr: report it with the log."
        said = [vars(each).get(name) for each in cls.__mro__ for name in ("advice", "default_hint")]
        return next(str(text) for text in said if text)

    def __reduce__(self) -> tuple[Any, ...]:
        return error_from_code, (self.code, self.message), vars(self)


_BY_CODE: dict[str, type[HelmrError]] = {HelmrError.code: HelmrError}


_CODE_OF_STATUS = {
    401: "unauthenticated",
    403: "not_allowed",
    404: "not_found",
    409: "conflict",
    410: "conflict",
    429: "overloaded",
    502: "unavailable",
    503: "unavailable",
    504: "unavailable",
}
"""Class for an answer with an unknown code, or none, by status."""


def error_from_code(
    code: str,
    message: str,
    *,
    status: int | None = None,
    hint: str | None = None,
    errors: list[dict[str, str]] | None = None,
    retry_after_s: float | None = None,
    facts: dict[str, Any] | None = None,
) -> HelmrError:
    """Make the error whose wire name is `code`; an unknown code falls back to its status class."""
    code = ERROR_CODES.get(code, code)
    if code not in _BY_CODE and status is not None:
        code = _CODE_OF_STATUS.get(status, "usage" if 400 <= status < 500 else "internal")
    cls = _BY_CODE.get(code, HelmrError)
    error = cls(message, hint=hint, errors=errors, retry_after_s=retry_after_s)
    error.facts = dict(facts or {})  # not as arguments: a newer runtime may name them like one
    return error


def all_codes() -> dict[str, type[HelmrError]]:
    """Every wire code and its class, those of features that are loaded too; the docs and a test read this."""
    return dict(_BY_CODE)


class HelmrSignal(BaseException):
    """Control flow of a run. Task code may see it in `finally`; catching it has no effect (S-34)."""


class RunParked(HelmrSignal):
    """The run leaves memory; a replay continues it here when its wait is resolved."""


class RunCancelled(HelmrSignal):
    """The run was cancelled; further durable calls fail."""


class RunContinued(HelmrSignal):
    """`ctx.continue_as` ended this run; the next one has begun."""


ORDER_HINT = "move what varies into a @step, sort what comes out of a set, and await tasks in an order of your own"
"""The code asked for another op than before."""

ASKED_HINT = "move what varies into a @step, take times and ids from ctx, leave the call out with compare=False"
"""The code asked for the same op with other arguments."""


class NondeterminismError(HelmrSignal):
    """The code asked for another op than the journal holds, or for the same op with other arguments (S-31, S-126).

    The run is blocked.
    """

    def __init__(self, *, op: int, recorded: str, met: str, hint: str = ORDER_HINT) -> None:
        super().__init__(
            f"op {op}: the journal has {recorded}, the code asked for {met}. "
            f"Code between durable calls must do the same at each resume; {hint}, "
            "or put the old code back and retry the run."
        )
        self.hint = hint
        self.op = op
        self.recorded = recorded
        self.met = met

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_mismatch, (self.op, self.recorded, self.met, self.hint)


def _rebuild_mismatch(op: int, recorded: str, met: str, hint: str) -> NondeterminismError:
    return NondeterminismError(op=op, recorded=recorded, met=met, hint=hint)
