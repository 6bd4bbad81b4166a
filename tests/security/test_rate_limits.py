"""Rate limits of the gateway, and the failure budget."""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest

from helmr.errors import Overloaded
from helmr_runtime.security import rate_limits
from helmr_runtime.security.rate_limits import RateLimiter, RateLimits, source_key


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


def door(clock: Clock, **changes: str) -> RateLimiter:
    parts = {"per_secret": "3/minute", "per_source": "5/minute", "failures_per_source": "2/minute"}
    return RateLimiter(clock, RateLimits(**{**parts, "failures": "4/minute", **changes}))


def test_a_secret_has_its_own_rate_and_is_told_when_to_come_back(clock):
    front = door(clock)
    for _ in range(3):
        front.admit_secret("one")
    clock.forward(20.5)
    with pytest.raises(Overloaded) as refused:
        front.admit_secret("one")
    assert refused.value.retry_after_s == 40
    front.admit_secret("other")
    clock.forward(39.6)
    front.admit_secret("one")


def test_a_source_has_its_own_rate(clock):
    front = door(clock)
    for _ in range(5):
        front.admit_source("192.0.2.1")
    with pytest.raises(Overloaded):
        front.admit_source("192.0.2.1")
    front.admit_source("192.0.2.2")


def test_failures_of_one_source_spend_its_budget_and_nobody_elses(clock):
    front = door(clock)
    for _ in range(2):
        front.count_failure("192.0.2.1", "unknown")
    with pytest.raises(Overloaded) as refused:
        front.count_failure("192.0.2.1", "unknown")
    assert refused.value.retry_after_s == 60
    front.count_failure("192.0.2.2", "unknown")
    clock.forward(60)
    front.count_failure("192.0.2.1", "unknown")


def test_failures_of_all_sources_together_have_a_budget(clock):
    front = door(clock)
    for last in range(4):
        front.count_failure(f"192.0.2.{last}", "unknown")
    with pytest.raises(Overloaded):
        front.count_failure("198.51.100.1", "unknown")
    clock.forward(60)
    front.count_failure("198.51.100.1", "unknown")


def test_malformed_secrets_spend_a_budget_of_their_own(clock):
    front = door(clock, malformed_per_source="3/minute")
    for _ in range(3):
        front.count_malformed("192.0.2.1")
    with pytest.raises(Overloaded) as refused:
        front.count_malformed("192.0.2.1")
    assert refused.value.retry_after_s == 60
    front.count_malformed("192.0.2.2")
    front.admit_source("192.0.2.1")
    front.admit_secret("one")
    front.count_failure("192.0.2.1", "unknown")


async def test_a_spent_budget_ends_no_lookup(clock):
    front = door(clock)
    for _ in range(5):
        with suppress(Overloaded):
            front.count_failure("192.0.2.1", "unknown")
    async with front.lookup("never seen"):
        pass


async def test_unknown_secrets_are_looked_up_a_few_at_a_time_and_known_ones_at_once(clock):
    front = door(clock)
    front.passed("known")
    async with AsyncExitStack() as held:
        for number in range(rate_limits.LOOKUPS_AT_ONCE):
            await held.enter_async_context(front.lookup(f"unknown {number}"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), front.lookup("one more"):
                pass
        async with asyncio.timeout(5), front.lookup("known"):
            pass
    async with asyncio.timeout(5), front.lookup("one more"):
        pass


async def test_what_waits_to_be_looked_up_is_bounded(clock, monkeypatch):
    monkeypatch.setattr(rate_limits, "LOOKUPS_WAITING_MAX", 1)
    front = door(clock)
    async with front.lookup("unknown"):
        with pytest.raises(Overloaded):
            async with front.lookup("one more"):
                pass


async def test_a_secret_that_failed_is_no_longer_known(clock):
    front = door(clock)
    front.passed("revoked")
    front.count_failure("192.0.2.1", "revoked")
    async with AsyncExitStack() as held:
        for number in range(rate_limits.LOOKUPS_AT_ONCE):
            await held.enter_async_context(front.lookup(f"unknown {number}"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), front.lookup("revoked"):
                pass


def test_counters_are_bounded_and_a_flood_does_not_reset_the_global_budget(clock, monkeypatch):
    monkeypatch.setattr(rate_limits, "KEYS_MAX", 10)
    front = door(clock, failures="100/minute")
    for last in range(100):
        front.count_failure(f"192.0.2.{last}", "unknown")
    assert len(vars(front._limiter.storage)["_windows"]) == 10
    with pytest.raises(Overloaded):
        front.count_failure("198.51.100.1", "unknown")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "testclient"),
        ("x" * 500, "x" * 100),
    ],
)
def test_a_source_is_an_address_or_an_ipv6_network(address, key):
    assert source_key(address) == key


# --- Host -----------------------------------------------------------------------------------------
