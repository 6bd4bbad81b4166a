"""Notices that something waits (S-84): targets, their positions, and operators' requests.

The gateway's process sends them. It may crash at any time; the next one goes on from the positions in the ledger. The
positions of all targets are one entry, written at most once a second and only when something was sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from helmr.errors import BadRequest, HelmrError, NoticeTargetNotFound, NotReady
from helmr.models import NoticeRetryReceipt, NoticeTargetInfo, NoticeTestReceipt, Page
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.core.notices import MoveNotices, Position
from helmr_runtime.notices.content import Sender
from helmr_runtime.notices.targets import Target
from helmr_runtime.service.health import DegradedState, Trouble
from helmr_runtime.service.notice_teller import Teller, TellerMeans

logger = logging.getLogger(__name__)

STORE_EVERY_S = 1.0
STORE_ENTRIES = 1_000
"""A position that has moved this far is stored even if nothing was sent."""

FAILING_FOR = timedelta(seconds=60)
"""A target that took nothing for this long is reported; a restart of it is over by then."""

LAST_STORE_S = 2.0
"""Longest that the end of the gateway waits for the last write of positions."""


class NoticeOperations:
    """The notice targets of a runtime.

    Args:
        means: The parts that all tellers share; the ledger keeps positions.
        targets: Each target and its sender; None where another process sends notices.
    """

    def __init__(self, means: TellerMeans, targets: Sequence[tuple[Target, Sender]] | None) -> None:
        self._means = means
        self._ledger = means.ledger
        self._clock = means.clock
        self._targets = (
            {target.name: (target, sender) for target, sender in targets}
            if targets is not None
            else None
        )
        self._tellers: dict[str, Teller] = {}
        self._stored: dict[str, Position] = {}
        self._settled: dict[str, int] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send; waits in the background while the ledger is away."""
        if self._targets:
            self._running = asyncio.create_task(self._run(), name="notices")
            self._running.add_done_callback(_say_how_it_ended)

    async def stop(self) -> None:
        """Stop sending, and store the position of each target."""
        if self._running is None:
            return
        self._running.cancel()
        await asyncio.wait({self._running})
        self._running = None
        with suppress(HelmrError, TimeoutError):
            async with asyncio.timeout(LAST_STORE_S):
                await self._store()

    async def list(self) -> Page[NoticeTargetInfo]:
        """Every target with its position.

        Raises:
            BadRequest: Another process sends notices.
        """
        targets = self._known()
        head = await self._ledger.feed_head() if targets else 0
        return Page(items=[self._info(one, head) for one, _ in targets.values()])

    async def test(self, name: str) -> NoticeTestReceipt:
        """Send a target a test notice, now.

        Raises:
            NoticeTargetNotFound: No target with that name.
            NotReady: It has not begun.
            BadRequest: Another process sends notices.
        """
        return await self._teller(name).test()

    async def retry(self, name: str) -> NoticeRetryReceipt:
        """Retry now the notices that a target has not taken.

        Raises:
            As `test`.
        """
        return NoticeRetryReceipt(target=name, count=self._teller(name).retry())

    def numbers(self) -> dict[str, dict[str, int]]:
        """Counters by target, `{waiting, failing, given_up}`; `waiting` counts notices that it has yet to take."""
        return {
            name: {
                "waiting": teller.outbox.queued + teller.outbox.late,
                "failing": int(teller.outbox.failing_since is not None),
                "given_up": teller.outbox.given_up,
            }
            for name, teller in self._tellers.items()
        }

    def troubles(self) -> Sequence[Trouble]:
        """A trouble for each target that takes nothing."""
        return [Trouble(DegradedState.NOTICES_FAILING, text) for text in self._failing()]

    def _failing(self) -> Iterator[str]:
        if self._running is not None and self._running.done() and not self._running.cancelled():
            yield "no notices are sent, for a fault: see the log of helmr-gateway"
            return
        now = self._clock.now()
        for name, teller in self._tellers.items():
            since, waiting = teller.outbox.failing_since, teller.outbox.queued + teller.outbox.late
            if since is None or now - since <= FAILING_FOR:
                continue
            yield (
                f"notice target {name} has taken nothing for {(now - since).total_seconds():.0f} s, "
                f"{waiting} {'notice waits' if waiting == 1 else 'notices wait'} for it "
                f"({teller.outbox.last_error}): mend it, then `helmr notices retry {name}`"
            )

    def _known(self) -> Mapping[str, tuple[Target, Sender]]:
        if self._targets is None:
            raise BadRequest(
                "only the gateway's process sends notices",
                hint="Ask over HTTP: a client with the runtime's URL.",
            )
        return self._targets

    def _teller(self, name: str) -> Teller:
        if name not in self._known():
            raise NoticeTargetNotFound(
                f"there is no notice target {name!r}",
                hint="`helmr notices list` shows them; helmr.toml declares them.",
                name=name,
            )
        if name not in self._tellers:
            raise NotReady("notices have not begun", retry_after_s=1)
        return self._tellers[name]

    def _info(self, target: Target, head: int) -> NoticeTargetInfo:
        info: dict[str, Any] = {
            "name": target.name,
            "type": target.type,
            "events": [event.value for event in target.heard],
            "filter": target.filter,
            "detail": target.detail,
        }
        teller = self._tellers.get(target.name)
        if teller is not None:
            outbox, offset = teller.outbox, teller.outbox.position().offset
            info |= {
                "offset": offset,
                "behind": max(0, head - offset),
                "queued": outbox.queued,
                "late": outbox.late,
                "given_up": outbox.given_up,
                "failing_since": outbox.failing_since,
                "last_error": outbox.last_error,
                "last_taken_at": outbox.last_taken_at,
            }
        return NoticeTargetInfo(**info)

    # --- inside ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._tellers:
            try:
                await self._begin()
            except HelmrError as error:
                logger.info("notices have not begun: %s", error)
                await asyncio.sleep(STORE_EVERY_S)
        async with asyncio.TaskGroup() as tellers:
            for teller in self._tellers.values():
                tellers.create_task(teller.run(), name=f"notices {teller.target.name}")
            while True:
                await asyncio.sleep(STORE_EVERY_S)
                if self._is_worth_storing():
                    with suppress(HelmrError):  # tried again in a second
                        await self._store()

    async def _begin(self) -> None:
        """Start a teller for each target from its stored position; a new target begins now."""
        targets, now = self._targets or {}, self._clock.now()
        stored, head = await self._ledger.notices(), await self._ledger.feed_head()
        positions = {
            name: Position.from_json(stored[name]) if name in stored else Position(head, now)
            for name in targets
        }
        if positions.keys() != stored.keys():
            await self._write(positions)
        self._stored = positions
        self._settled = dict.fromkeys(positions, 0)
        self._tellers = {
            name: Teller(target, sender, positions[name], self._means)
            for name, (target, sender) in targets.items()
        }

    def _positions(self) -> dict[str, Position]:
        return {
            name: teller.outbox.position() if teller.is_caught_up else self._stored[name]
            for name, teller in self._tellers.items()
        }

    def _is_worth_storing(self) -> bool:
        for name, position in self._positions().items():
            before = self._stored[name]
            moved = position.offset - before.offset
            has_told = self._tellers[name].settled != self._settled[name]
            has_told |= bool(self._tellers[name].outbox.passed)
            if position.late != before.late or moved >= STORE_ENTRIES or has_told:
                return True
        return False

    async def _store(self) -> None:
        if not self._tellers:
            return
        positions = self._positions()
        settled = {name: teller.settled for name, teller in self._tellers.items()}
        passed = {name: dict(one.outbox.passed) for name, one in self._tellers.items()}
        await self._write(positions)
        self._stored, self._settled = positions, settled
        for name, teller in self._tellers.items():
            teller.stored(passed[name])

    async def _write(self, positions: Mapping[str, Position]) -> None:
        told = {name: position.to_json() for name, position in positions.items()}
        await self._ledger.fact(MoveNotices(principal=RUNTIME, positions=told))


def _say_how_it_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("notices have ended, for a fault: %s", type(error).__name__)
