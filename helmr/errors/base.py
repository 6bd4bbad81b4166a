"""The base of all errors, and the way from a wire code back to its class."""

from __future__ import annotations

from typing import Any, ClassVar

from helmr.old_names import ERROR_CODES


class HelmrError(Exception):
    """Base of all errors: says what is wrong, what to do, and carries the facts as data.

    Args:
        message: One sentence; ids first.
        hint: What to do about it, one sentence.
        errors: For data that does not fit a schema: `[{"path": "decision", "message": "…"}]`.
        facts: What else a caller may want to act on, JSON types only.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str | None] = None
    op: int | None = None
    """The op whose outcome this is, if a run's code got it from one; a retry sets that op aside (S-5)."""

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
        """The wire name is the class's in snake case, unless it says another; a class of elsewhere has its base's."""
        if cls.__module__ != __package__:
            return
        if "code" not in vars(cls):
            words = "".join(f"_{c}" if c.isupper() else c for c in cls.__name__)
            cls.code = words.lstrip("_").lower()
        _BY_CODE[cls.code] = cls

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
"""What an answer with an unknown code, or none, is taken for."""


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
    """Every wire code and its class; the docs and a test read this."""
    return dict(_BY_CODE)
