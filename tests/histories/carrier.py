"""Carries the requests of Helmr's client with aiohttp, whose parser is C: half the processor of httpx's own pool."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import httpx
import yarl

CONNECTIONS_MAX = 64


class AiohttpCarrier(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient` over one aiohttp session; belongs to one event loop."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Its answer, whole.

        Raises:
            httpx.TransportError: There is none.
        """
        timeouts = request.extensions.get("timeout", {})
        try:
            async with self._session.request(
                request.method,
                yarl.URL(str(request.url), encoded=True),
                headers=[
                    (name, value)
                    for name, value in request.headers.items()
                    if name not in ("host", "content-length", "connection", "accept-encoding")
                ],
                data=request.content or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    sock_connect=timeouts.get("connect"), sock_read=timeouts.get("read")
                ),
            ) as response:
                body = await response.read()
                return httpx.Response(
                    response.status,
                    headers=list(response.headers.items()),
                    stream=_Whole(body),
                    request=request,
                )
        except aiohttp.ClientConnectorError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.ReadError(str(error), request=request) from error

    async def aclose(self) -> None:
        """Close its connections."""
        await self._session.close()


class _Whole(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
