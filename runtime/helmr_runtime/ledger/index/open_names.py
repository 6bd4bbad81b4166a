"""Which open session an external id names: the newest of those that have it (S-2).

Several have it when a rewind has opened a session again whose name was given to another meanwhile (S-75).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from helmr_runtime.ledger.index.heads import Head


class OpenNames:
    """External ids of open sessions, by digest.

    Args:
        heads: Of all sessions that are named here.
    """

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self._heads = heads
        self._newest: dict[bytes, str] = {}
        self._others: dict[bytes, list[str]] = {}

    def get(self, key: bytes) -> str | None:
        """The session that it names."""
        return self._newest.get(key)

    def add(self, key: bytes, head: Head) -> None:
        """An open session has this external id."""
        head.external_key = key
        self._keep(key, [head.session_id, *self._take(key)])

    def remove(self, head: Head) -> None:
        """The session has ended."""
        key, head.external_key = head.external_key, None
        if key is not None:
            self._keep(key, [one for one in self._take(key) if one != head.session_id])

    def items(self) -> Iterator[tuple[bytes, list[str]]]:
        """Each external id and the open sessions that have it, newest first."""
        for key, newest in self._newest.items():
            yield key, [newest, *self._others.get(key, ())]

    def _take(self, key: bytes) -> list[str]:
        newest = self._newest.pop(key, None)
        return [newest, *self._others.pop(key, ())] if newest is not None else []

    def _keep(self, key: bytes, session_ids: list[str]) -> None:
        session_ids.sort(key=lambda one: self._heads[one].created_offset)
        if session_ids:
            self._newest[key] = session_ids.pop()
        if session_ids:
            self._others[key] = session_ids[::-1]
