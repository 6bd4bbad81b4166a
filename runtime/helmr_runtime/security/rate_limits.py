"""Rate limits bound how often strangers may ask, and how often a secret may be wrong.

A good secret is let by, whatever others did from the same address: it is looked up first, and only
what fails spends a budget. What that costs the ledger is bounded by the lookups at once, not by refusing them.

Counting is the `limits` package's fixed window: a caller may spend two windows' worth around a
boundary, which these limits allow for. Its own memory storage reads the wall clock and starts timer
threads, so the storage here takes the clock and a bound instead. Used on one event loop.

Invariants: S-64 (refused before any durable effect, with Retry-After), S-46 (a spent budget tells unknown, revoked
and expired secrets the same).
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from helmr.errors import Overloaded

KEYS_MAX = 50_000
"""Counters kept; the oldest window goes first. A flood of sources is met by the global budget."""

KNOWN_MAX = 10_000
"""Secrets remembered as good, by their hash."""

LOOKUPS_AT_ONCE = 2
"""Secrets not known here that are looked up at a time, so that guessing does not crowd the ledger."""

LOOKUPS_WAITING_MAX = 2_000
"""Above what one source's connections can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Limits in the notation of the `limits` package; one per second is `1/second`."""

    per_secret: str = "600/minute"
    """For public tokens and callback secrets, which strangers may hold; API keys have none."""
    per_source: str = "1200/minute"
    """For callers without any secret, by address."""
    malformed_per_source: str = "300/minute"
    """What fails the check characters. It costs no lookup, so it spends none of the others."""
    failures_per_source: str = "30/minute"
    failures: str = "300/minute"
    """Well-formed secrets that were unknown, revoked or expired; of all sources together."""


class RateLimiter:
    """The counters of one gateway.

    Args:
        clock: Tells the time, aware.
        config: The limits.
    """

    def __init__(self, clock: Callable[[], datetime], config: RateLimits | None = None) -> None:
        config = config or RateLimits()
        self._clock = clock
        self._limiter = FixedWindowRateLimiter(_Counters(lambda: clock().timestamp()))
        # Of its own, so that a flood of sources can't push the global counter out.
        self._global = FixedWindowRateLimiter(_Counters(lambda: clock().timestamp()))
        self._malformed = FixedWindowRateLimiter(_Counters(lambda: clock().timestamp()))
        self._known: OrderedDict[str, None] = OrderedDict()
        self._looking = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._waiting = 0
        self._per_secret = parse(config.per_secret)
        self._per_source = parse(config.per_source)
        self._malformed_per_source = parse(config.malformed_per_source)
        self._failures_per_source = parse(config.failures_per_source)
        self._failures = parse(config.failures)

    def admit_source(self, address: str) -> None:
        """Count a call without a secret against its source.

        Raises:
            Overloaded: Too many; with Retry-After.
        """
        self._hit(self._per_source, "source", source_key(address))

    def admit_secret(self, hash_: str) -> None:
        """Count a call with a public token or callback secret, by the secret's hash.

        Raises:
            Overloaded: Too many; with Retry-After.
        """
        self._hit(self._per_secret, "secret", hash_)

    @asynccontextmanager
    async def lookup(self, hash_: str) -> AsyncIterator[None]:
        """The time of one lookup of a secret. Those that were good lately do not wait for others.

        Raises:
            Overloaded: Too many unknown ones wait to be looked up.
        """
        if hash_ in self._known:
            yield
            return
        if self._waiting >= LOOKUPS_WAITING_MAX:
            raise Overloaded("too many secrets are being looked up", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._looking:
                yield
        finally:
            self._waiting -= 1

    def passed(self, hash_: str) -> None:
        """Remember a secret that was good."""
        self._known[hash_] = None
        self._known.move_to_end(hash_)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def count_malformed(self, address: str) -> None:
        """Count a secret that fails its check characters.

        Raises:
            Overloaded: Too many.
        """
        self._hit(self._malformed_per_source, source_key(address), limiter=self._malformed)

    def count_failure(self, address: str, hash_: str) -> None:
        """Count a secret that was looked up and is unknown, revoked or expired.

        Raises:
            Overloaded: The source's budget is spent, or that of all.
        """
        self._known.pop(hash_, None)
        self._hit(self._failures_per_source, "failure", source_key(address))
        self._hit(self._failures, limiter=self._global)

    def _hit(
        self, item: RateLimitItem, *key: str, limiter: FixedWindowRateLimiter | None = None
    ) -> None:
        limiter = limiter or self._limiter
        if not limiter.hit(item, *key):
            raise self._refusal(limiter, item, *key)

    def _refusal(
        self, limiter: FixedWindowRateLimiter, item: RateLimitItem, *key: str
    ) -> Overloaded:
        reset_at = limiter.get_window_stats(item, *key).reset_time
        wait_s = max(1, math.ceil(reset_at - self._clock().timestamp()))
        return Overloaded(
            "too many requests", hint=f"Try again in {wait_s} s.", retry_after_s=wait_s
        )


class _Counters(Storage):
    """Fixed-window counters in memory: bounded, on a given clock, without threads."""

    STORAGE_SCHEME = None

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count, ends_at = self._current(key)
        if count == 0:
            self._windows.pop(key, None)
            ends_at = self._now_s() + expiry
        self._windows[key] = (count + amount, ends_at)
        if len(self._windows) > KEYS_MAX:
            self._windows.popitem(last=False)
        return count + amount

    def get(self, key: str) -> int:
        return self._current(key)[0]

    def get_expiry(self, key: str) -> float:
        return self._current(key)[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def _current(self, key: str) -> tuple[int, float]:
        now_s = self._now_s()
        count, ends_at = self._windows.get(key, (0, now_s))
        return (count, ends_at) if ends_at > now_s else (0, now_s)


def source_key(address: str) -> str:
    """Return the key that an address is limited under: the IPv4 address, the IPv6 /64, else the text itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
