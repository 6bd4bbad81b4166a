"""What the directory must see to: ends of tokens on their way to waits, and runs that nobody holds. Pure, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice

from helmr_runtime.core.entries import Entry
from helmr_runtime.core.tokens import end_facts
from helmr_runtime.ledger.heads import Head
from helmr_runtime.ledger.tokens import TokenIndex
from helmr_runtime.ports import WorkItem

WORK_ITEMS_MAX = 1_000
"""Most items of each kind that one look at the list shows, oldest first."""

ENDS_TEXT_MAX = 64 * 1024
"""Characters of tokens' ends that one look carries; those that do not fit are asked for one by one (`token_end`)."""


class WorkList:
    """Items stand here until a commit clears them; `version` rises when one is added.

    Args:
        heads: The index's, by session.
        tokens: The index's.
    """

    def __init__(self, heads: Mapping[str, Head], tokens: TokenIndex) -> None:
        self._heads = heads
        self._tokens = tokens
        self._deliveries: dict[str, WorkItem] = {}
        self._ready: dict[str, None] = {}
        self.version = 1

    def set_ready(self, head: Head, is_ready: bool) -> None:
        """The session's run can go on once an actor takes it up, or can't (any more)."""
        if not is_ready:
            self._ready.pop(head.session_id, None)
        elif head.session_id not in self._ready:
            self._ready[head.session_id] = None
            self.version += 1

    def deliver(self, head: Head, now: datetime) -> None:
        """The token of the session's pending wait ended: have that delivered until a commit resolves the wait."""
        wait = head.wait
        assert wait is not None
        if wait.id in self._deliveries:
            return
        self._deliveries[wait.id] = WorkItem(
            kind="delivery",
            session_id=head.session_id,
            queued_at=now,
            run_id=head.run_id,
            wait_id=wait.id,
            token_id=wait.token_id,
        )
        self.version += 1

    def delivered(self, wait_id: str) -> None:
        """The wait is resolved."""
        self._deliveries.pop(wait_id, None)

    def items(self, recent: Callable[[int], Entry | None] = lambda offset: None) -> list[WorkItem]:
        """Deliveries, then runs, oldest first of the longest listed.

        Args:
            recent: The entry at a feed offset, if it is in memory: what ends are told from.
        """
        runs = [_run_item(self._heads[s]) for s in islice(self._ready, WORK_ITEMS_MAX)]
        deliveries = []
        room = ENDS_TEXT_MAX
        for item in islice(self._deliveries.values(), WORK_ITEMS_MAX):
            token = self._tokens.get(item.token_id or "")
            if token is not None and not token.is_pending:
                ended = recent(token.ended_offset)
                if ended is not None and len(ended.body_json) <= room:
                    room -= len(ended.body_json)
                    item = replace(item, end=end_facts(token.status.value, ended))
            deliveries.append(item)
        return [*deliveries, *sorted(runs, key=lambda item: item.queued_at)]

    def counts(self) -> dict[str, int]:
        """How many items there are of each kind."""
        return {"ready": len(self._ready), "deliveries": len(self._deliveries)}


def _run_item(head: Head) -> WorkItem:
    queued_at = head.retry_at or head.queued_at or head.last_at
    assert queued_at is not None
    return WorkItem(kind="run", session_id=head.session_id, queued_at=queued_at, run_id=head.run_id)
