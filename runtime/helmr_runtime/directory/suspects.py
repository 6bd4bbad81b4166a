"""For which session a host's crash counts.

A host holds many sessions. Those whose code executed when it died are suspects; with one suspect the crash is its own.
With several nobody knows which of them it was, and each goes on as the others do, until it has been suspect twice: then
it goes on alone, in a host of its own, and what that dies of is its own doing. An operator's kill of a busy host so
counts for nobody, and a session that kills its host every time is blocked after the third counted crash (S-3).
"""

from __future__ import annotations

from collections.abc import Collection

ALONE_AFTER = 2
"""Crashes with other suspects after which a session goes on alone."""

KNOWN_MAX = 10_000
"""Suspects remembered; when there are more, all are forgotten."""


class Suspects:
    """What this directory has seen of crashes; a new one begins from nothing.

    Attributes:
        alone: Sessions that go on in a host of their own, until their next wait or end.
        apart: Sessions whose code leaves threads behind with which two hosts have died: they have hosts of their own
            from then on.
    """

    def __init__(self) -> None:
        self.alone: set[str] = set()
        self.apart: set[str] = set()
        self._crashes: dict[str, int] = {}
        self._with_threads: dict[str, int] = {}

    def judge(self, executing: Collection[str]) -> str | None:
        """A host died while the code of these sessions executed: the one for which it counts."""
        if len(executing) == 1:
            return next(iter(executing))
        if len(self._crashes) + len(executing) > KNOWN_MAX:
            self._crashes.clear()
        for session_id in executing:
            count = self._crashes[session_id] = self._crashes.get(session_id, 0) + 1
            if count >= ALONE_AFTER:
                self.alone.add(session_id)
        return None

    def judge_threads(self, session_ids: Collection[str], *, is_alone: bool) -> str | None:
        """A host died while nobody executed, but threads lived that the code of these had started and left.

        That a thread lives is no sign that it did anything, so that it counts only for a session whose host had no
        other; elsewhere it is suspicion, which a wait does not settle: the thread lives on.
        """
        if is_alone and len(session_ids) == 1:
            return next(iter(session_ids))
        if len(self._with_threads) + len(session_ids) > KNOWN_MAX:
            self._with_threads.clear()
        for session_id in session_ids:
            count = self._with_threads[session_id] = self._with_threads.get(session_id, 0) + 1
            if count >= ALONE_AFTER:
                self.apart.add(session_id)
        if len(self.apart) > KNOWN_MAX:
            self.apart.clear()
        return None

    def is_settled(self, session_id: str) -> None:
        """It has reached a wait, or its end: whatever it was suspected of is over."""
        self._crashes.pop(session_id, None)
        self.alone.discard(session_id)
