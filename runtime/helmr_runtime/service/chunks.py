"""The hub brings chunks to followers by one pending call to each host that holds a followed session (S-90).

The directory is not polled: the hub locates a followed session when its follower joins, when its host loses it, and
when the feed brings an entry of it while its holder is unknown. A session that no host holds emits nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from helmr.errors import HelmrError
from helmr_runtime.core.chunks import (
    BEGINNING,
    DIED,
    Chunk,
    ChunkNews,
    ChunkPlace,
    ChunkQueue,
    Emitted,
    LossCount,
    OpenOps,
    SessionChunks,
)
from helmr_runtime.ports import Host
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound

logger = logging.getLogger(__name__)

POLL_S = 20.0
"""Longest that a host holds a call open."""

JOIN_WITHIN_S = 1.0
"""Longest that a follower waits until the session's host knows it; it gets chunks emitted from then on."""

DRAIN_WITHIN_S = 1.0
"""Longest that the end of a followed session waits for its last chunks."""

LOOK_PAUSES_S = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
"""The feed may bring an entry before the directory has the answer of the host that wrote it."""

LOOK_AGAIN_S = 0.05
"""After a host has lost a session, or has died."""

EARLIER_MAX = 1_000
"""Items of earlier adoptions kept for a follower that takes nothing; the queue of the newest has its own bounds."""

PAUSE_S = 0.2
"""Pause before a host that could not be reached is asked again."""


class ChunkFollower:
    """One reader of the chunks of a stream. A slow reader loses the oldest chunks, and gets their count.

    Args:
        on_news: Called when there is something to take.
    """

    def __init__(
        self, hub: ChunkHub, session_id: str, stream: str, on_news: Callable[[], None]
    ) -> None:
        self._hub = hub
        self.session_id = session_id
        self.stream = stream
        self._on_news = on_news
        self._queue = ChunkQueue()
        self._open = OpenOps()
        self._epoch: int | None = None
        self._losses = LossCount(has_followed=False)
        self._earlier: list[tuple[Emitted, int]] = []
        """Untaken items of adoptions before that of the queue."""
        self.since_epoch: int | None = None
        """It sees later adoptions than this from their start; None until the session's host knows it."""

    @property
    def has_open(self) -> bool:
        """True while the end of some of its chunks is still to come."""
        return bool(self._open) or len(self._queue) > 0

    def offer(self, epoch: int, item: Emitted) -> None:
        """Queue an item that was emitted in that adoption."""
        if epoch != self._epoch:
            self._earlier = _newest([*self._earlier, *self._counted()])
            self._epoch = epoch
            has_followed = self.since_epoch is not None and epoch > self.since_epoch
            self._losses = LossCount(has_followed=has_followed)
        self._open.note(item)
        self._queue.put(item)
        self._on_news()

    def take(self) -> list[tuple[Emitted, int]]:
        """Take the items since the last call, each with the number of chunks missing before it."""
        taken, self._earlier = [*self._earlier, *self._counted()], []
        return taken

    def _counted(self) -> list[tuple[Emitted, int]]:
        items, _ = self._queue.after(0)
        self._queue.clear()
        return [(item, self._losses.lost_before(item)) for item in items]

    async def drain(self) -> None:
        """Fetch everything emitted by now, without waiting for more: the session is over."""
        await self._hub.drain(self.session_id)

    def close(self) -> None:
        """Take no more."""
        self._hub.leave(self)


def _newest(counted: list[tuple[Emitted, int]]) -> list[tuple[Emitted, int]]:
    """The newest `EARLIER_MAX` items; dropped chunks count as missing before the first that is kept."""
    dropped, kept = counted[:-EARLIER_MAX], counted[-EARLIER_MAX:]
    lost = sum(missing + isinstance(item, Chunk) for item, missing in dropped)
    item, missing = kept[0] if kept else (None, 0)
    return kept if item is None else [(item, missing + lost), *kept[1:]]


class _Followed:
    """A session with followers."""

    def __init__(self) -> None:
        self.followers: set[ChunkFollower] = set()
        self.host: str | None = None
        self.place: ChunkPlace | None = None
        """Chunks are known up to this place; None until its host has given the first one."""
        self.open = OpenOps()
        self.ready = asyncio.Event()
        """Set once its holder, if it has one, knows of the followers."""
        self.looking: asyncio.Task[None] | None = None
        self.look_again = False
        self.draining: asyncio.Event | None = None
        """Set when its host has sent what there was."""


class ChunkHub:
    """Reads chunks from hosts and hands each to its followers; see the module.

    Args:
        locate: Asks for the host that holds a session.
        host_named: The host with that name.
    """

    def __init__(
        self,
        locate: Callable[[str], Awaitable[str | None]],
        host_named: Callable[[str], Host],
    ) -> None:
        self._locate = locate
        self._host_named = host_named
        self.followed: dict[str, _Followed] = {}
        """Followed sessions by id; hosts send nothing of others."""
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._changed: dict[str, asyncio.Event] = {}

    async def join(
        self, session_id: str, stream: str, on_news: Callable[[], None]
    ) -> ChunkFollower:
        """Return a follower of the chunks that a session emits to a stream from now on."""
        follower = ChunkFollower(self, session_id, stream, on_news)
        followed = self.followed.get(session_id)
        if followed is None:
            followed = self.followed[session_id] = _Followed()
            self._look(session_id, followed)
        followed.followers.add(follower)
        try:
            async with asyncio.timeout(JOIN_WITHIN_S):
                await followed.ready.wait()
        except TimeoutError:
            logger.info("who follows %s is not known to its host yet", session_id)
        except BaseException:
            self.leave(follower)
            raise
        if followed.place is not None:
            follower.since_epoch = followed.place.epoch
        return follower

    async def drain(self, session_id: str) -> None:
        """Return once the followers have every chunk that the session's host still keeps."""
        followed = self.followed.get(session_id)
        if followed is None or followed.host not in self._changed:
            return
        followed.draining = followed.draining or asyncio.Event()
        self._changed[followed.host].set()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WITHIN_S):
                await followed.draining.wait()

    def leave(self, follower: ChunkFollower) -> None:
        """Hand nothing more to the follower."""
        followed = self.followed.get(follower.session_id)
        if followed is None:
            return
        followed.followers.discard(follower)
        if not followed.followers:
            del self.followed[follower.session_id]
            if followed.looking is not None:
                followed.looking.cancel()
            if followed.host in self._changed:
                self._changed[followed.host].set()

    def entry(self, session_id: str) -> None:
        """The feed has brought an entry of that session: someone holds it."""
        followed = self.followed.get(session_id)
        if followed is not None and followed.host is None:
            self._look(session_id, followed)

    async def stop(self) -> None:
        """End every call."""
        tasks = [*self._polls.values(), *(f.looking for f in self.followed.values() if f.looking)]
        self.followed.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- where a session lives --------------------------------------------------------------------

    def _look(self, session_id: str, followed: _Followed, after_s: float = 0.0) -> None:
        if followed.looking is not None:
            followed.look_again = True
            return
        followed.looking = asyncio.create_task(
            self._find(session_id, followed, after_s), name=f"chunks of {session_id}"
        )

    async def _find(self, session_id: str, followed: _Followed, after_s: float) -> None:
        """Locate its host, with pauses; give up once the pauses are over and no host holds it."""
        try:
            await asyncio.sleep(after_s)
            while True:
                followed.look_again = False
                for pause_s in LOOK_PAUSES_S:
                    await asyncio.sleep(pause_s)
                    try:
                        host = await self._locate(session_id)
                    except HelmrError as error:
                        logger.info("where %s lives is not known: %s", session_id, error)
                        continue
                    if host is not None:
                        self._read(host, followed)
                        return
                    # No host holds it: followers get everything that it emits once one does.
                    followed.place = followed.place or BEGINNING
                    followed.ready.set()
                if not followed.look_again:
                    return
        finally:
            followed.looking = None

    def _read(self, host: str, followed: _Followed) -> None:
        followed.host = host
        self._changed.setdefault(host, asyncio.Event()).set()
        if host not in self._polls:
            self._polls[host] = asyncio.create_task(self._poll(host), name=f"chunks from {host}")

    # --- reading ----------------------------------------------------------------------------------

    async def _poll(self, host: str) -> None:
        """Keep one call pending at a host while it holds a followed session."""
        changed = self._changed[host]
        try:
            while known := {s: f.place for s, f in self.followed.items() if f.host == host}:
                changed.clear()
                drained = [self.followed[s] for s in known if self.followed[s].draining]
                timeout_s = 0.0 if drained else POLL_S
                call = asyncio.create_task(self._ask(host, known, timeout_s))
                awaited = asyncio.create_task(changed.wait())
                try:
                    await asyncio.wait({call, awaited}, return_when=asyncio.FIRST_COMPLETED)
                    if call.done():
                        self._take(host, call.result())
                        for followed in drained:
                            if followed.draining is not None:
                                followed.draining.set()
                                followed.draining = None
                finally:
                    for task in (call, awaited):
                        task.cancel()
                    await asyncio.wait({call, awaited})
        finally:
            del self._polls[host]
            del self._changed[host]

    async def _ask(
        self, host: str, known: dict[str, ChunkPlace | None], timeout_s: float
    ) -> ChunkNews:
        try:
            return await self._host_named(host).chunks(known, timeout_s)
        except (ActorDied, ActorNotFound):
            return ChunkNews(gone=tuple(known))
        except HelmrError as error:
            logger.info("%s sends no chunks: %s", host, error)
            await asyncio.sleep(PAUSE_S)
            return ChunkNews()

    def _take(self, host: str, news: ChunkNews) -> None:
        for chunks in news.sessions:
            followed = self.followed.get(chunks.session_id)
            if followed is not None and followed.host == host:
                self._hand_on(followed, chunks)
        for session_id in news.gone:
            followed = self.followed.get(session_id)
            if followed is not None and followed.host == host:
                self._lost(session_id, followed)

    def _hand_on(self, followed: _Followed, chunks: SessionChunks) -> None:
        epoch = chunks.place.epoch
        if followed.place is not None and followed.place.epoch != epoch:
            self._end(followed)
        followed.place = chunks.place
        followed.ready.set()
        for item in chunks.items:
            followed.open.note(item)
            self._offer(followed, item)

    def _lost(self, session_id: str, followed: _Followed) -> None:
        """Handle that its host lost the session: chunks that were still open there end as died."""
        self._end(followed)
        followed.host = None
        followed.place = followed.place or BEGINNING
        self._look(session_id, followed, LOOK_AGAIN_S)  # the directory may not know it yet

    def _end(self, followed: _Followed) -> None:
        for end in followed.open.end_all(DIED):
            self._offer(followed, end)

    @staticmethod
    def _offer(followed: _Followed, item: Emitted) -> None:
        epoch = followed.place.epoch if followed.place is not None else 0
        for follower in tuple(followed.followers):
            if follower.stream == item.stream:
                follower.offer(epoch, item)


def to_json(item: Emitted, lost: int) -> str:
    """The item as the JSON text that clients get."""
    op = "null" if item.op is None else str(item.op)
    missing = f',"lost":{lost}' if lost else ""
    body = f'"data":{item.data}' if isinstance(item, Chunk) else f'"outcome":"{item.outcome}"'
    return f'{{"stream":"{item.stream}","op":{op},{body}{missing}}}'


def event_of(item: Emitted) -> str:
    """The item's event name on the wire."""
    return "chunk" if isinstance(item, Chunk) else "chunks.end"
