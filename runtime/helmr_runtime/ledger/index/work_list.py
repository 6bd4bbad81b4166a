"""The directory's work list, in memory, pure: ends of tokens to deliver to waits, and runs without a holder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import takewhile

from helmr.models import Activity
from helmr_runtime.core.children import is_child
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.tokens import end_facts
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.tokens import TokenIndex
from helmr_runtime.ports.ledger import FROM_START, WorkChanges, WorkItem, WorkPosition

WORK_ITEMS_MAX = 1_000
"""Most items of each kind that one look at the list shows, oldest first."""

GONE_MAX = 10_000
"""Number of removed items remembered for readers that know them; the oldest beyond it are forgotten."""

TRACES_MAX = 1_000
"""Calls whose trace context is remembered until a reader gets what they set off; of more, the oldest is forgotten."""

ENDS_TEXT_MAX = 64 * 1024
"""Characters of tokens' ends in one reply; readers fetch those that do not fit one by one (`token_end`)."""


class WorkList:
    """Items stand here until a commit clears them.

    Each change of the list has a number. A reader gets what has changed since a number, so that adding one to a
    list of thousands costs nothing.

    Args:
        heads: The index's, by session.
        tokens: The index's.
    """

    def __init__(self, heads: Mapping[str, Head], tokens: TokenIndex) -> None:
        self._heads = heads
        self._tokens = tokens
        self.deliveries: dict[str, WorkItem] = {}
        """By wait, or by what ends a child."""
        self._ended: dict[str, int] = {}
        """By item, the number of the change that added its delivery; as the next two in the order of the numbers."""
        self._ready: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._set_off: OrderedDict[str, str] = OrderedDict()
        """Trace of the call that caused the work, by session or token. In memory only."""
        self._forgotten = 0
        """Items that left the list up to this change are forgotten."""
        self._version = 0
        self._added = 0
        """The newest change that has added something."""

    def set_off(self, key: str | None, trace: str | None) -> None:
        """A call within that trace, if any, is about to start that session, or to end that token."""
        if key is None or trace is None:
            return
        self._set_off[key] = trace
        if len(self._set_off) > TRACES_MAX:
            self._set_off.popitem(last=False)

    def set_ready(self, head: Head, is_ready: bool) -> None:
        """Note if the session's run can proceed once an actor adopts it."""
        if not is_ready:
            self._set_off.pop(head.session_id, None)
            if self._ready.pop(head.session_id, None) is not None:
                self._leaves(head.session_id)
        elif head.session_id not in self._ready:
            self._ready[head.session_id] = self._comes(head.session_id)

    def deliver(self, head: Head, now: datetime) -> None:
        """List the end of the pending wait's token for delivery until a commit resolves the wait."""
        wait = head.wait
        assert wait is not None
        if wait.id in self.deliveries:
            return
        ended = self._tokens.first_ended(wait.awaits)
        self._add(
            WorkItem(
                kind="delivery",
                session_id=head.session_id,
                queued_at=now,
                run_id=head.run_id,
                wait_id=wait.id,
                token_id=ended.id if ended is not None else wait.token_id,
                trace=self._set_off.get(ended.id) if ended is not None else None,
                family=self._tokens.family_of(head.session_id),
            )
        )

    def delivered(self, wait_id: str) -> None:
        """The wait is resolved."""
        self._remove(wait_id)

    def resolving(self) -> dict[str, str]:
        """Return the status of each ended token whose wait's session has yet to decide on it, by wait."""
        found = ((wait_id, self.token_ended(wait_id)) for wait_id in self.deliveries)
        return {wait_id: status for wait_id, status in found if status is not None}

    def token_ended(self, wait_id: str) -> str | None:
        """Return the status of the wait's ended token, if the session has yet to decide on it."""
        item = self.deliveries.get(wait_id)
        if item is None or item.wait_id is None or is_child(item.token_id or ""):
            return None
        token = self._tokens.get(item.token_id or "")
        return token.status.value if token is not None and not token.is_pending else None

    def end(self, head: Head, now: datetime) -> None:
        """The child's parent has ended it: have it cancelled until a commit ends it."""
        child = head.session_id
        family = self._tokens.family_of(child)
        item = WorkItem(kind="end", session_id=child, queued_at=now, token_id=child, family=family)
        if item.key not in self.deliveries:
            self._add(item)

    def ended(self, head: Head) -> None:
        """The session is over."""
        self._remove(f"end {head.session_id}")

    def _add(self, item: WorkItem) -> None:
        self._ended[item.key] = self._comes(item.key)
        self.deliveries[item.key] = item

    def _remove(self, key: str) -> None:
        if self.deliveries.pop(key, None) is not None:
            del self._ended[key]
            self._leaves(key)

    def _comes(self, key: str) -> int:
        self._gone.pop(key, None)
        self._version += 1
        self._added = self._version
        return self._version

    def _leaves(self, key: str) -> None:
        self._version += 1
        self._gone[key] = self._version
        if len(self._gone) > GONE_MAX:
            self._forgotten = self._gone.pop(next(iter(self._gone)))

    # --- what readers get--------------------------------------------------------------------------

    def has_news(self, known: WorkPosition) -> bool:
        """Something was added behind that; what only left the list comes with the next."""
        return self._is_void(known) or self._added > known[0]

    def _is_void(self, known: WorkPosition) -> bool:
        """True for a position that is unset, too old, or from an earlier process of the ledger."""
        return not max(0, self._forgotten) <= known[1] <= self._version

    def since(
        self, known: WorkPosition, recent: Callable[[int], Entry | None] = lambda offset: None
    ) -> WorkChanges:
        """Return the changes after `known`, at most `WORK_ITEMS_MAX` of each kind; everything if `known` is void.

        Args:
            known: The position that the reader has.
            recent: The entry at a feed offset, if it is in memory: ends are read from it.
        """
        is_whole = self._is_void(known)
        added, gone = FROM_START if is_whole else known
        runs = _behind(self._ready, added)
        deliveries = _behind(self._ended, added)
        cut_at = [
            some[WORK_ITEMS_MAX - 1][1] for some in (runs, deliveries) if len(some) > WORK_ITEMS_MAX
        ]
        until = min(cut_at, default=self._version)
        return WorkChanges(
            position=(until, self._version),
            added=(
                *self._ends(
                    [self.deliveries[key] for key, at in deliveries if at <= until], recent
                ),
                *sorted(
                    (self._run_item(self._heads[key]) for key, at in runs if at <= until),
                    key=lambda item: item.queued_at,
                ),
            ),
            gone=() if is_whole else tuple(key for key, _ in _behind(self._gone, gone)),
            is_whole=is_whole,
            has_more=bool(cut_at),
        )

    def _ends(
        self, deliveries: Iterable[WorkItem], recent: Callable[[int], Entry | None]
    ) -> Iterator[WorkItem]:
        """Each with how its token ended, as far as there is room."""
        room = ENDS_TEXT_MAX
        for item in deliveries:
            token = self._tokens.get(item.token_id or "")
            ended = (
                recent(token.ended_offset) if token is not None and not token.is_pending else None
            )
            if token is None or ended is None or len(ended.body_json) > room:
                yield item
            else:
                room -= len(ended.body_json)
                yield replace(item, end=end_facts(token.status.value, ended))

    def _run_item(self, head: Head) -> WorkItem:
        queued_at = head.retry_at or head.queued_at or head.last_at
        assert queued_at is not None
        return WorkItem(
            kind="run",
            session_id=head.session_id,
            queued_at=queued_at,
            run_id=head.run_id,
            trace=self._set_off.get(head.session_id),
            family=self._tokens.family_of(head.session_id),
        )

    def counts(self) -> dict[str, int]:
        """Count the items of each kind, and the waiting sessions whose token has ended."""
        waiting = (
            self._heads[self.deliveries[wait_id].session_id].activity
            for wait_id in self.resolving()
        )
        return {
            "ready": len(self._ready),
            "deliveries": len(self.deliveries),
            "resolving": sum(one is Activity.WAITING for one in waiting),
        }


def _behind(numbered: dict[str, int], known: int) -> list[tuple[str, int]]:
    """Return the items numbered above `known`. The dict is in number order, so only the newest are read."""
    found = list(takewhile(lambda one: one[1] > known, reversed(numbered.items())))
    found.reverse()
    return found
