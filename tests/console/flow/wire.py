"""The cable between console and gateway, which a test can cut, or make lose an answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Wire:
    """Forwards a port. `cut` closes everything and refuses; `lose_answers` delivers requests and drops replies."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.lose_next: bytes = b""
        self.lost = 0

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Nobody answers any more."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            upstream = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, upstream[1]}
            lose = asyncio.Event()
            both = (
                self._pump(reader, upstream[1], lose, ask=True),
                self._pump(upstream[0], writer, lose, ask=False),
            )
            await asyncio.gather(*both)
        for each in (writer,):
            self._writers.discard(each)
            each.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        lose: asyncio.Event,
        *,
        ask: bool,
    ) -> None:
        with suppress(OSError, ConnectionError):
            while data := await reader.read(65_536):
                if ask and self.lose_next and data.startswith(self.lose_next):
                    self.lose_next = b""
                    lose.set()
                if not ask and lose.is_set():
                    self.lost += 1
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
