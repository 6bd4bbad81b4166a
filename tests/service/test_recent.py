"""The bounded memory of the service."""

from __future__ import annotations

from helmr_runtime.service.lru_cache import LruCache


def test_the_least_recently_used_goes_first() -> None:
    recent: LruCache[str, int] = LruCache(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert recent.get("b") is None
    assert (recent.get("a"), recent.get("c"), len(recent)) == (1, 3, 2)


def test_what_is_unused_for_too_long_is_forgotten() -> None:
    now_s = 0.0
    recent: LruCache[str, int] = LruCache(2, age_max_s=30, monotonic=lambda: now_s)
    recent.put("a", 1)
    now_s = 30.0
    assert recent.get("a") == 1  # which is a use
    now_s = 60.0
    assert recent.get("a") == 1
    now_s = 90.1
    assert recent.get("a") is None
    assert len(recent) == 0
