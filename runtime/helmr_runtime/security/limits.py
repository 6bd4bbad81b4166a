"""What a caller may do, and how often: roles against the table of operations, rate limits, and the Host header.

A good secret is let by, whatever others did from the same address: it is looked up first, and only
what fails spends a budget. What that costs the ledger is bounded by the lookups at once, not by refusing them.

Counting is the `limits` package's fixed window: a caller may spend two windows' worth around a
boundary, which these limits allow for. Its own memory storage reads the wall clock and starts timer
threads, so the storage here takes the clock and a bound instead. Used on one event loop.

Invariants: S-64 (refused before any durable effect, with Retry-After), S-46 (a spent budget tells unknown, revoked
and expired secrets the same), S-51 (`on_behalf_of` comes only from a key that may speak for others).
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from helmr.errors import NotAllowed, Overloaded, RoleDenied
from helmr.models import PERSON_MAX
from helmr.operation import Operation
from helmr.roles import SCOPE_NEEDS, Need, Owner, Role, ScopeType, may
from helmr_runtime.core.entries import Principal

KEYS_MAX = 50_000
"""Counters kept; the oldest window goes first. A flood of sources is met by the global budget."""

KNOWN_MAX = 10_000
"""Secrets remembered as good, by their hash."""

LOOKUPS_AT_ONCE = 2
"""Secrets not known here that are looked up at a time, so that guessing does not crowd the ledger."""

LOOKUPS_WAITING_MAX = 2_000
"""Above what one source's connections can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConfig:
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

    def __init__(self, clock: Callable[[], datetime], config: LimitConfig | None = None) -> None:
        config = config or LimitConfig()
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
    """What counts as one source: an IPv4 address, an IPv6 /64, or the text if it is neither."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


# --- Host -----------------------------------------------------------------------------------------

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def allowed_hosts(
    bind_host: str, base_urls: Collection[str], extra: Collection[str] = ()
) -> frozenset[str]:
    """The names under which a runtime may be asked, lower case, without ports.

    Args:
        bind_host: `--host`; a wildcard address is not a name and adds nothing.
        base_urls: The external base URL, if configured.
        extra: Further names of the configuration.
    """
    names = {_host_of(url.partition("://")[2].partition("/")[0]) for url in base_urls}
    names |= {_host_of(name) for name in extra}
    if bind_host not in ("", "0.0.0.0", "::", "[::]"):
        names.add(
            _host_of(
                f"[{bind_host}]" if bind_host.count(":") > 1 and "[" not in bind_host else bind_host
            )
        )
    return frozenset(names - {""}) | _LOCAL_HOSTS


@lru_cache(64)
def check_host(host_header: str | None, allowed: frozenset[str]) -> None:
    """Return if the Host header names this runtime.

    A page on evil.example whose name was rebound to 127.0.0.1 sends `Host: evil.example`; so a
    loopback runtime can't be driven from a browser (DNS rebinding).

    Raises:
        NotAllowed: No Host or another name.
    """
    host = _host_of(host_header or "")
    if host not in allowed:
        raise NotAllowed(
            f"Host {host[:100]!r} is not a name of this runtime",
            hint="Set the external base URL, or add the name to the allowed hosts.",
        )


def _host_of(authority: str) -> str:
    """The host of `host[:port]`, lower case, without a trailing dot; empty if it is malformed."""
    text = authority.strip().lower()
    if text.startswith("["):
        name, bracket, port = text.partition("]")
        host, port = name + bracket, port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not port.isdecimal():
        return ""
    return host.rstrip(".")


ON_BEHALF_OF_HEADER = "On-Behalf-Of"
ON_BEHALF_OF_MAX = PERSON_MAX


@cache
def check_role(role: Role | None, need: Need) -> None:
    """Return if a key of that role may do it.

    Raises:
        RoleDenied: Names the role and the roles that would do.
    """
    if role is not None and may(role, need):
        return
    enough = ", ".join(each.value for each in Role if may(each, need))
    raise RoleDenied(
        f"a key with role {_name(role)} may not {need.value}",
        hint=f"Use a key with one of the roles {enough}.",
        role=_name(role),
        need=need.value,
    )


def check_delegation(role: Role | None, scope: ScopeType) -> None:
    """Return if a key of that role may make a public token of that scope: none gives what it lacks.

    Raises:
        RoleDenied: The role does not cover what the public token would do.
    """
    check_role(role, Need.DELEGATE)
    check_role(role, SCOPE_NEEDS[scope])


def reaches_all(row: Operation[Any], role: Role | None) -> bool:
    """True if a caller whose role covers the operation's need reaches everything by it, not only what it has made."""
    return row.owner is Owner.ALL or role is Role.ADMIN


def check_owner(role: Role | None, asking: Principal, made_by: Principal) -> None:
    """Return if the caller of an operation that reaches the caller's own things has made this one.

    Raises:
        RoleDenied: Another has made it.
    """
    if (asking.type, asking.id) != (made_by.type, made_by.id):
        raise RoleDenied(
            f"a key with role {_name(role)} may do this only to what it has made",
            hint="Use the key that made it, or one with the role admin.",
            role=_name(role),
        )


def check_on_behalf_of(role: Role, name: str | None) -> str | None:
    """The person that a call is made for (S-51), as recorded; None if it names no one.

    Raises:
        RoleDenied: Only an admin key, such as the local one of CLI and console, speaks for others.
    """
    if name is None or not name.strip():
        return None
    if role is not Role.ADMIN:
        raise RoleDenied(
            f"a key with role {_name(role)} may not set {ON_BEHALF_OF_HEADER}", role=_name(role)
        )
    return person_name(name)


def person_name(name: str) -> str:
    """A person's name as it is recorded."""
    return "".join(char for char in name.strip() if char.isprintable())[:ON_BEHALF_OF_MAX]


def _name(role: Role | None) -> str:
    return role.value if role is not None else "none"
