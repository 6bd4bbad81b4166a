"""Whether the runtime can work, and its numbers (S-65)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from helmr.errors import HelmrError
from helmr.models import Activity, Health, RunStatus
from helmr_runtime.ports import Directory
from helmr_runtime.service.degraded import (
    BLOCKED_LOOKED_AT,
    ClockWatch,
    State,
    Trouble,
    of_pool,
    troubles,
)
from helmr_runtime.service.feed import FeedHub
from helmr_runtime.service.followers import Followers
from helmr_runtime.service.introduction import Introduction
from helmr_runtime.service.notices import Notices
from helmr_runtime.service.shared import Shared

ANSWER_TIMEOUT_S = 2.0
"""A part that is silent for longer counts as away."""

SESSION_COUNTS = ("open", "held", "parked", "failed", *(activity.value for activity in Activity))


class HealthView:
    """Asks ledger and directory; see the module."""

    def __init__(
        self,
        shared: Shared,
        directory: Directory,
        hub: FeedHub,
        *,
        host: Introduction,
        is_published: Callable[[], bool],
        followers: Followers,
        notices: Notices,
    ) -> None:
        self._ledger = shared.ledger
        self._catalog = shared.catalog
        self._clock = shared.clock
        self._directory = directory
        self._hub = hub
        self._host = host
        self._is_published = is_published
        self._followers = followers
        self._notices = notices
        self._was_published = False
        self._watched: list[Callable[[], Sequence[Trouble]]] = []
        self.clock_watch = ClockWatch(shared.clock)

    def watch(self, troubles: Callable[[], Sequence[Trouble]]) -> None:
        """Have a part of this process asked what is wrong with it."""
        self._watched.append(troubles)

    async def ready(self) -> Health:
        """Ready when the file is open, the catalog written, a host lives, and the runtime can be found."""
        (ledger, ledger_trouble), (pool, pool_trouble), (_, catalog_trouble) = await asyncio.gather(
            _asked("ledger", self._ledger.stats()),
            _asked("directory", self._directory.status()),
            _asked("catalog", self._catalog.get()),
        )
        reasons = [*ledger_trouble, *pool_trouble, *catalog_trouble, *_lacks(ledger, pool)]
        self._was_published = self._was_published or self._is_published()
        if not self._was_published:
            reasons.append("starting: local programs can't find it yet")
        if self._hub.is_closed:
            reasons.append("the gateway is stopping")
        found = await self._troubles(ledger, pool)
        states = {*of_pool(pool), *(trouble.state for trouble in found)}
        states |= {State.NOT_READY} if reasons else set()
        states |= {State.LEDGER_FAILING} if ledger.get("failure") or ledger_trouble else set()
        return Health(
            ready=not reasons,
            reasons=reasons,
            warnings=[*pool.get("warnings", ()), *(trouble.text for trouble in found)],
            degraded=sorted(states),
            version=self._host.version,
            pid=self._host.pid,
            data_dir=self._host.data_dir,
            started_at=self._host.started_at,
            now=self._clock.now(),
            feed_offset=ledger.get("feed_offset"),
            counts=_counts(ledger.get("counts", {})),
            pool=dict(pool),
            ledger={**ledger, "followers": self._followers.to_json()} if ledger else {},
        )

    async def numbers(self) -> Mapping[str, Any]:
        """What only `/metrics` shows: those of the ledger, unless it does not answer, and `notices` by target."""
        numbers, _ = await _asked("ledger", self._ledger.numbers())
        return {**numbers, "notices": self._notices.numbers()}

    async def _troubles(self, ledger: Mapping[str, Any], pool: Mapping[str, Any]) -> list[Trouble]:
        blocked: Mapping[str, Any] = {}
        if ledger.get("counts", {}).get(Activity.BLOCKED.value):
            status = RunStatus.BLOCKED.value
            reading = self._ledger.list_runs(status=status, limit=BLOCKED_LOOKED_AT)
            blocked, _ = await _asked("ledger", reading)
        stepped = self.clock_watch.look()
        found = troubles(ledger, pool, self._clock.now(), blocked=blocked.get("items", ()))
        for ask in (self._followers.troubles, self._notices.troubles, *self._watched):
            found += ask()
        return [*found, stepped] if stepped is not None else found


async def _asked(name: str, asking: Awaitable[Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The answer, or why there is none."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await asking
    except HelmrError as error:
        return {}, [f"{name}: {error.message}"]
    except TimeoutError:
        return {}, [f"{name}: no answer in {ANSWER_TIMEOUT_S:g} s"]
    return (answer if isinstance(answer, Mapping) else {}), []


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    """What there is, by the names of `Health`. Every waiting session has one pending wait (S-10)."""
    named = {f"sessions_{name}": counts[name] for name in SESSION_COUNTS if name in counts}
    if "waiting" in counts:
        named["waits_pending"] = counts["waiting"]
    return named


def _lacks(ledger: Mapping[str, Any], pool: Mapping[str, Any]) -> list[str]:
    lacks = []
    if ledger.get("failure"):
        lacks.append(f"ledger: {ledger['failure']}")
    if pool and not pool.get("ready", True):
        lacks.append("directory: starting or stopping")
    hosts = pool.get("hosts")
    if isinstance(hosts, Mapping) and hosts.get("total", 0) - hosts.get("starting", 0) < 1:
        lacks.append("no host lives")
    return lacks
