"""A cache keeps the most recently used pairs and forgets old ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """At most `size_max` pairs; pairs unused for `age_max_s` are forgotten.

    Args:
        size_max: Most pairs kept.
        age_max_s: A pair unused for longer, in seconds, is dropped. None keeps it until it is pushed out.
        monotonic: A clock in seconds that never goes back, such as the running loop's `time`.
    """

    def __init__(
        self,
        size_max: int,
        *,
        age_max_s: float | None = None,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._size_max = size_max
        self._age_max_s = age_max_s
        self._monotonic = monotonic
        self._pairs: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, key: K) -> V | None:
        """The value, which counts as used now."""
        found = self._pairs.get(key)
        if found is None:
            return None
        value, used_at_s = found
        now_s = self._monotonic()
        if self._age_max_s is not None and now_s - used_at_s > self._age_max_s:
            del self._pairs[key]
            return None
        self._pairs[key] = (value, now_s)
        self._pairs.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Store the pair, in place of an older one with that key."""
        self._pairs[key] = (value, self._monotonic())
        self._pairs.move_to_end(key)
        if len(self._pairs) > self._size_max:
            self._pairs.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._pairs.clear()

    def drop(self, key: K) -> None:
        """Forget the key."""
        self._pairs.pop(key, None)
