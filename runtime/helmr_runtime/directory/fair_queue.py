"""Work in an order that is fair between families of sessions. Pure.

A family is a session that nobody's task started, with all that descend from it. Each family's work keeps its order;
between families it goes round, so that one that brings thousands of items holds no other up by more than its share.
Sessions without children are families of one: among themselves they come in the order of asking.
"""

from __future__ import annotations

from collections.abc import Iterator

from helmr_runtime.ports import WorkItem


class FairQueue:
    """Items by key."""

    def __init__(self) -> None:
        self._items: dict[str, WorkItem] = {}
        self._families: dict[str, dict[str, None]] = {}
        """The keys of each family; the family whose turn is next comes first."""

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def get(self, key: str) -> WorkItem | None:
        """The item of that key."""
        return self._items.get(key)

    def items(self) -> Iterator[WorkItem]:
        """All of them, the first added first."""
        return iter(self._items.values())

    @property
    def last(self) -> WorkItem | None:
        """The one that was added last."""
        return next(reversed(self._items.values()), None)

    def add(self, item: WorkItem) -> None:
        """Put it behind those of its family; one that is here already keeps its place."""
        self._items[item.key] = item
        self._families.setdefault(_family(item), {})[item.key] = None

    def pop(self, key: str) -> None:
        """Take an item off; it was its family's turn."""
        item = self._items.pop(key, None)
        if item is None:
            return
        family = _family(item)
        keys = self._families.pop(family)
        del keys[key]
        if keys:
            self._families[family] = keys

    def clear(self) -> None:
        """Take all of them off."""
        self._items.clear()
        self._families.clear()

    def sort(self) -> None:
        """Put the longest waiting first."""
        items = sorted(self._items.values(), key=lambda item: item.queued_at)
        self.clear()
        for item in items:
            self.add(item)

    def __iter__(self) -> Iterator[str]:
        """Keys, one of each family in each round. Not to be changed meanwhile."""
        rounds = [iter(keys) for keys in self._families.values()]
        while rounds:
            going_on = []
            for keys in rounds:
                key = next(keys, None)
                if key is not None:
                    yield key
                    going_on.append(keys)
            rounds = going_on


def _family(item: WorkItem) -> str:
    return item.family or item.session_id
