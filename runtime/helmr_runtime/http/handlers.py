"""Operations that are no plain call of the service: followed streams, Arrow, probes, the API's own document."""

from __future__ import annotations

import re
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from helmr.errors import NotAllowed
from helmr.models import FollowQuery, OutputQuery, QueryRequest
from helmr.query import ARROW_MEDIA_TYPE
from helmr.roles import Need
from helmr_runtime.core.public_tokens import check_read
from helmr_runtime.http import sse
from helmr_runtime.http.access import Authenticator
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.metrics import Metrics
from helmr_runtime.http.routing import Handler, json_response
from helmr_runtime.service.following import Following

WITHOUT_KEY = {"ready", "reasons", "version", "now"}
"""What `/readyz` tells without a key: enough for a probe, nothing about the machine."""

_FOLDERS = re.compile(r"(?<=['\"])/(?:[^/'\"]+/)+|(?<![\w./])/(?:[^\s/'\"]+/)+")
"""Between quotes a folder's name may hold spaces."""


# --- streams ----------------------------------------------------------------------------------------


async def read_outputs(
    exchange: Exchange, session_id: str, stream: str, query: OutputQuery
) -> Response:
    """A page of records, or with `Accept: text/event-stream` all that follow."""
    if exchange.public_token is not None:
        check_read(exchange.public_token, session_id, stream)
    service = exchange.service
    if sse.MEDIA_TYPE not in exchange.headers.get("accept", ""):
        return json_response(await service.sessions.outputs(session_id, stream, query))
    after = _start(exchange, query.after) or 0
    following = await service.events.follow_output(session_id, stream, after, chunks=query.chunks)
    if following is None:
        return Response(status_code=204)
    return _followed(exchange, following)


async def follow_session(exchange: Exchange, session_id: str, query: FollowQuery) -> Response:
    """The session's entries from here on."""
    after = _start(exchange, query.after)
    return _followed(exchange, await exchange.service.events.follow_session(session_id, after))


async def follow_all(exchange: Exchange, query: FollowQuery) -> Response:
    """All sessions' entries from here on."""
    after = _start(exchange, query.after)
    return _followed(exchange, await exchange.service.events.follow_all(after))


def _start(exchange: Exchange, after: int | None) -> int | None:
    return sse.start_of(exchange.headers.get("last-event-id"), after)


def _followed(exchange: Exchange, following: Following) -> Response:
    return sse.EventStream(following, keep_alive_s=exchange.settings.keep_alive_s)


# --- queries ----------------------------------------------------------------------------------------


async def run_query(exchange: Exchange, body: QueryRequest) -> Response:
    """Rows as JSON, or with the Arrow type in `Accept` as an IPC stream."""
    queries = exchange.service.queries
    if ARROW_MEDIA_TYPE in exchange.headers.get("accept", "").lower():
        stream = await queries.arrow(body.sql, limit=body.limit)
        return Response(stream, media_type=ARROW_MEDIA_TYPE)
    return json_response(await queries.rows(body.sql, limit=body.limit))


# --- probes and the document ------------------------------------------------------------------------


async def healthz(exchange: Exchange) -> Response:
    """The gateway answers."""
    return Response("ok\n", media_type="text/plain")


async def readyz(exchange: Exchange) -> Response:
    """Whether sessions can be started and answered; with a key more than that."""
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


def without_folders(text: str, data_dir: str | None = None) -> str:
    """The text with files named by their last part: where they lie is not for strangers."""
    if data_dir:
        text = text.replace(data_dir.rstrip("/") + "/", "").replace(data_dir, "the data directory")
    return _FOLDERS.sub("", text)


async def _has_key(exchange: Exchange) -> bool:
    authenticator: Authenticator = exchange.app.authenticator
    try:
        await authenticator.authenticate(exchange, Need.READ)
    except NotAllowed:
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
    )
}
"""By the name of the operation."""
