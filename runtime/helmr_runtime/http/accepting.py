"""New connections are accepted within the files that this process may still open.

Sessions, the ledger and the log open files too, and a live session has three. So connections get at most half of the
files that the others leave: one file stays free for each connection. At that bound, the oldest connection without work
makes room; if all of them work, new ones wait in the kernel's queue. asyncio's own accept loop would try once for each
place in that queue when no file is left, and log each try.

Invariants: the process can open files while clients connect; the log gets at most one line a minute about a shortage.
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
"""Connections wait this long in the kernel's queue before free files are counted again."""

AT_ONCE_MAX = 128
"""Connections accepted in one turn of the loop, before connected clients get their turn."""

FILES_SPARE = 16
"""Files reserved for the log, the database's temporary files and notices."""

COUNTED_FOR_S = 1.0
SHORT_COUNTED_FOR_S = 0.05
"""A count of open files is used for this long; one without room for the second. Connections that come and go meanwhile
are counted in."""

SHORT_FOR_S = 60.0
"""A shortage is reported for this long after it was last seen, with at least this time between two log lines."""


def open_files() -> int:
    """Count this process's open files. The kernel lists them from memory, a thousand in 1 to 2 ms."""
    return len(os.listdir("/dev/fd")) - 1  # the listing's own


class OpenFiles:
    """Tracks how many more files this process may open.

    Args:
        files_max: The limit of open files (RLIMIT_NOFILE).
        now_s: A monotonic clock, in seconds.
        count: Counts the open files.
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
        """The number of connections that may be accepted now, given the number of open ones; 0 or less: none."""
        room = self._room(connections)
        counted_for_s = COUNTED_FOR_S if room > 0 else SHORT_COUNTED_FOR_S
        if self._now_s() - self._counted_s >= counted_for_s:
            self.count()
            room = self._room(connections)
        return room

    def _room(self, connections: int) -> int:
        return min(self._left - FILES_SPARE, (self._left - connections) // 2)

    def opened(self, files: int) -> None:
        """Note that so many more files are open; fewer if the number is negative."""
        self._left -= files

    def count(self) -> int:
        """Count the files that may still be opened."""
        try:
            self._left = self.files_max - self._count()
        except OSError:  # none is left for the listing
            self._left = 0
        self._counted_s = self._now_s()
        return self._left


class Accepting:
    """Accepts the connections of one listener, from `start` to `stop`.

    Args:
        listener: A non-blocking listening socket; its owner closes it.
        connections: The open connections.
        make_protocol: Makes the protocol of a connection.
        files: The files that may still be opened.
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
        """Start accepting."""
        self._resuming = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Stop accepting."""
        if self._resuming is not None:
            self._resuming.cancel()
        else:
            self._loop.remove_reader(self._listener.fileno())

    async def settled(self) -> None:
        """Return once every accepted connection has its protocol."""
        while self._connecting:
            await asyncio.wait(self._connecting)

    def troubles(self) -> list[Trouble]:
        """The trouble that files are short, for a minute after they last were."""
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
