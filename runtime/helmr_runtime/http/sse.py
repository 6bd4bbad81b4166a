"""Server-sent events: what is followed, as a response that ends when either side does.

Source: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from helmr.errors import BadRequest
from helmr.models import SEQ_MAX
from helmr_runtime.service.following import Followed, Following

MEDIA_TYPE = "text/event-stream"
WRITE_CHARS = 32 * 1024
"""Once a write has so many, the next begins: enough to fill packets, and little to hold for a client that reads
nothing. Between two writes others have their turn."""


class EventStream(Response):
    """Sends what comes until the client goes or following ends; then the client may come back.

    Args:
        following: What to send; closed at the end, however that comes.
        keep_alive_s: Longest silence.
    """

    media_type = MEDIA_TYPE

    def __init__(self, following: Following, *, keep_alive_s: float) -> None:
        super().__init__(
            headers={
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold events back
            }
        )
        del self.headers["content-length"]
        self._following = following
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run until one side ends."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._following.close()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # The first bytes tell the client that it follows, and from where it would come back.
        position = self._following.position
        await _write(send, f"id: {position}\n\n" if position is not None else ": following\n\n")
        loop = asyncio.get_running_loop()
        written_at_s = loop.time()
        while not self._following.is_closed:
            left_s = written_at_s + self._keep_alive_s - loop.time()
            if left_s <= 0:
                await _write(send, ": keep-alive\n\n")
                written_at_s = loop.time()
                continue
            items = await self._following.take(left_s)
            for text in _writes(items):
                await _write(send, text)
                written_at_s = loop.time()
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def start_of(last_event_id: str | None, after: int | None) -> int | None:
    """Where to go on: the Last-Event-ID wins.

    Raises:
        BadRequest: It is no id that a stream gave out.
    """
    if last_event_id is None or not last_event_id.strip():
        return after
    text = last_event_id.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > SEQ_MAX:
        raise BadRequest(f"Last-Event-ID {text[:40]!r} is not an id of this stream")
    return int(text)


def _frame(item: Followed) -> str:
    """What has no id leaves the id of the last event as it is: a client comes back with that."""
    place = f"id: {item.id}\n" if item.id is not None else ""
    return f"event: {item.event}\n{place}data: {item.text}\n\n"


def _writes(items: Sequence[Followed]) -> Iterator[str]:
    """The frames of these items, some at a time."""
    part: list[str] = []
    chars = 0
    for item in items:
        part.append(_frame(item))
        chars += len(part[-1])
        if chars >= WRITE_CHARS:
            yield "".join(part)
            part, chars = [], 0
    if part:
        yield "".join(part)


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
