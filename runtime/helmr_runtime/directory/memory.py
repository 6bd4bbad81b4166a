"""Hosts that have allocated more than they may: another takes the place of each, one after the other on a node.

What leaks can't be had back but with the process. A host over its bound makes way in peace: a new one starts first,
then it takes nothing new, what waits in it is parked, what executes gets the time of its steps. One that goes on
growing meanwhile is killed at once, before the machine has no memory for anybody. What executed then is suspect, as in
any crash.
"""

from __future__ import annotations

from collections.abc import Iterable

from helmr.sizes import spell_bytes
from helmr_runtime.directory.hosts import PoolHost
from helmr_runtime.directory.placement import Placement
from helmr_runtime.directory.pool import Pool
from helmr_runtime.directory.timing import Tasks

END_AT = 1.5
"""So many times its bound, and a host is killed whatever it is at."""


def is_over(host: PoolHost) -> bool:
    """It has more than it may."""
    return _times(host) > 1.0


def must_end(host: PoolHost) -> bool:
    """It has so much more that it is not waited for."""
    return _times(host) > END_AT


def may_make_way(host: PoolHost, hosts: Iterable[PoolHost]) -> bool:
    """It is not on its way out, and no host of its node is making way for its memory."""
    return not host.is_draining and not any(
        one.makes_way and one.node == host.node for one in hosts if one.is_alive
    )


def _times(host: PoolHost) -> float:
    if host.memory_bytes is None or not host.memory_max_bytes:
        return 0.0
    return host.memory_bytes / host.memory_max_bytes


class MemoryBound:
    """Looks at each host whenever it has said how much it has.

    Args:
        tasks: Where its work goes on in the background.
    """

    def __init__(self, pool: Pool, placing: Placement, tasks: Tasks) -> None:
        self._pool = pool
        self._placing = placing
        self._tasks = tasks

    def watch(self) -> None:
        """From now on."""
        self._pool.on_memory = self._look

    def _look(self, host: PoolHost) -> None:
        """Do what its memory asks for."""
        if not host.is_alive or host.last_words is not None:
            return
        if must_end(host):
            host.makes_way = True
            self._tasks.start(self._pool.end(host, _cause(host), is_attributed=True))
        elif is_over(host) and may_make_way(host, self._pool.hosts.values()):
            host.makes_way = True
            self._tasks.start(self._replace(host))

    async def _replace(self, host: PoolHost) -> None:
        """Start another host, and drain this one when that is there."""
        self._pool.warnings.show(f"memory:{host.name}", f"{host.name} makes way: {_cause(host)}")
        if host.is_exclusive or await self._pool.start_another():
            self._placing.drain(host)
        else:
            host.makes_way = False  # it is tried again when it next says what it has


def _cause(host: PoolHost) -> str:
    taken, bound = host.memory_bytes or 0, host.memory_max_bytes or 0
    return f"it has {spell_bytes(taken)} of memory and may have {spell_bytes(bound)}"
