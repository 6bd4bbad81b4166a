"""A process that answers frames: `socket_target.py RUN_DIR NAME`. Its loop is the one that Ray's actors have."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from helmr_runtime.rpc.calls import serve
from helmr_runtime.rpc.sockets import SocketServer, socket_path

VERSION = "1"


class Target:
    """What tests ask for."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self._turn = 0
        self._is_turning = False

    async def echo(self, value: Any) -> Any:
        return value

    async def ping(self) -> None:
        return None

    async def pid(self) -> int:
        return os.getpid()

    async def memory_mib(self) -> float:
        """The most that it has had so far."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    async def large(self, size_bytes: int) -> bytes:
        return bytes(size_bytes)

    async def after(self, seconds: float, path: str) -> str:
        """Leave a mark in the world."""
        await asyncio.sleep(seconds)
        await asyncio.to_thread(Path(path).write_text, "ran")
        return path

    async def watch(self, name: str) -> None:
        """A long poll, by its name."""
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(name)

    async def wait(self) -> None:
        """No long poll, and yet without an end."""
        await asyncio.Event().wait()

    async def ends(self) -> list[str]:
        """The long polls that have ended."""
        return self.ended

    async def turn(self) -> int:
        """In which turn of the loop this has started."""
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        return self._turn

    def _next_turn(self) -> None:
        self._turn += 1
        self._is_turning = False

    async def cancel_itself(self) -> None:
        raise asyncio.CancelledError

    async def odd(self) -> object:
        return object()

    async def fork(self) -> int:
        """A child that outlives this process."""
        child = os.fork()
        if child == 0:
            signal.pause()
        return child


async def main(run_dir: str, name: str) -> None:
    target = Target()
    path = socket_path(run_dir, name)
    assert path is not None

    async def handle(method: str, /, *args: Any, **kwargs: Any) -> Any:
        if method == "take_large":
            return server.take_large(*args)
        if method == "bug":
            raise RuntimeError("in what handles calls")
        return await serve(target, method, args, kwargs)

    server = SocketServer(path, name=name, version=VERSION, handle=handle)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
