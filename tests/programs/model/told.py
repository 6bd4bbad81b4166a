"""A notice target beside a harness: what it is told, by tellers that die now and then (S-84)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

from helmr.testing import Harness
from helmr_runtime.core.notices import Position
from helmr_runtime.notices.content import Notice
from helmr_runtime.notices.targets import read_targets
from helmr_runtime.service.access import AnswerLinks
from helmr_runtime.service.catalog_view import CatalogView
from helmr_runtime.service.chunks import ChunkHub
from helmr_runtime.service.feed import FeedHub
from helmr_runtime.service.following import Events
from helmr_runtime.service.notice_teller import Teller, TellerMeans
from tests.programs.model.naive import NOTICES

SETTLE_S = 20.0


class Told:
    """What one target has taken. Its teller lives on the harness's loop."""

    def __init__(self, harness: Harness) -> None:
        self._ledger, self._clock = harness.ledger, harness.clock
        [self._target] = read_targets(
            {"all": {"type": "command", "command": ["true"], "events": sorted(NOTICES.values())}},
            "helmr.toml",
        )
        self._hub = FeedHub(self._ledger, on_entries=lambda _: None)
        self._stored = Position(0, self._clock.now())
        self._teller: Teller | None = None
        self._telling: asyncio.Task[None] | None = None
        self.taken: dict[str, Notice] = {}
        """By id, in the order in which they came first."""

    async def send(self, notice: Notice) -> None:
        """The target takes everything at once: what waits while the clock is moved on counts as passed by."""
        self.taken.setdefault(notice.id, notice)

    async def begin(self) -> None:
        """Begin behind what was stored of its position."""
        if self._teller is None:
            self._hub.start()
        self._teller = Teller(
            self._target,
            self,
            self._stored,
            TellerMeans(
                ledger=self._ledger,
                events=Events(
                    self._ledger, CatalogView(self._ledger), self._hub, cast(ChunkHub, None)
                ),
                links=cast(AnswerLinks, None),
                clock=self._clock,
                source="model",
            ),
        )
        self._telling = asyncio.create_task(self._teller.run())

    async def die(self) -> None:
        """The teller's process ends, every other time with its position stored, and the next begins."""
        if len(self.taken) % 2:
            self.store()
        await self._end()
        await self.begin()

    def store(self) -> None:
        """Store its position."""
        assert self._teller is not None
        self._stored = self._teller.outbox.position()

    async def settle(self) -> None:
        """Return when all that is stored is told."""
        assert self._teller is not None
        assert self._telling is not None
        head, outbox = await self._ledger.feed_head(), self._teller.outbox
        async with asyncio.timeout(SETTLE_S):
            while outbox.read_offset < head or outbox.queued:
                assert not self._telling.done()
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End everything."""
        await self._end()
        await self._hub.stop()

    async def _end(self) -> None:
        assert self._telling is not None
        self._telling.cancel()
        with suppress(asyncio.CancelledError):
            await self._telling
