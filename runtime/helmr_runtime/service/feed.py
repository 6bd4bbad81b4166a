"""The feed's fan-out: one long poll to the ledger, any number of followers.

It owns the newest entries (for followers that come back) and one bounded queue per follower. Entries are handed on in
offset order. A follower reads older entries from the ledger first; then it takes the kept entries and joins the fan-out
with no await in between. So no entry is skipped and none comes twice (S-54).

`SessionSpans` makes the spans of sessions, runs and waits as the feed brings their ends (`helmr_runtime.tracing`). The
feed brings every entry once it is on disk, from hosts and from the ledger for parked sessions. The start of each span
is read from the row, so nothing is kept in memory meanwhile. `LongRuns` knows the runs that asked for many ops.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

from helmr.errors import HelmrError, NotReady, Overloaded, Standby
from helmr_runtime import tracing
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import from_iso
from helmr_runtime.core.run import WAY_OUT
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.tracing.derived import Derived

logger = logging.getLogger(__name__)

KEPT_MAX = 2_000
"""Newest entries kept for followers that come back."""

BEHIND_MAX = 1_000
"""A follower with more unread entries than this is closed; it comes back with its offset."""

FOLLOWERS_MAX = 2_000
"""Followers at once; each holds a connection and a queue."""

CATCHING_UP_AT_ONCE = 2
"""Followers that may read older entries at once. Each page blocks the loop for milliseconds, so fifty in a row would
delay every caller."""

PAGE_ENTRIES = 500
POLL_S = 20.0
"""Longest that the ledger holds one poll open."""

PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 1.0
"""Pauses between polls while the ledger is away."""

QUIET_S = 0.1
"""Pause between polls while no one follows, so that a busy ledger is not asked after each commit."""

BEGIN_WITHIN_S = 1.0
"""Longest that a follower waits for the first poll."""


class FeedSource(Protocol):
    """The part of the ledger that the fan-out reads."""

    async def feed_head(self) -> int:
        """The newest offset."""
        ...

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Mapping[str, Any]]:
        """The entries after an offset, in order; waits at most `timeout_s` for the first."""
        ...


class FeedItem:
    """An entry on its way to followers. Its text is encoded once for all of them.

    Attributes:
        entry: The entry, as in the ledger's feed.
        offset: Its place in the feed.
        session_id: Its session.
        kind: Its kind, such as `wait.opened`.
    """

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.entry = entry
        self.offset: int = entry["feed_offset"]
        self.session_id: str = entry["session_id"]
        self.kind: str = entry["kind"]

    @cached_property
    def text(self) -> str:
        """The entry as JSON."""
        return jsontext.encode(self.entry)


class Follower:
    """One reader of the feed. `take` is for one caller at a time."""

    def __init__(self, hub: FeedHub, session_id: str | None, started_at: int) -> None:
        self._hub = hub
        self.session_id = session_id
        self.started_at = started_at
        """The offset after which the follower sees everything."""
        self._kept: list[FeedItem] = []
        self._waiting: deque[FeedItem] = deque()
        self._news = asyncio.Event()
        self.is_closed = False

    async def take(self, timeout_s: float) -> list[FeedItem]:
        """Take the entries since the last call, oldest first; waits at most `timeout_s` for the first.

        Returns:
            An empty list when the time is over or the follower is closed (see `is_closed`).
        """
        if not (self._kept or self._waiting or self.is_closed):
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return []
        self._news.clear()
        taken = [*self._kept, *self._waiting]
        self._kept.clear()
        self._waiting.clear()
        return taken

    def wake(self) -> None:
        """Make `take` return: its caller has news from elsewhere."""
        self._news.set()

    def close(self) -> None:
        """Stop following; untaken entries are dropped."""
        self.is_closed = True
        self._kept.clear()
        self._waiting.clear()
        self._news.set()
        self._hub.leave(self)

    def offer(self, item: FeedItem) -> None:
        """Queue an entry; with too many unread ones, close the follower instead."""
        if len(self._waiting) >= BEHIND_MAX:
            self.close()
            return
        self._waiting.append(item)
        self._news.set()

    def preload(self, items: list[FeedItem]) -> None:
        """Queue entries that the hub keeps; they do not count as unread."""
        self._kept = items


class FeedHub:
    """Polls the ledger and hands each entry to its followers; see the module.

    Args:
        source: The ledger.
        on_entries: Called with the entries of one poll, in order, before any follower gets them.
        idle_s: Seconds to keep polling once no one follows; None polls from `start` to `stop`.
    """

    def __init__(
        self,
        source: FeedSource,
        *,
        on_entries: Callable[[Sequence[FeedItem]], None],
        idle_s: float | None = None,
    ) -> None:
        self._source = source
        self._on_entries = on_entries
        self._idle_s = idle_s
        self._begun = asyncio.Event()
        self._joined = asyncio.Event()
        self._kept: deque[FeedItem] = deque(maxlen=KEPT_MAX)
        self._all: dict[Follower, None] = {}
        """Followers of the whole feed. They get each entry in the order in which they joined; so do those below."""
        self._by_session: dict[str, dict[Follower, None]] = {}
        self._offset: int | None = None
        self._complete_after = 0
        """Every entry after this offset is kept or yet to come."""
        self.catching_up = asyncio.Semaphore(CATCHING_UP_AT_ONCE)
        """Held while a follower reads a page of older entries."""
        self._poll: asyncio.Task[None] | None = None
        self._followed_at_s = 0.0
        self.is_closed = False

    @property
    def followers(self) -> int:
        """The number of followers."""
        return len(self._all) + sum(map(len, self._by_session.values()))

    @property
    def offset(self) -> int:
        """The newest offset that was handed on.

        Raises:
            NotReady: The ledger has not answered yet.
        """
        if self._offset is None:
            raise NotReady("the feed has not begun", retry_after_s=1)
        return self._offset

    def start(self) -> None:
        """Begin to poll for new entries; waits in the background while the ledger is away."""
        self._poll = asyncio.create_task(self._run(), name="feed")

    async def ready(self) -> None:
        """Return when followers can join; a hub that polls only for them begins now.

        Raises:
            NotReady: The ledger does not answer.
        """
        if self.is_closed:
            return
        if self._idle_s is not None and (self._poll is None or self._poll.done()):
            self.start()
        try:
            async with asyncio.timeout(BEGIN_WITHIN_S):
                await self._begun.wait()
        except TimeoutError as error:
            raise NotReady("the feed has not begun", retry_after_s=1) from error

    async def stop(self) -> None:
        """Close every follower and stop polling."""
        self.is_closed = True
        for follower in [*self._all, *(f for some in self._by_session.values() for f in some)]:
            follower.close()
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait({self._poll})

    def join(self, session_id: str | None) -> Follower:
        """Return a follower of the entries from now on.

        Raises:
            Overloaded: There are too many followers.
            NotReady: The ledger has not answered yet.
        """
        if self.followers >= FOLLOWERS_MAX:
            raise Overloaded(f"{FOLLOWERS_MAX} clients follow the feed", retry_after_s=5)
        follower = Follower(self, session_id, self.offset)
        self._joined.set()
        if self.is_closed:
            follower.is_closed = True
        elif session_id is None:
            self._all[follower] = None
        else:
            self._by_session.setdefault(session_id, {})[follower] = None
        return follower

    def join_after(self, session_id: str | None, after: int) -> Follower | None:
        """Return a follower of all entries after `after`; None if the hub no longer keeps all of them."""
        if after < self._complete_after:
            return None
        follower = self.join(session_id)
        follower.started_at = after
        follower.preload(
            [
                item
                for item in self._kept
                if item.offset > after and session_id in (None, item.session_id)
            ]
        )
        return follower

    def leave(self, follower: Follower) -> None:
        """Hand nothing more to the follower."""
        self._all.pop(follower, None)
        if follower.session_id is not None:
            some = self._by_session.get(follower.session_id, {})
            some.pop(follower, None)
            if not some:
                self._by_session.pop(follower.session_id, None)

    async def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        self._followed_at_s = asyncio.get_running_loop().time()
        while not self._is_idle():
            try:
                if self._offset is None:
                    self._offset = self._complete_after = await self._source.feed_head()
                    self._begun.set()
                entries = await self._source.feed(self._offset, PAGE_ENTRIES, POLL_S)
            except HelmrError as error:
                if not isinstance(error, Standby):  # it may last for days
                    logger.warning("the feed is interrupted: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, pause_s * 2)
                continue
            pause_s = PAUSE_FIRST_S
            if entries:
                self._hand_on([FeedItem(entry) for entry in entries])
            if len(entries) < PAGE_ENTRIES:
                await self._pause()
        self._forget()

    async def _pause(self) -> None:
        """Pause for a moment while no one follows; a new follower ends it."""
        self._joined.clear()
        if not self.followers:
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._joined.wait()

    def _is_idle(self) -> bool:
        """True once no one has followed for `idle_s`."""
        now_s = asyncio.get_running_loop().time()
        if self._idle_s is None or self.followers:
            self._followed_at_s = now_s
            return False
        return now_s - self._followed_at_s >= self._idle_s

    def _forget(self) -> None:
        self._offset = None
        self._kept.clear()
        self._begun.clear()

    def _hand_on(self, items: Sequence[FeedItem]) -> None:
        for item in items:
            if len(self._kept) == KEPT_MAX:
                self._complete_after = self._kept[0].offset
            self._kept.append(item)
        self._offset = items[-1].offset
        self._on_entries(items)
        for item in items:
            for follower in [*self._all, *self._by_session.get(item.session_id, ())]:
                follower.offer(item)


WAITING_MAX = 1_000
"""Ends queued for their spans; further ones get no span."""

WAIT_ENDS = frozenset({"wait.fulfilled", "wait.timed_out", "wait.cancelled"})
RUN_ENDS = frozenset({"run.succeeded", "run.failed", "run.cancelled"})
SESSION_ENDS = frozenset({"session.closed", "session.cancelled"})


class SessionSpans:
    """Makes spans of ended sessions, runs and waits from their rows, one after the other.

    Args:
        ledger: Reads the rows.
    """

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger
        self._ends: asyncio.Queue[FeedItem] = asyncio.Queue(WAITING_MAX)
        self._task: asyncio.Task[None] | None = None
        self.lost = 0
        """Ends without a span, because the queue was full."""

    def seen(self, items: Sequence[FeedItem]) -> None:
        """Queue the ends among these entries."""
        for item in items:
            self._seen(item)

    def _seen(self, item: FeedItem) -> None:
        if item.kind not in WAIT_ENDS | RUN_ENDS | SESSION_ENDS:
            return
        if "copied_from" in item.entry["body"]:
            return
        try:
            self._ends.put_nowait(item)
        except asyncio.QueueFull:
            self.lost += 1
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="session spans")

    async def stop(self) -> None:
        """Stop making spans."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            item = await self._ends.get()
            try:
                await self._make(item)
            except HelmrError as error:
                logger.info("%s of %s has no span: %s", item.kind, item.session_id, error)

    async def _make(self, item: FeedItem) -> None:
        session_id, body, ended_at = item.session_id, item.entry["body"], item.entry["recorded_at"]
        run_id = str(item.entry["run_id"])
        attributes: dict[str, Any] = {"helmr.session.id": session_id}
        above: Derived | None
        if item.kind in WAIT_ENDS:
            row = await self._ledger.get_wait(body["wait_id"])
            span, above = Derived("wait", row["id"]), Derived("run", run_id)
            name, began_at = f"wait {row['stream'] or row['kind']}", row["opened_at"]
            attributes |= {"helmr.run.id": run_id, "helmr.wait.id": row["id"]}
        elif item.kind in RUN_ENDS:
            row = await self._ledger.get_run(run_id)
            span, above = Derived("run", run_id), Derived("session", session_id)
            name, began_at = f"run {row['task']}", row["created_at"]
            attributes |= {"helmr.run.id": run_id, "helmr.attempt": row["attempt"]}
        else:
            row = await self._ledger.get_session(session_id)
            span, above = Derived("session", session_id), None
            name, began_at = f"session {row['task']}", row["created_at"]
        attributes |= {"helmr.task": row["task"], "helmr.outcome": item.kind.partition(".")[2]}
        if tracing.spans is not None:
            tracing.spans.ended(
                session_id,
                span,
                above,
                name=name,
                began_at=from_iso(began_at),
                ended_at=from_iso(ended_at),
                attributes=attributes,
                error=item.kind if item.kind == "run.failed" else None,
            )


OPS_MANY = 10_000
"""Half of the ops that a run may ask for (S-8)."""

LONG_MAX = 10_000
"""Runs remembered; the oldest make room for more."""


class LongRuns:
    """Active runs that have asked for many ops, as seen on the feed."""

    def __init__(self) -> None:
        self._ops: OrderedDict[str, int] = OrderedDict()

    def seen(self, items: Sequence[FeedItem]) -> None:
        """Note the ops and ends among these entries, of any session."""
        for item in items:
            run_id, op = item.entry["run_id"], item.entry.get("op") or 0
            if item.kind in RUN_ENDS:
                self._ops.pop(run_id, None)
            elif op >= OPS_MANY and "copied_from" not in item.entry["body"]:
                self._ops[run_id] = op
                self._ops.move_to_end(run_id)
                if len(self._ops) > LONG_MAX:
                    self._ops.popitem(last=False)

    def warnings(self, run_id: str | None) -> list[str]:
        """The warning about a run with many ops, with the way out; an empty list for other runs."""
        op = self._ops.get(run_id or "")
        return [f"{op:,} ops, of at most 20,000: {WAY_OUT}"] if op is not None else []
