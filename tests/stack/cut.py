"""A connection between two programs that can be cut as a network is: nothing arrives, and nobody hears of it."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

Place = Path | tuple[str, int]

CHUNK = 65_536


class Cut:
    """Hands on bytes both ways, in order; while it is cut it takes connections and keeps what comes.

    Args:
        here: Where it listens: a socket file, or an address.
        there: What it hands on to.
    """

    def __init__(self, here: Place, there: Place) -> None:
        self._there = there
        self._listener = _socket(here)
        self._listener.bind(_address(here))
        self._listener.listen(64)
        self._open = threading.Event()
        self._open.set()
        self._over = threading.Event()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """Of one that listens at an address."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Hand on nothing from now on."""
        self._open.clear()

    def mend(self) -> None:
        """Hand on what has come meanwhile, and what comes."""
        self._open.set()

    def __enter__(self) -> Cut:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._open.set()
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._connect, _at_once(caller))

    def _connect(self, caller: socket.socket) -> None:
        self._sockets.append(caller)
        self._open.wait()
        called = _socket(self._there)
        self._sockets.append(called)
        try:
            called.connect(_address(self._there))
        except OSError:
            caller.close()
            called.close()
            return
        self._start(self._hand_on, caller, called)
        self._start(self._hand_on, called, caller)

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self._open.wait()
                target.sendall(data)
        self._open.wait()
        for one, way in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with suppress(OSError):
                one.shutdown(way)


def _socket(place: Place) -> socket.socket:
    family = socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET
    return _at_once(socket.socket(family, socket.SOCK_STREAM))


def _at_once(one: socket.socket) -> socket.socket:
    """Has it send each piece as it comes: one that waits for the last one to be acknowledged takes 40 ms longer."""
    if one.family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def _address(place: Place) -> str | tuple[str, int]:
    return os.fspath(place) if isinstance(place, Path) else place
