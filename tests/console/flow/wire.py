"""The cable between console and gateway, which a test can cut, or make lose an answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Wire:
    """Forwards a port. `cut` closes everything and refuses; `lose_answers` delivers requests and drops replies."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.lose_next: bytes = b""
        self.lost = 0

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Nobody answers any more; returns when every connection is closed."""
        if self._server is not None:
            self._server.close()
        # Connections just accepted begin in the loop's next turns, and transports close in them.
        for _ in range(5):
            await asyncio.sleep(0)
            serving, self._serving = self._serving, set()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await self._connect()
            lose = asyncio.Event()
            await asyncio.gather(
                self._pump(reader, upstream, lose, ask=True),
                self._pump(answers, writer, lose, ask=False),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; a connection that is made while this is cancelled is closed, not forgotten."""
        opening = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", self._target))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(OSError):
                _, writer = await opening
                writer.transport.abort()
            raise

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
