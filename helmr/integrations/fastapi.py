"""Helmr in a FastAPI app: one client per app, errors with their status, a person's own sessions, events of an output.

```python
app = FastAPI(lifespan=connected)
map_errors(app)


@app.get("/chats/{session_id}/replies")
async def replies(request: Request, session: Mine, helmr: HelmrClient) -> Response:
    return await follow_output(request, helmr, session, "replies", chunks=True)
```

The app says who is signed in and which sessions are theirs. What its users see of an error is what they can mend; the
rest is in the log. Needs FastAPI, which the extra `fastapi` brings.
"""

# Without `from __future__ import annotations`: FastAPI reads the annotations of functions that are made here.

import asyncio
import inspect
import json
import logging
import math
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel

from helmr import auth
from helmr.client import AsyncClient, AsyncOutput, Retry
from helmr.errors import (
    BadCursor,
    BadDuration,
    BadFilter,
    BadId,
    BadJson,
    BadRequest,
    Conflict,
    HelmrError,
    LedgerSuperseded,
    MissingExtra,
    Moved,
    NotFound,
    OriginDenied,
    RuntimeHeld,
    SchemaMismatch,
    ScopeDenied,
    SessionNotFound,
    SignatureRefused,
    StaleEpoch,
    StreamNotFound,
    TaskNotFound,
    TokenExhausted,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
    UsageError,
)
from helmr.models import (
    ChunkInfo,
    ChunksEnd,
    FieldProblem,
    Problem,
    RecordInfo,
    SessionInfo,
    SessionStatus,
)
from helmr.streams import InputStream, OutputStream
from helmr.wire.durations import Duration, seconds

try:
    from fastapi import Depends, FastAPI, Request
    from fastapi.responses import Response, StreamingResponse
except ModuleNotFoundError as error:
    raise MissingExtra(
        f"{__name__} needs the extra `fastapi`, which is not installed (no module {error.name})",
        hint="pip install 'helmr[fastapi]'",
        extra="fastapi",
    ) from error

__all__ = [
    "HelmrClient",
    "SessionAccess",
    "connected",
    "follow_output",
    "map_errors",
    "own_session",
    "session_access",
]

U = TypeVar("U")

log = logging.getLogger(__name__)

# --- a client per app -------------------------------------------------------------------------------


@asynccontextmanager
async def connected(
    app: FastAPI,
    *,
    url: str | None = None,
    key: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    retry: Retry | None = None,
) -> AsyncIterator[None]:
    """The app's lifespan, or a part of it: its client is open inside; arguments as those of `AsyncClient`.

    `FastAPI(lifespan=connected)`, or in a lifespan of your own `async with connected(app, url=…, key=…): yield`.

    Raises:
        RuntimeNotFound, AmbiguousRuntime: The runtime is not named, and none or several were found.
        UsageError: The app has a client already.
    """
    if getattr(app.state, "helmr", None) is not None:
        raise UsageError(
            "this app has a client already", hint="Use `connected` once in its lifespan."
        )
    async with AsyncClient(url=url, key=key, data_dir=data_dir, retry=retry) as client:
        app.state.helmr = client
        try:
            yield
        finally:
            app.state.helmr = None


def _client(request: Request) -> AsyncClient:
    client = getattr(request.app.state, "helmr", None)
    if not isinstance(client, AsyncClient):
        raise UsageError(
            "this app has no client",
            hint="FastAPI(lifespan=connected), or `async with connected(app)` in its lifespan; "
            "a mounted app's own lifespan is not run.",
        )
    return client


HelmrClient: TypeAlias = Annotated[AsyncClient, Depends(_client)]
"""The app's client, as a parameter of a route or of a dependency."""

# --- errors -----------------------------------------------------------------------------------------

_SHOWN: tuple[type[HelmrError], ...] = (
    *(BadCursor, BadDuration, BadFilter, BadId, BadJson, BadRequest),
    *(SchemaMismatch, TooLarge, UnsupportedMedia),
    *(NotFound, Conflict, OriginDenied, ScopeDenied, SignatureRefused, TokenExhausted),
)
"""Errors that the caller can mend: in what they named or sent, or in its present state."""

_HIDDEN: tuple[type[HelmrError], ...] = (
    *(TaskNotFound, StreamNotFound),  # the app names those, and the message lists all there are
    *(LedgerSuperseded, Moved, RuntimeHeld, StaleEpoch),
)
"""Errors among `_SHOWN` that only the operators of the app or the runtime can mend."""

_PROBLEM = "application/problem+json"
_RETRY_AFTER_S = 1.0


def map_errors(app: FastAPI) -> None:
    """Answer a HelmrError of any route with its status and a problem document (RFC 9457).

    The answer has its `code`, message and `errors` if they are about what was named or brought. Of the key's rights, a
    missing task, a runtime that does not answer it says nothing: it is 500, 503 or 429 with an id, under which the log
    has the error. Hints and facts are for those who write the app, and left out.
    """
    app.add_exception_handler(HelmrError, _answered)


async def _answered(request: Request, error: Exception) -> Response:
    assert isinstance(error, HelmrError)
    problem = _problem(error)
    headers = {}
    if problem.status in (429, 503):
        wait_s = _RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    return Response(
        problem.model_dump_json(exclude={"hint", "facts"}),
        status_code=problem.status,
        media_type=_PROBLEM,
        headers=headers,
    )


def _problem(error: HelmrError) -> Problem:
    """Return the problem body for an error, without what only the log may show."""
    if isinstance(error, _SHOWN) and not isinstance(error, _HIDDEN):
        fields = [FieldProblem(path=one["path"], message=one["message"]) for one in error.errors]
        return Problem(
            title=error.title,
            status=error.status,
            detail=error.message,
            code=error.code,
            errors=fields,
        )
    error_id = secrets.token_hex(6)
    if isinstance(error, Unavailable):
        log.warning("%s: %s: %s", error_id, error.code, error)
        detail = f"try again in a moment ({error_id})"
        return Problem(title=error.title, status=error.status, detail=detail, code=error.code)
    log.error("%s: %s: %s", error_id, error.code, error, exc_info=error)
    return Problem(
        title=HelmrError.title,
        status=HelmrError.status,
        detail=f"something went wrong ({error_id})",
        code=HelmrError.code,
    )


# --- whose session it is ----------------------------------------------------------------------------


def own_session(
    person: Callable[..., Any], owns: Callable[[U, SessionInfo], bool | Awaitable[bool]]
) -> Callable[..., Awaitable[SessionInfo]]:
    """A dependency: the session of the path's `session_id`, if it is the signed-in person's.

    `Annotated[SessionInfo, Depends(own_session(signed_in, owns))]`. A session that is not theirs is answered as one
    that is not there: 404.

    Args:
        person: The app's dependency that says who is signed in, and raises if no one is.
        owns: The app's rule: whether the session is that person's. May be async.
    """

    async def own(
        session_id: str, client: HelmrClient, who: Annotated[Any, Depends(person)]
    ) -> SessionInfo:
        missing = SessionNotFound(f"{session_id} is not a session of yours")
        try:
            session = await client.sessions.open(session_id).get()
        except (BadId, SessionNotFound):
            raise missing from None
        is_theirs = owns(who, session)
        if inspect.isawaitable(is_theirs):
            is_theirs = await is_theirs
        if is_theirs is not True:
            raise missing
        return session

    return own


class SessionAccess(BaseModel):
    """What a person's browser may do with a session of theirs by itself, and until when."""

    session_id: str
    expires_at: datetime
    sends: dict[str, str]
    """A public token by input stream."""
    reads: dict[str, str]
    """A public token by output stream."""


async def session_access(
    client: AsyncClient,
    session: SessionInfo,
    *,
    sends: Iterable[InputStream[Any] | str] = (),
    reads: Iterable[OutputStream[Any] | str] = (),
    allowed_origins: Iterable[str] = (),
    expires_in: Duration = "1h",
) -> SessionAccess:
    """Public tokens for streams of a session, one each, for whom the session was looked up with `own_session`.

    Args:
        client: The app's client; its key may do itself what it makes tokens for.
        session: The person's.
        sends: Input streams that they may send to.
        reads: Output streams that they may read and follow.
        allowed_origins: Web pages whose scripts may use the tokens; without any, only programs may.
        expires_in: Afterwards they are refused; the page then asks for new ones.

    Raises:
        UsageError: No stream is named.
        StreamNotFound: The session has no such stream.
    """
    scopes = [(auth.send_to(one, session=session.id), True) for one in sends]
    scopes += [(auth.read_from(one, session=session.id), False) for one in reads]
    if not scopes:
        raise UsageError("no stream is named", hint="Give sends=[…] or reads=[…].")
    origins = list(allowed_origins)
    receipts = await asyncio.gather(
        *(
            client.auth.create_public_token(
                scope=scope, expires_in=expires_in, allowed_origins=origins
            )
            for scope, _ in scopes
        )
    )
    made = [
        (scope["stream"], is_send, one)
        for (scope, is_send), one in zip(scopes, receipts, strict=True)
    ]
    return SessionAccess(
        session_id=session.id,
        expires_at=min(one.expires_at for one in receipts),
        sends={name: one.public_access_token for name, is_send, one in made if is_send},
        reads={name: one.public_access_token for name, is_send, one in made if not is_send},
    )


# --- events of an output ----------------------------------------------------------------------------

Followed: TypeAlias = RecordInfo | ChunkInfo | ChunksEnd
_ID_DIGITS_MAX = 19


async def follow_output(
    request: Request,
    client: AsyncClient,
    session: SessionInfo,
    stream: OutputStream[Any] | str,
    *,
    chunks: bool = False,
    heartbeat: Duration = "15s",
) -> Response:
    """Server-sent events of an output: `record` with its data and its seq as id, and `end` when the session is over.

    Begins behind the request's `Last-Event-ID`, which a browser's EventSource sends when it comes back, else behind its
    query's `after`, else with the first record. If nothing can come any more the answer is 204, and a browser does not
    come back. When the browser leaves, the follower of the runtime ends; when the runtime is away for longer than the
    client tries, the answer ends, and the browser comes back.

    Args:
        request: Request of the route.
        client: The app's client.
        session: The person's.
        stream: The output.
        chunks: Also `chunk`, with what the code emits, and `chunks.end` with its outcome; neither has an id.
        heartbeat: A comment is sent after such a silence, so that no proxy ends the answer.

    Raises:
        BadRequest: The place to begin is none that an event had.
        StreamNotFound: The session has no such stream.
    """
    every_s = seconds(heartbeat)
    after = _place(request)
    name = stream if isinstance(stream, str) else stream.id
    output = client.sessions.open(session.id).output(name)
    page = await output.page(after=after, limit=1)
    if not page.items and session.status is not SessionStatus.OPEN:
        return Response(status_code=204)
    return _Events(_frames(output, after, chunks=chunks, every_s=every_s))


def _place(request: Request) -> int | None:
    """The seq behind which the browser wants to go on."""
    text = request.headers.get("last-event-id", "").strip() or request.query_params.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > _ID_DIGITS_MAX:
        raise BadRequest(f"{text[:40]!r} is not the id of an event")
    return int(text)


async def _frames(
    output: AsyncOutput, after: int | None, *, chunks: bool, every_s: float
) -> AsyncGenerator[str, None]:
    """The answer's text, in pieces."""
    yield ": following\n\n"  # the browser learns that it is connected
    followed = output.follow_chunks(after=after) if chunks else output.follow(after=after)
    async with aclosing(followed) as items:
        coming: asyncio.Future[Followed | None] | None = None
        try:
            while True:
                if coming is None:
                    coming = asyncio.ensure_future(anext(items, None))
                await asyncio.wait((coming,), timeout=every_s)
                if not coming.done():
                    yield ": keep-alive\n\n"
                    continue
                item, coming = coming.result(), None
                if item is None:
                    yield "event: end\ndata: null\n\n"
                    return
                yield _frame(item)
        except HelmrError as error:  # the browser comes back, and gets its status then
            log.warning("%s: the followers' answer ends: %s", output.session_id, error)
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait((coming,))


def _frame(item: Followed) -> str:
    """An event: of a record the seq and the data, of a chunk the data; who wrote it is the app's own affair."""
    match item:
        case RecordInfo():
            return f"id: {item.seq}\nevent: record\ndata: {_json(item.data)}\n\n"
        case ChunkInfo():
            return f"event: chunk\ndata: {_json(item.data)}\n\n"
        case ChunksEnd():
            return f"event: chunks.end\ndata: {_json({'outcome': item.outcome})}\n\n"


def _json(data: Any) -> str:
    """Encode JSON on one line, since data ends with its line."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


class _Events(StreamingResponse):
    """An answer that ends as soon as its reader is gone, also while there is nothing to write."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[str, None]) -> None:
        # nginx would keep events back until its buffer is full.
        super().__init__(frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._frames = frames

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (writing, leaving):
                one.cancel()
            await asyncio.wait((writing, leaving))
        if not writing.cancelled():
            writing.result()

    async def _write(self, send: Any) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        async with aclosing(self._frames) as frames:
            await send({"type": "http.response.start", **head})
            async for text in frames:
                piece = {"body": text.encode(), "more_body": True}
                await send({"type": "http.response.body", **piece})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
