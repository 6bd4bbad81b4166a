"""Sends calls: connection reuse, timeouts, retries, feeds that reconnect.

Requests go over HTTP; inside a Ray cluster, and in a test's harness, another transport takes them to the same routes in
this process. A blocking client runs the same code over blocking connections. A mutating call sends the same body and
Operation-Id at every try (S-61).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Protocol, Self
from urllib.parse import quote, urlsplit

from pydantic import TypeAdapter, ValidationError

from helmr.client import calls, problems, ray
from helmr.client.calls import (
    READ_TIMEOUT_S,
    Call,
    Download,
    Event,
    EventReader,
    Feed,
    Retry,
    T,
    Tries,
    call,
    is_elsewhere,
)
from helmr.client.endpoint import Addresses, Endpoint, SignedIn
from helmr.client.problems import httpx
from helmr.current import code_place
from helmr.errors import HelmrError, Standby, Unavailable, UsageError
from helmr.models import ACCESS_TOKEN_HEADER, STALE_HEADER, Page
from helmr.wire.operation import Operation

log = logging.getLogger("helmr.client")

CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 200
CONNECTIONS_IDLE_MAX = 20
FEED_SILENCE_S = 45.0
"""Silence after which a feed counts as dead: the gateway sends a comment every 15 s."""
PAIR_SILENCE_S = 20.0
"""Silence after which a feed counts as dead if there is another address."""
PAIR_READ_TIMEOUT_S = 5.0
"""Longest silence of an ordinary answer if there is another address: a paused runtime accepts connections."""
PASSED_OVER_S = 5.0
"""Seconds without calls to a silent runtime while another stands by, which takes over meanwhile."""
SAME_PAUSE_S = 0.1
"""Least pause between two tries at one address."""
FEED_STEADY_S = 5.0
"""A connection that lasts this long counts as an answer, even without items."""
REOPEN_EARLY_S = 1.0
"""Most seconds after its deadline that a silent feed returns."""


class FeedFollower(Generic[T]):
    """A follower's position in a feed, and its reconnection."""

    def __init__(
        self,
        feed: Feed[T],
        retry: Retry,
        *,
        addresses: Addresses,
        deadline_s: float | None = None,
    ) -> None:
        self._feed = feed
        self._addresses = addresses
        self._url = addresses.url
        self._silence_max_s = FEED_SILENCE_S if len(addresses) == 1 else PAIR_SILENCE_S
        self._tries = Tries(retry, addresses=len(addresses))
        self._tries.answered()  # no silence before the first break counts
        self._last = feed.after
        self._deadline_s = deadline_s
        self._silence_s = self._silence_max_s
        self._opened_at_s = time.monotonic()
        self._reader = EventReader()

    @property
    def name(self) -> str:
        """The feed in messages."""
        return f"GET {self._feed.path}"

    @property
    def is_over(self) -> bool:
        """True once the deadline has passed."""
        return self._deadline_s is not None and time.monotonic() >= self._deadline_s

    @property
    def wants_reopening(self) -> bool:
        """True if the deadline is nearer than this connection's longest silence."""
        left_s = self._left_s()
        return left_s is not None and left_s < self._silence_s - REOPEN_EARLY_S

    def request(self) -> dict[str, Any]:
        """The arguments of the next connection's request."""
        left_s = self._left_s()
        self._url = self._addresses.url
        self._silence_s = (
            self._silence_max_s if left_s is None else min(self._silence_max_s, max(left_s, 0.1))
        )
        self._reader = EventReader()
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._last is not None:
            headers["Last-Event-ID"] = str(self._last)
        if self._feed.bearer is not None:
            headers["Authorization"] = f"Bearer {_checked(self._feed.bearer)}"
        return {
            "params": self._feed.params,
            "headers": headers,
            "timeout": _timeout(self._silence_s),
        }

    def opened(self, response: httpx.Response) -> bool:
        """False if the feed has an end and this is it (204)."""
        if response.status_code == 204:
            return False
        if not response.is_success:
            raise problems.problem(response, url=self._url, name=self.name)
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "text/event-stream":
            raise problems.not_a_runtime(self._url, f"{self.name} is {kind or 'of no type'}")
        self._opened_at_s = time.monotonic()
        self._tries.connected()
        return True

    def items(self, text: str) -> list[T]:
        """Return the new items in this piece of the stream, without repeats (S-54)."""
        found: list[T] = []
        for event in self._reader.feed(text):
            if (beside := self._feed.beside.get(event.type)) is not None:
                found.append(self._read(beside, event))
                continue
            number = _number(event.id)
            if number is not None and self._last is not None and number <= self._last:
                continue
            if event.type not in ("entry", "record"):
                continue
            found.append(self._read(self._feed.item, event))
            self._last = number if number is not None else self._last
        # The gateway first sends a bare id: the start of a follower that gave none.
        if (number := _number(self._reader.last_id)) is not None:
            self._last = max(number, self._last or 0)
        if found or time.monotonic() - self._opened_at_s > FEED_STEADY_S:
            self._tries.answered()
        return found

    def _read(self, shape: TypeAdapter[Any], event: Event) -> T:
        try:
            item: T = shape.validate_json(event.data)
        except ValidationError as error:
            raise Unavailable(f"{self.name}: an event can't be read") from error
        return item

    def broke(self, error: HelmrError) -> float:
        """Seconds to pause before connecting again.

        Raises:
            HelmrError: `error`, if reconnecting can't help or the bounds are reached.
        """
        pause_s = self._tries.failed(error)
        if is_elsewhere(error):
            _turn(self._addresses, self._url, error)
        return _pause_s(pause_s, error, is_same=self._addresses.url == self._url)

    def ended(self) -> HelmrError:
        """Return the error for a feed that the other side closed."""
        return Unavailable(f"{self.name}: {self._url} closed the feed", url=self._url)

    def _left_s(self) -> float | None:
        return None if self._deadline_s is None else self._deadline_s - time.monotonic()


class _Connections(Protocol):
    """httpx's client for one event loop, or the blocking one behind coroutines that never suspend."""

    @property
    def is_closed(self) -> bool: ...

    async def request(self, call: Call[Any]) -> httpx.Response: ...

    def stream(
        self, path: str, request: dict[str, Any]
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Open an answer to read in pieces; an error's is read whole."""
        ...

    def texts(self, response: httpx.Response) -> AsyncIterator[str]: ...

    def pieces(self, response: httpx.Response) -> AsyncIterator[bytes]: ...

    async def pause(self, pause_s: float) -> None: ...

    def turn_to(self, url: str) -> None:
        """Send requests to that URL from now on."""
        ...

    async def close(self) -> None: ...


class AsyncHttpTransport:
    """Sends calls without blocking, on one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retry: Retry | None = None,
        on_behalf_of: str | None = None,
        carrier: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        with _translated(endpoint.url, "connect"):
            http: _Connections = _LoopConnections(
                **_settings(endpoint, on_behalf_of), transport=_carrier(endpoint, carrier)
            )
        self._bind(endpoint, retry, http)

    def _bind(self, endpoint: Endpoint, retry: Retry | None, http: _Connections) -> None:
        self._endpoint = endpoint
        self._addresses = Addresses(endpoint)
        self._retry = retry or Retry()
        self._http = http

    @property
    def endpoint(self) -> Endpoint:
        """The runtime, with the current address first."""
        at = self._addresses
        return (
            replace(self._endpoint, url=at.url, others=at.others) if at.others else self._endpoint
        )

    def turn(self) -> bool:
        """Turn to the next address; False if there is only one."""
        has_others = self._addresses.turn(self._addresses.url)
        if has_others:
            self._http.turn_to(self._addresses.url)
        return has_others

    async def call(self, call: Call[T]) -> T:
        """Send a call, with retries within its bounds, and return its answer.

        Raises:
            HelmrError: An error of the operation; `Unavailable` or a subclass after the last try.
        """
        tries = Tries(self._retry, addresses=len(self._addresses))
        while True:
            asked = self._addresses.url
            try:
                return await self._once(call)
            except HelmrError as error:
                pause_s = tries.failed(error, repeatable=call.is_repeatable)
                if is_elsewhere(error) and _turn(self._addresses, asked, error):
                    self._http.turn_to(self._addresses.url)
                pause_s = _pause_s(pause_s, error, is_same=self._addresses.url == asked)
            await self._http.pause(pause_s)

    async def follow(
        self, feed: Feed[T], *, deadline_s: float | None = None
    ) -> AsyncGenerator[T | None, None]:
        """Yield items of a feed, reconnecting after the last one, and None whenever a connection opens.

        Args:
            feed: The feed.
            deadline_s: End of the iterator, on the monotonic clock.

        Raises:
            HelmrError: The feed can't be opened, or not reopened within the bounds of `Retry`.
        """
        following = FeedFollower(
            feed, self._retry, addresses=self._addresses, deadline_s=deadline_s
        )
        while not following.is_over:
            error: HelmrError | None = None
            try:
                with _translated(self._addresses.url, following.name):
                    http = self._open()
                    async with http.stream(feed.path, following.request()) as response:
                        if not following.opened(response):
                            return
                        yield None
                        async for text in http.texts(response):
                            for item in following.items(text):
                                yield item
                            if following.wants_reopening:
                                break
                        else:
                            error = following.ended()
            except HelmrError as broken:
                error = broken
            if error is not None and not following.is_over:
                pause_s = following.broke(error)
                if len(self._addresses) > 1:
                    self._http.turn_to(self._addresses.url)
                await self._http.pause(pause_s)

    async def items(self, feed: Feed[T]) -> AsyncGenerator[T, None]:
        """Yield items of a feed, to its end if it has one."""
        found = self.follow(feed)
        async with aclosing(found) as pieces:
            async for item in pieces:
                if item is not None:
                    yield item

    async def download(self, wanted: Download) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of a file as they arrive.

        Raises:
            HelmrError: The file can't be opened; `Unavailable` if it breaks off.
        """
        url = self._addresses.url
        with _translated(url, wanted.name):
            http = self._open()
            async with http.stream(wanted.path, _file_request(wanted)) as response:
                _check_file(response, wanted, url)
                async for piece in http.pieces(response):
                    yield piece

    async def close(self) -> None:
        """Close the connections. Later calls raise UsageError."""
        await self._http.close()

    async def _once(self, call: Call[T]) -> T:
        http, url = self._open(), self._addresses.url
        if len(self._addresses) > 1 and call.read_timeout_s == READ_TIMEOUT_S:
            call = replace(call, read_timeout_s=PAIR_READ_TIMEOUT_S)
        with _translated(url, call.name, mutates=call.operation_id is not None):
            response = await http.request(call)
        if (as_of := response.headers.get(STALE_HEADER)) is not None:
            log.warning("%s may lack what another runtime has taken since %s", url, as_of)
        return problems.answer(call, response, url=url)

    def _open(self) -> _Connections:
        if self._http.is_closed:
            raise UsageError("the client is closed", hint="Make a new Client.")
        return self._http


class HttpTransport(AsyncHttpTransport):
    """The same over blocking connections, so that its coroutines finish without an event loop (`finish`).

    It is thread-safe.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retry: Retry | None = None,
        on_behalf_of: str | None = None,
        carrier: httpx.BaseTransport | None = None,
    ) -> None:
        with _translated(endpoint.url, "connect"):
            http: _Connections = _BlockingConnections(
                **_settings(endpoint, on_behalf_of),
                transport=_blocking_carrier(endpoint, carrier),
            )
        self._bind(endpoint, retry, http)

    def _open(self) -> _Connections:
        if self._endpoint.here is None:
            _warn_of_blocked_loop()
        return super()._open()


_told: set[str] = set()
"""Places of code that were logged already."""


def _warn_of_blocked_loop() -> None:
    """Log once each line that calls a blocking client on an event loop, and so stops everything else on that loop.

    Cells of a notebook are exempt, since nothing else needs their loop.
    """
    if asyncio._get_running_loop() is None or "ipykernel" in sys.modules:
        return
    place = code_place()
    if place not in _told:
        _told.add(place)
        log.warning(
            "%s calls the blocking Client in an `async def`, which stops everything else on that event loop meanwhile: "
            "await AsyncClient, or call it through asyncio.to_thread",
            place,
        )


class ClientPart:
    """Part of an awaited client, over its transport."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def _ask(self, operation: Operation[T], *ids: str, **parts: Any) -> T:
        """Send an operation and return its answer; arguments as for `call`."""
        return await self._transport.call(call(operation, *ids, **parts))


async def all_pages(fetch: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    """Yield every item of a list; fetch the next page when the last one is used up."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page.items:
            yield item
        if page.next_cursor is None:
            return
        cursor = page.next_cursor


class _LoopConnections:
    """Connections of an event loop."""

    def __init__(self, **settings: Any) -> None:
        self._http = httpx.AsyncClient(**settings)

    @property
    def is_closed(self) -> bool:
        return self._http.is_closed

    async def request(self, call: Call[Any]) -> httpx.Response:
        return await self._http.request(call.method, call.path, **_request(call))

    @asynccontextmanager
    async def stream(self, path: str, request: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        async with self._http.stream("GET", path, **request) as response:
            if response.is_error:
                await response.aread()
            yield response

    def texts(self, response: httpx.Response) -> AsyncIterator[str]:
        return response.aiter_text()

    def pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        return response.aiter_bytes()

    def turn_to(self, url: str) -> None:
        self._http.base_url = url

    async def pause(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)

    async def close(self) -> None:
        await self._http.aclose()


class _BlockingConnections:
    """Connections of threads."""

    def __init__(self, **settings: Any) -> None:
        self._http = httpx.Client(**settings)

    @property
    def is_closed(self) -> bool:
        return self._http.is_closed

    async def request(self, call: Call[Any]) -> httpx.Response:
        return self._http.request(call.method, call.path, **_request(call))

    @asynccontextmanager
    async def stream(self, path: str, request: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        with self._http.stream("GET", path, **request) as response:
            if response.is_error:
                response.read()
            yield response

    async def texts(self, response: httpx.Response) -> AsyncIterator[str]:
        for text in response.iter_text():
            yield text

    async def pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        for piece in response.iter_bytes():
            yield piece

    def turn_to(self, url: str) -> None:
        self._http.base_url = url

    async def pause(self, pause_s: float) -> None:
        time.sleep(pause_s)  # noqa: ASYNC251  # no event loop waits for it

    async def close(self) -> None:
        self._http.close()


class _translated:  # noqa: N801  # reads as the verb it is
    """Turns httpx's exceptions into ours as they leave a `with` block."""

    def __init__(self, url: str, name: str, *, mutates: bool = False) -> None:
        self._url = url
        self._name = name
        self._mutates = mutates

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and problems.is_foreign(error):
            raise problems.foreign(
                error, url=self._url, name=self._name, mutates=self._mutates
            ) from error


def _turn(addresses: Addresses, asked: str, error: HelmrError) -> bool:
    """Turn away from the address that failed; return True if there are several."""
    is_silent = isinstance(error.__cause__, (httpx.ReadTimeout, httpx.ConnectTimeout))
    silent_s = PASSED_OVER_S if is_silent else 0.0
    return addresses.turn(asked, silent_s=silent_s, stands_by=isinstance(error, Standby))


def _pause_s(pause_s: float, error: HelmrError, *, is_same: bool) -> float:
    """Return the pause before the next try, so that the same address gets no calls in a burst."""
    return pause_s or (error.retry_after_s or SAME_PAUSE_S if is_same else 0.0)


def _number(event_id: str) -> int | None:
    return int(event_id) if event_id.isascii() and event_id.isdigit() else None


class _Renewing(httpx.Auth):
    """Sends the token of a sign-in, renewed when it is due."""

    def __init__(self, signed_in: SignedIn) -> None:
        self._signed_in = signed_in

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Renew the token if due, and add it to the request."""
        self._sign(request, self._signed_in.token())
        yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Do the same, with slow calls in a thread."""
        is_due = self._signed_in.is_due()
        token = (
            await asyncio.to_thread(self._signed_in.token) if is_due else self._signed_in.token()
        )
        self._sign(request, token)
        yield request

    def _sign(self, request: httpx.Request, token: str) -> None:
        request.headers["Authorization"] = f"Bearer {_checked(token)}"
        access = self._signed_in.access_token()
        if access is not None:
            request.headers[ACCESS_TOKEN_HEADER] = _checked(access)


def _settings(endpoint: Endpoint, on_behalf_of: str | None) -> dict[str, Any]:
    headers = {"Accept": "application/json", "User-Agent": "helmr-python"}
    signed_in = endpoint.signed_in
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {_checked(endpoint.key)}"
    if on_behalf_of is not None:
        # Header values are ASCII; names of people are not.
        headers["On-Behalf-Of"] = quote(on_behalf_of, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
    hosts = {urlsplit(url).hostname for url in (endpoint.url, *endpoint.others)}
    is_secure = any(urlsplit(url).scheme == "https" for url in (endpoint.url, *endpoint.others))
    return {
        "base_url": "http://ray" if endpoint.is_ray else endpoint.url,
        "headers": headers,
        "auth": _Renewing(signed_in) if signed_in is not None else None,
        "timeout": _timeout(None),
        "limits": httpx.Limits(
            max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_IDLE_MAX
        ),
        "follow_redirects": False,
        # A proxy from the environment does not apply to this machine's own addresses.
        "trust_env": not hosts & {"127.0.0.1", "localhost", "::1"},
        # Loading the machine's certificates takes longer than a whole call; http needs none.
        "verify": True if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    }


def _file_request(wanted: Download) -> dict[str, Any]:
    return {"headers": {"Accept": wanted.media_type}, "timeout": _timeout(READ_TIMEOUT_S)}


def _check_file(response: httpx.Response, wanted: Download, url: str) -> None:
    if not response.is_success:
        raise problems.problem(response, url=url, name=wanted.name)
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind != wanted.media_type:
        raise problems.not_a_runtime(url, f"{wanted.name} is {kind or 'of no type'}")


def _request(call: Call[Any]) -> dict[str, Any]:
    said = {**calls.trace_headers(), **dict(call.headers)}
    if call.body is not None:
        said["Content-Type"] = "application/json"
    if call.accept is not None:
        said["Accept"] = call.accept
    if call.operation_id is not None:
        said["Operation-Id"] = call.operation_id
    if call.bearer is not None:
        said["Authorization"] = f"Bearer {_checked(call.bearer)}"
    return {
        "params": call.params,
        "content": call.body,
        "headers": said,
        "timeout": _timeout(call.read_timeout_s),
    }


def _checked(secret: str) -> str:
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise UsageError(
            "the key contains characters that no key has", hint="Copy it again, whole."
        )
    return secret


def _timeout(read_s: float | None) -> httpx.Timeout:
    return httpx.Timeout(
        connect=CONNECT_TIMEOUT_S, read=read_s, write=WRITE_TIMEOUT_S, pool=POOL_TIMEOUT_S
    )


def _carrier(
    endpoint: Endpoint, given: httpx.AsyncBaseTransport | None
) -> httpx.AsyncBaseTransport | None:
    """Return the transport to a runtime in this process or its Ray cluster, else the given one; None means HTTP."""
    if endpoint.is_ray:
        return ray.carrier()
    return endpoint.here.carrier() if endpoint.here is not None else given


def _blocking_carrier(
    endpoint: Endpoint, given: httpx.BaseTransport | None
) -> httpx.BaseTransport | None:
    """Return the same for blocking connections."""
    if endpoint.is_ray:
        return ray.blocking_carrier()
    return endpoint.here.blocking_carrier() if endpoint.here is not None else given
