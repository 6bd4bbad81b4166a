"""One session as its screen has read it: summary, runs, waits, pages of the transcript, and live output.

Entries are dense in seq from 1, so entry n is on page (n - 1) // PAGE. Output that the session's code emits while it
works grows as text, by step, while the screen is open; it is redrawn a few times a second and not stored.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from helmr.client.aio import AsyncClient
from helmr.errors import HelmrError
from helmr.models import (
    LIST_LIMIT_MAX,
    ChunkInfo,
    ChunksEnd,
    EntryInfo,
    RunInfo,
    SessionInfo,
    SessionStatus,
    StreamInfo,
    WaitInfo,
    WaitStatus,
)
from helmr.wire.safe_text import one_line, plain
from helmr_console.attempts import OUTCOMES
from helmr_console.link import first

RUNS_MAX = 1_000


@dataclass(slots=True)
class SessionDetail:
    """A session's summary, and its runs and waits by id, newest first."""

    session_id: str
    summary: SessionInfo | None = None
    runs: dict[str, RunInfo] = field(default_factory=dict)
    waits: dict[str, WaitInfo] = field(default_factory=dict)

    async def read_lists(self, client: AsyncClient) -> None:
        """Read the current runs and waits."""
        listed = client.sessions.open(self.session_id).runs(limit=LIST_LIMIT_MAX)
        runs = await first(listed, RUNS_MAX)
        waits: list[WaitInfo] = []
        for status in WaitStatus:
            page = await client.waits.page(
                session_id=self.session_id, status=status.value, limit=LIST_LIMIT_MAX
            )
            waits += page.items
        waits.sort(key=lambda wait: wait.opened_at, reverse=True)
        self.runs = {run.id: run for run in runs}
        self.waits = {wait.id: wait for wait in waits}

    @property
    def newest_run(self) -> RunInfo | None:
        """The newest run, the one that a retry continues; None without runs."""
        return next(iter(self.runs.values()), None)

    @property
    def active_wait(self) -> WaitInfo | None:
        """The wait that the session's summary names; None without one."""
        return self.summary.wait if self.summary is not None else None

    def words(self) -> str:
        """`publish   waiting   2 runs`; empty before the first read."""
        if self.summary is None:
            return ""
        is_open = self.summary.status is SessionStatus.OPEN
        state = self.summary.doing if is_open else self.summary.status.value
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"{one_line(self.summary.task, 40)}   {state}   {runs}"


PAGE = 128
PAGES_HELD = 256


class EntryPages:
    """Pages by number; the least recently looked at are dropped above `PAGES_HELD`."""

    def __init__(self) -> None:
        self.held: OrderedDict[int, list[EntryInfo]] = OrderedDict()
        self._asked: set[int] = set()

    def put(self, page: int, entries: Sequence[EntryInfo]) -> None:
        """Store a page that has come."""
        self.held[page] = list(entries)
        self.held.move_to_end(page)
        while len(self.held) > PAGES_HELD:
            dropped, _ = self.held.popitem(last=False)
            self._asked.discard(dropped)

    def append(self, entry: EntryInfo) -> None:
        """Append an entry of the feed if its page is here, or begins with it."""
        page, place = divmod(entry.seq - 1, PAGE)
        held = self.held.get(page)
        if place == 0 and held is None:
            held = self.held[page] = []
            self._asked.add(page)
        if held is not None and len(held) == place:
            held.append(entry)

    def peek(self, seq: int) -> EntryInfo | None:
        """Return the entry if it is here."""
        page, place = divmod(seq - 1, PAGE)
        held = self.held.get(page)
        return held[place] if seq > 0 and held is not None and place < len(held) else None

    def look(self, seq: int) -> EntryInfo | None:
        """Return the entry if it is here, and mark its page as used."""
        found = self.peek(seq)
        if found is not None:
            self.held.move_to_end((seq - 1) // PAGE)
        return found

    def ask(self, seq: int) -> int | None:
        """Return the page to request for this entry; None if it was requested already."""
        page = (seq - 1) // PAGE
        if page in self._asked:
            return None
        self._asked.add(page)
        return page

    def may_be_asked_again(self, page: int) -> None:
        """Allow another request of a page that could not be read, or was not full yet."""
        self._asked.discard(page)

    def in_order(self) -> Iterator[EntryInfo]:
        """Yield all entries that are here."""
        for page in sorted(self.held):
            yield from self.held[page]

    def missing(self, count: int, newest: int) -> list[int]:
        """Return the pages that are not here, last first, among the last `newest` pages of `count` entries."""
        last = max(0, count - 1) // PAGE
        return [page for page in range(last, max(-1, last - newest), -1) if page not in self.held]


KEPT_CHARS = 8_000
"""Characters kept of a live text: its end, which people read."""
TEXTS_MAX = 64

Place = tuple[str, int | None]
"""Stream and op."""


@dataclass(slots=True)
class LiveText:
    """Texts that are streaming now; one that ends is dropped, because the transcript has its result."""

    _texts: OrderedDict[Place, str] = field(default_factory=OrderedDict)

    def take(self, item: ChunkInfo | ChunksEnd) -> None:
        """Add a chunk, or end a step's text."""
        place = item.stream, item.op
        if isinstance(item, ChunksEnd):
            self._texts.pop(place, None)
            return
        missing = f"⟨{item.lost} not seen⟩" if item.lost else ""
        text = self._texts.pop(place, "") + missing + spoken(item.data)
        self._texts[place] = text[-KEPT_CHARS:]
        while len(self._texts) > TEXTS_MAX:
            self._texts.popitem(last=False)

    def ended(self, op: int | None) -> None:
        """Drop the texts of an op whose step is over."""
        for place in [one for one in self._texts if one[1] == op]:
            del self._texts[place]

    def clear(self) -> None:
        """Drop all texts."""
        self._texts.clear()

    def by_op(self) -> dict[int | None, list[str]]:
        """`stream: text` by op, safe; several streams in the order of their last chunk."""
        found: dict[int | None, list[str]] = {}
        for (stream, op), text in self._texts.items():
            found.setdefault(op, []).append(plain(f"{stream}: {text}", None))
        return found


def spoken(data: Any) -> str:
    """A chunk as text: a string as it is, an object's only string, else JSON."""
    if isinstance(data, str):
        return data
    if isinstance(data, Mapping):
        texts = [one for one in data.values() if isinstance(one, str)]
        if len(texts) == 1:
            return texts[0]
    return f"{json.dumps(data, ensure_ascii=False)}\n"


STREAMS_MAX = 8
"""Most streams followed; each takes a connection."""
SAY_EVERY_S = 0.1
NO_RECORDS = 2**53
"""A position that no stream reaches, so that the server sends no records; the feed brings those."""


def streams_to_follow(session: SessionInfo | None, streams: Sequence[StreamInfo]) -> list[str]:
    """Names of the output streams of an open session, at most `STREAMS_MAX`."""
    if session is None or session.status is not SessionStatus.OPEN:
        return []
    outputs = [one for one in streams if one.direction == "output" and session.task in one.tasks]
    return sorted(one.name for one in outputs)[:STREAMS_MAX]


class ChunkFeed:
    """Follows a session's live output as text.

    Args:
        client: Talks to the gateway.
        session_id: The session.
        changed: Called after changes, at most every `SAY_EVERY_S`.
    """

    def __init__(
        self,
        client: AsyncClient,
        session_id: str,
        *,
        changed: Callable[[], None],
    ) -> None:
        self.live = LiveText()
        self._client = client
        self._session_id = session_id
        self._changed = changed
        self._news = asyncio.Event()

    def heard(self, entry: EntryInfo) -> bool:
        """Drop the texts that this entry of the feed ends; True if it ends a step."""
        if entry.kind in OUTCOMES:
            self.live.ended(entry.op)
        return entry.kind in OUTCOMES

    async def run(self, streams: Sequence[str]) -> None:
        """Follow the streams until the session is over or this is cancelled; skip those that can't be followed."""
        following = [asyncio.ensure_future(self._follow(name)) for name in streams]
        saying = asyncio.ensure_future(self._say())
        try:
            await asyncio.gather(*following)
        finally:
            saying.cancel()
            for one in following:
                one.cancel()
            with suppress(asyncio.CancelledError):
                await saying
            self.live.clear()

    async def _follow(self, stream: str) -> None:
        output = self._client.sessions.open(self._session_id).output(stream)
        with suppress(HelmrError):  # a stream that is gone, or one that the role may not read
            async for item in output.follow_chunks(after=NO_RECORDS):
                if isinstance(item, ChunkInfo | ChunksEnd):
                    self.live.take(item)
                    self._news.set()

    async def _say(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self._changed()
            await asyncio.sleep(SAY_EVERY_S)
