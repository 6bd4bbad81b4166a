"""New connections, accepted within the files that this process may still open.

Sessions, the ledger and the log open files too, and a live session has three. So connections get at most half of what
the others leave: as many files stay free as connections have. Where that is reached, the oldest connection that does
no work makes room, and if all of them work, the next ones wait in the kernel's queue. asyncio's own loop of accepts
would try again for each place in that queue when no file is left, and log each try.

Invariants: the process can open files while clients connect; at most one line a minute says that it is short of them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable

from helmr_runtime.http.connections import Connections
from helmr_runtime.service.health import DegradedState, Trouble

logger = logging.getLogger(__name__)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S = 1.0
"""How long connections wait in the kernel's queue before the next look at what is free."""

AT_ONCE_MAX = 128
"""Connections accepted in one turn of the loop: the clients that are connected come next."""

FILES_SPARE = 16
"""Files that no connection takes: for the log, the database's temporary files and notices."""

COUNTED_FOR_S = 1.0
SHORT_COUNTED_FOR_S = 0.05
"""How long a count of open files is gone by, and how long one that leaves no room. Connections that come and go
meanwhile are reckoned."""

SHORT_FOR_S = 60.0
"""How long a shortage is reported after it was last seen, and the least time between two lines about it."""


def open_files() -> int:
    """How many files this process has open. The kernel lists them without a disk, a thousand in 1 to 2 ms."""
    return len(os.listdir("/dev/fd")) - 1  # the listing's own


class OpenFiles:
    """How many more files this process may open.

    Args:
        files_max: That it may open (RLIMIT_NOFILE).
        now_s: A clock that no one sets.
        count: How many it has open.
    """

    def __init__(
        self, files_max: int, now_s: Callable[[], float], count: Callable[[], int] = open_files
    ) -> None:
        self.files_max = files_max
        self._now_s = now_s
        self._count = count
        self._left = 0
        self._counted_s = -COUNTED_FOR_S

    def room(self, connections: int) -> int:
        """How many connections may be accepted now beside so many that are open; 0 or less: none."""
        room = self._room(connections)
        counted_for_s = COUNTED_FOR_S if room > 0 else SHORT_COUNTED_FOR_S
        if self._now_s() - self._counted_s >= counted_for_s:
            self.count()
            room = self._room(connections)
        return room

    def _room(self, connections: int) -> int:
        return min(self._left - FILES_SPARE, (self._left - connections) // 2)

    def opened(self, files: int) -> None:
        """So many more are open; fewer, if it is below 0."""
        self._left -= files

    def count(self) -> int:
        """How many are left, counted now."""
        try:
            self._left = self.files_max - self._count()
        except OSError:  # none is left for the listing
            self._left = 0
        self._counted_s = self._now_s()
        return self._left


class Accepting:
    """Accepts what connects to one listener, from `start` to `stop`.

    Args:
        listener: Listens and does not block; closed by its owner.
        connections: Those that are open.
        make_protocol: Makes the protocol of a connection.
        files: What may still be opened.
    """

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        make_protocol: Callable[[], asyncio.Protocol],
        files: OpenFiles,
    ) -> None:
        self._listener = listener
        self._connections = connections
        self._make_protocol = make_protocol
        self._files = files
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._short_s: float | None = None
        self._logged_s: float | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._resuming = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more."""
        if self._resuming is not None:
            self._resuming.cancel()
        else:
            self._loop.remove_reader(self._listener.fileno())

    async def settled(self) -> None:
        """Return when every connection that was accepted has its protocol."""
        while self._connecting:
            await asyncio.wait(self._connecting)

    def troubles(self) -> list[Trouble]:
        """That files are short, for a minute after they last were."""
        is_recent = self._short_s is not None and self._loop.time() - self._short_s < SHORT_FOR_S
        if not is_recent and self._files.count() > FILES_SPARE:
            return []
        return [Trouble(DegradedState.FILES_LOW, self._shortage())]

    def _accept(self) -> None:
        room = self._files.room(len(self._connections))
        if room <= 0:
            self._fall_short()
            if self._connections.make_room():
                self._files.opened(-1)
            else:
                self._pause()
            return
        for _ in range(min(room, AT_ONCE_MAX)):
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._fall_short()
                self._pause()
                return
            self._files.opened(1)
            accepted.setblocking(False)
            connecting = self._loop.create_task(self._connect(accepted))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, accepted)
        except OSError as error:  # gone before it could be served
            logger.debug("a connection ended at once: %s", error)
            accepted.close()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._resuming = self._loop.call_later(PAUSE_S, self.start)

    def _fall_short(self) -> None:
        now_s = self._loop.time()
        self._short_s = now_s
        if self._logged_s is None or now_s - self._logged_s >= SHORT_FOR_S:
            self._logged_s = now_s
            logger.warning("%s", self._shortage())

    def _shortage(self) -> str:
        return (
            f"the process that serves HTTP may open {self._files.files_max} files and is short of them: connections "
            "without a request are closed, and new ones wait; raise its limit (LimitNOFILE, ulimit -n)"
        )
