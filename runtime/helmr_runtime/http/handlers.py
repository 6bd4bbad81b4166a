"""Handlers serve operations that are no plain call of the service: streams, Arrow, probes, the OpenAPI document.

A followed stream is sent as server-sent events, and ends when either side does. Source: WHATWG HTML, "Server-sent
events".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from helmr import errors
from helmr.errors import BadRequest, NotAllowed, Standby
from helmr.models import (
    SEQ_MAX,
    STALE_HEADER,
    FollowQuery,
    OutputQuery,
    QueryRequest,
)
from helmr.wire.query import ARROW_MEDIA_TYPE
from helmr.wire.roles import Need
from helmr_runtime.core.public_tokens import check_read
from helmr_runtime.http.answer_page import page_headers, render_errors
from helmr_runtime.http.exchange import Exchange, disconnected
from helmr_runtime.http.metrics import Metrics
from helmr_runtime.http.served_operation import Authenticator, Handler, json_response
from helmr_runtime.service.following import Followed, FollowedEvents

WITHOUT_KEY = {"ready", "reasons", "version", "now"}
"""Fields of `/readyz` without a key: enough for a probe, nothing about the machine."""

_FOLDERS = re.compile(r"(?<=['\"])/(?:[^/'\"]+/)+|(?<![\w./])/(?:[^\s/'\"]+/)+")
"""Folders in a text; between quotes a folder's name may hold spaces."""


# --- streams ----------------------------------------------------------------------------------------


async def read_outputs(
    exchange: Exchange, session_id: str, stream: str, query: OutputQuery
) -> Response:
    """Return a page of records, or with `Accept: text/event-stream` follow them."""
    if exchange.public_token is not None:
        check_read(exchange.public_token, session_id, stream)
    service = exchange.service
    if MEDIA_TYPE not in exchange.headers.get("accept", ""):
        return json_response(await service.sessions.outputs(session_id, stream, query))
    after = _start(exchange, query.after) or 0
    following = await service.events.follow_output(session_id, stream, after, chunks=query.chunks)
    if following is None:
        return Response(status_code=204)
    return _followed(exchange, following)


async def follow_session(exchange: Exchange, session_id: str, query: FollowQuery) -> Response:
    """Follow the session's entries from here on."""
    after = _start(exchange, query.after)
    return _followed(exchange, await exchange.service.events.follow_session(session_id, after))


async def follow_all(exchange: Exchange, query: FollowQuery) -> Response:
    """Follow all sessions' entries from here on."""
    after = _start(exchange, query.after)
    return _followed(exchange, await exchange.service.events.follow_all(after))


def _start(exchange: Exchange, after: int | None) -> int | None:
    return start_of(exchange.headers.get("last-event-id"), after)


def _followed(exchange: Exchange, following: FollowedEvents) -> Response:
    return EventStream(following, exchange)


# --- queries ----------------------------------------------------------------------------------------


async def run_query(exchange: Exchange, body: QueryRequest) -> Response:
    """Return rows as JSON, or with the Arrow type in `Accept` as an IPC stream, if pyarrow is installed."""
    as_arrow = ARROW_MEDIA_TYPE in exchange.headers.get("accept", "").lower()
    found = await exchange.service.queries.run(body.sql, limit=body.limit, as_arrow=as_arrow)
    if isinstance(found, bytes):
        return Response(found, media_type=ARROW_MEDIA_TYPE)
    return json_response(found)


# --- probes and the document ------------------------------------------------------------------------


async def healthz(exchange: Exchange) -> Response:
    """Answer `ok` while the gateway runs."""
    return Response("ok\n", media_type="text/plain")


async def readyz(exchange: Exchange) -> Response:
    """Report if sessions can be started and answered: 200 or 503; with a key, in full."""
    health = await exchange.service.health.ready()
    if await _has_key(exchange):
        text = health.model_dump_json()
    else:
        reasons = [without_folders(reason, health.data_dir) for reason in health.reasons]
        shown = health.model_copy(update={"reasons": reasons})
        text = shown.model_dump_json(include=WITHOUT_KEY)
    status_code = 200 if health.ready else 503
    return Response(text, status_code=status_code, media_type="application/json")


async def read_metrics(exchange: Exchange) -> Response:
    """Numbers in the Prometheus text format."""
    metrics: Metrics = exchange.app.metrics
    return Response(await metrics.render(exchange.service), media_type=CONTENT_TYPE_LATEST)


async def openapi_document(exchange: Exchange) -> Response:
    """This API as an OpenAPI document."""
    document: dict[str, Any] = exchange.app.document
    return JSONResponse(document)


LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
"""A link to another page of the docs, which the gateway does not serve."""


async def show_errors(exchange: Exchange) -> Response:
    """Show the rows of docs/errors.md for this version; problems link to their anchors."""
    return Response(_error_page(), headers=page_headers())


@cache
def _error_page() -> str:
    return render_errors(
        [
            (
                one.code,
                one.status,
                LINK.sub(r"\1", one.meaning()),
                LINK.sub(r"\1", one.what_to_do()),
            )
            for _, one in sorted(errors.all_codes().items())
        ]
    )


def without_folders(text: str, data_dir: str | None = None) -> str:
    """The text with files cut to their last part: strangers must not learn the folders."""
    if data_dir:
        text = text.replace(data_dir.rstrip("/") + "/", "").replace(data_dir, "the data directory")
    return _FOLDERS.sub("", text)


async def _has_key(exchange: Exchange) -> bool:
    authenticator: Authenticator = exchange.app.authenticator
    try:
        await authenticator.authenticate(exchange, Need.READ)
    except (NotAllowed, Standby):  # a standby knows only its own machine's key
        return False
    return True


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        read_outputs,
        follow_session,
        follow_all,
        run_query,
        healthz,
        readyz,
        read_metrics,
        openapi_document,
        show_errors,
    )
}
"""Handlers by the name of their operation."""


MEDIA_TYPE = "text/event-stream"
WRITE_CHARS = 32 * 1024
"""A write of an event stream ends once it has this many characters: enough to fill packets, and little to hold for a
client that does not read. Between two writes other tasks get a turn."""


class EventStream(Response):
    """Sends followed events until the client disconnects or following ends; then the client may reconnect.

    A stream that began while no other runtime could be at work ends when one may be (S-102): the client reconnects to
    that one, if it knows its address, or to a stream that is marked as stale.

    Args:
        following: The events to send; always closed at the end.
        exchange: The request.
    """

    media_type = MEDIA_TYPE

    def __init__(self, following: FollowedEvents, exchange: Exchange) -> None:
        super().__init__(
            headers={
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold events back
            }
        )
        del self.headers["content-length"]
        self._following = following
        self._keep_alive_s = exchange.settings.keep_alive_s
        self._staleness = exchange.service.staleness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run until one side ends."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(disconnected(receive))
        lapsing = asyncio.ensure_future(self._lapse())
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._following.close()
            for task in (sending, leaving, lapsing):
                task.cancel()
            await asyncio.wait({sending, leaving, lapsing})
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _lapse(self) -> None:
        if STALE_HEADER not in self.headers:
            await self._staleness.lapsed()
            self._following.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # The first bytes tell the client that it follows, and the place to resume from.
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
    """The place to go on from; Last-Event-ID wins over `after`.

    Raises:
        BadRequest: It is not an id that a stream gave out.
    """
    if last_event_id is None or not last_event_id.strip():
        return after
    text = last_event_id.strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or int(text) > SEQ_MAX:
        raise BadRequest(f"Last-Event-ID {text[:40]!r} is not an id of this stream")
    return int(text)


def _frame(item: Followed) -> str:
    """An event as text. One without an id keeps the last event's id, with which the client reconnects."""
    place = f"id: {item.id}\n" if item.id is not None else ""
    return f"event: {item.event}\n{place}data: {item.text}\n\n"


def _writes(items: Sequence[Followed]) -> Iterator[str]:
    """The events as texts of about `WRITE_CHARS` each."""
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
