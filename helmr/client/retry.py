"""How often, how long and after which errors a call is made again.

Every mutating call carries an operation id that stays the same over its tries, so that repeating one whose
outcome is unknown is safe (S-61). What the caller got wrong is never tried again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from helmr.errors import HelmrError, RuntimeNotFound

DOUBLINGS_MAX = 30
"""Of a pause: a follower may have failed for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Bounds of trying again.

    The pause before try n+1 is random between half and all of `pause_s * 2**(n-1)`, at most `pause_max_s`; an
    answer's Retry-After is kept to when it is longer.

    Args:
        tries_max: Tries of one call in all, at least 1; while following, tries in a row without an answer. None: time
            alone bounds them.
        total_s: No new try begins later than this after the first one. It bounds a follower's first connection too.
        follow_s: A follower that was connected gives up that long after its connection broke. None: never, so that it
            outlasts every restart and deploy.
        pause_s: The first pause.
        pause_max_s: The longest pause.
    """

    tries_max: int | None = None
    total_s: float = 60.0
    follow_s: float | None = None
    pause_s: float = 0.1
    pause_max_s: float = 2.0


class Tries:
    """The tries of one call: says after each failure how long to pause, or raises what failed."""

    def __init__(self, retry: Retry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._clock = clock
        self._began: float | None = clock()
        self._failed = 0
        self._total_s: float | None = retry.total_s

    def failed(self, error: HelmrError, *, repeatable: bool = True) -> float:
        """Seconds to pause before the next try.

        Raises:
            HelmrError: `error` itself: trying again can't help, or the bounds are reached.
        """
        self._failed += 1
        tries_max = self._retry.tries_max
        is_last = tries_max is not None and self._failed >= tries_max
        if is_last or not (repeatable and may_pass(error)):
            raise error
        doublings = min(self._failed - 1, DOUBLINGS_MAX)
        ceiling = min(self._retry.pause_max_s, self._retry.pause_s * 2.0**doublings)
        # Jitter: callers that failed together come back apart.
        pause_s: float = ceiling * (0.5 + secrets.randbelow(501) / 1000)
        if error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        if self._began is None:
            self._began = self._clock()
        if self._total_s is not None and self._clock() - self._began + pause_s > self._total_s:
            raise error
        return pause_s

    def answered(self) -> None:
        """A try went well: the count begins again, the time with the next failure, hours later maybe."""
        self._failed = 0
        self._began = None

    def connected(self) -> None:
        """A follower has its connection: from now on its own bound of time counts."""
        self._total_s = self._retry.follow_s


def may_pass(error: HelmrError) -> bool:
    """True if the same call may go through later: the runtime is away, busy or did not say what happened."""
    if isinstance(
        error, RuntimeNotFound
    ):  # what answers as something else does so in a minute, too
        return bool(error.facts.get("connecting"))
    return error.retryable
