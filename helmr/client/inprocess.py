"""Carries httpx's requests to an ASGI app in this process, with streaming answers.

httpx's own ASGITransport waits for the end of an answer, which a feed never has. `AppTransport` shares the app's event
loop, and `RemoteAppTransport` uses another one. `BlockingAppTransport` has a loop in a thread of its own, or borrows
one that another thread runs, and is thread-safe.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, MutableMapping
from typing import Any, Protocol, TypeVar

from helmr.client.problems import httpx
from helmr.errors import UsageError

T = TypeVar("T")
Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

CHUNKS_MAX = 64
"""Most unread pieces of an answer; beyond that the app waits."""


class InProcessGateway(Protocol):
    """Provides the app."""

    async def open(self) -> App:
        """Return the app; called before each request."""
        ...

    async def close(self) -> None:
        """Shut down; no more requests follow."""
        ...


class AppTransport(httpx.AsyncBaseTransport):
    """Carries an async client's requests to the app of an in-process gateway, on the same loop."""

    def __init__(self, gateway: InProcessGateway) -> None:
        self._gateway = gateway
        self._exchanges: set[_Exchange] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the app's answer as soon as it begins."""
        body = await request.aread()
        app = await self._gateway.open()
        exchange = _Exchange(request, body, on_end=self._exchanges.discard)
        self._exchanges.add(exchange)
        try:
            status, headers = await exchange.begin(app)
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(status, headers=headers, stream=exchange)

    async def aclose(self) -> None:
        """Abort open answers, and close the gateway."""
        for exchange in tuple(self._exchanges):
            await exchange.aclose()
        await self._gateway.close()


class _Exchange(httpx.AsyncByteStream):
    """One request under way, and the stream of its answer."""

    def __init__(
        self, request: httpx.Request, body: bytes, *, on_end: Callable[[_Exchange], None]
    ) -> None:
        self._request = request
        self._body: bytes | None = body
        self._on_end = on_end
        self._read_s: float | None = request.extensions.get("timeout", {}).get("read")
        self._start: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(CHUNKS_MAX)
        self._left = asyncio.Event()
        self._broken: Exception | None = None
        self._running: asyncio.Task[None] | None = None

    async def begin(self, app: App) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Run the app until it sends status and headers."""
        self._running = asyncio.create_task(self._run(app), name=f"{self._request.url.path}")
        start = await self._in_time(asyncio.shield(self._start))
        return int(start["status"]), list(start["headers"])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._in_time(self._chunks.get())) is not None:
            yield chunk
        if self._broken is not None:
            raise httpx.RemoteProtocolError(
                "the app failed in the middle of its answer", request=self._request
            ) from self._broken

    async def aclose(self) -> None:
        """Tell the app that the reader is gone, and wait for its end."""
        self._on_end(self)
        self._left.set()
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})
        if self._start.done() and not self._start.cancelled():
            self._start.exception()  # its awaiter has raised it

    async def _in_time(self, awaited: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._read_s):
                return await awaited
        except TimeoutError as error:
            raise httpx.ReadTimeout(
                f"no answer within {self._read_s:g} s", request=self._request
            ) from error

    async def _run(self, app: App) -> None:
        try:
            await app(self._scope(), self._receive, self._send)
            if not self._start.done():
                raise httpx.RemoteProtocolError("the app gave no answer", request=self._request)
        except Exception as error:  # noqa: BLE001 - the edge of the app: its caller hears of it
            if self._start.done():
                self._broken = error
            else:
                self._start.set_exception(error)
        finally:
            if not self._left.is_set():
                await self._chunks.put(None)

    def _scope(self) -> Message:
        url = self._request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port),
            "client": None,
            "root_path": "",
        }

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start.set_result(message)
        elif message["type"] == "http.response.body" and message.get("body"):
            await self._chunks.put(message["body"])


class BlockingAppTransport(httpx.BaseTransport):
    """Carries a blocking client's requests to the app of an in-process gateway, from another thread.

    Args:
        make_gateway: Makes the gateway, on the loop that it will belong to.
        loop: The running loop that the app belongs to; None starts one.
    """

    def __init__(
        self,
        make_gateway: Callable[[], InProcessGateway],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._make_door = make_gateway
        self._starting = threading.Lock()
        self._borrowed = loop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._inner: AppTransport | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the app's answer as soon as it begins."""
        request.read()
        inner = self._started()
        answer = self._do(inner.handle_async_request(_as_async(request)))
        assert isinstance(answer.stream, _Exchange)
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=_Blocking(self._do, answer.stream)
        )

    def close(self) -> None:
        """Abort open answers, and end the thread."""
        with self._starting:
            loop, self._loop = self._loop, None
            if loop is None:
                return
            assert self._inner is not None
            closing = asyncio.run_coroutine_threadsafe(self._inner.aclose(), loop)
            if _is_here(loop):  # it closes when this thread comes back to its loop
                return
            closing.result()
            if self._thread is not None:
                loop.call_soon_threadsafe(loop.stop)
                self._thread.join()
                loop.close()

    def _started(self) -> AppTransport:
        with self._starting:
            if self._loop is None:
                if self._borrowed is not None:
                    _check_elsewhere(self._borrowed)
                loop = self._borrowed or self._new_loop()
                self._inner = asyncio.run_coroutine_threadsafe(self._opened(), loop).result()
                self._loop = loop
            assert self._inner is not None
            return self._inner

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="helmr-client", daemon=True)
        self._thread.start()
        return loop

    async def _opened(self) -> AppTransport:
        return AppTransport(self._make_door())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        _check_elsewhere(self._loop)
        doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except BaseException:
            doing.cancel()  # Ctrl-C, say; harmless when it is done
            raise


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _check_elsewhere(loop: asyncio.AbstractEventLoop) -> None:
    """Refuse to wait for a loop from its own thread, which would never end."""
    if _is_here(loop):
        raise UsageError(
            "a blocking client was called in the event loop that has to answer it",
            hint="Use the async client here; the blocking one is for other threads.",
        )


class _Blocking(httpx.SyncByteStream):
    """The stream of an answer from another thread's loop."""

    def __init__(self, do: Callable[[Coroutine[Any, Any, Any]], Any], exchange: _Exchange) -> None:
        self._do = do
        self._exchange = exchange
        self._chunks = aiter(exchange)

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._do(_next(self._chunks))) is not None:
            yield chunk

    def close(self) -> None:
        self._do(self._exchange.aclose())


class RemoteAppTransport(httpx.AsyncBaseTransport):
    """Carries an async client's requests to the app of an in-process gateway, from another loop.

    Args:
        make_gateway: Makes the gateway, on the app's loop.
        loop: The running loop that the app belongs to.
    """

    def __init__(
        self, make_gateway: Callable[[], InProcessGateway], *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._make_door = make_gateway
        self._loop = loop
        self._opening = asyncio.Lock()
        self._inner: AppTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the app's answer as soon as it begins."""
        await request.aread()
        async with self._opening:
            if self._inner is None:
                self._inner = await self._do(self._opened())
        answer = await self._do(self._inner.handle_async_request(_as_async(request)))
        assert isinstance(answer.stream, _Exchange)
        stream = _Remote(self._do, answer.stream)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)

    async def aclose(self) -> None:
        """Abort open answers, and close the gateway."""
        if self._inner is not None:
            await self._do(self._inner.aclose())

    async def _opened(self) -> AppTransport:
        return AppTransport(self._make_door())

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class _Remote(httpx.AsyncByteStream):
    """The stream of an answer from another loop."""

    def __init__(
        self, do: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]], exchange: _Exchange
    ) -> None:
        self._do = do
        self._exchange = exchange
        self._chunks = aiter(exchange)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._do(_next(self._chunks))) is not None:
            yield chunk

    async def aclose(self) -> None:
        """End the exchange, on the app's loop."""
        await self._do(self._exchange.aclose())


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


def _as_async(request: httpx.Request) -> httpx.Request:
    """Return the same request, with its body already read, for the other kind of transport."""
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content,
        extensions=request.extensions,
    )
