"""A provider that counts the calls that are made to it, and what is too many of them."""

from __future__ import annotations

import select
import socketserver
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Call:
    """One call, in seconds of the wall clock; of a caller that died it ends with its connection."""

    name: str
    began_s: float
    ended_s: float


def most_at_once(calls: Iterable[Call]) -> int:
    """So many were under way at the same time."""
    changes = [(one.began_s, 1) for one in calls] + [(one.ended_s, -1) for one in calls]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def most_within(times_s: Iterable[float], within_s: float) -> int:
    """So many lie in some time of that length, its end excluded."""
    times = sorted(times_s)
    most = first = 0
    for last, at_s in enumerate(times):
        while at_s - times[first] >= within_s:
            first += 1
        most = max(most, last - first + 1)
    return most


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    provider: Provider


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Take a line, hold the call for a while, answer with the line."""
        provider = cast(_Server, self.server).provider
        name = self.rfile.readline().decode().strip()
        began_s = time.time()
        is_dead, _, _ = select.select([self.connection], [], [], provider.hold_s)
        provider.add(Call(name, began_s, time.time()))
        if not is_dead:
            self.wfile.write(f"{name}\n".encode())


class Provider:
    """Listens on a port of its own; `calls` are those that have ended.

    Args:
        hold_s: How long each call takes.
    """

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self.calls: list[Call] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def add(self, call: Call) -> None:
        """It has ended."""
        with self._lock:
            self.calls.append(call)

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
