"""What surrounds every request: the Host check, headers of every answer, and counting.

Invariants: nothing of an answer is kept by caches or sniffed by browsers; a page of another name can't
drive a runtime on loopback (DNS rebinding).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from helmr.errors import HelmrError, NotFound
from helmr_runtime.http.metrics import Metrics
from helmr_runtime.http.problems import problem_response
from helmr_runtime.security.limits import check_host

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

NO_ROUTE = "none"
"""The route of a request that none took; its path may be anything and is not kept."""


ENCODED_SLASH = b"%2f"


class GatewayMiddleware:
    """ASGI middleware; see the module."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, allowed_hosts: frozenset[str] | None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        began_at_s = loop.time()

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                present = {name for name, _ in headers}
                message["headers"] = [*headers, *(h for h in HEADERS if h[0] not in present)]
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                seconds = loop.time() - began_at_s
                self._metrics.answered(scope["method"], route, message["status"], seconds)
            await send(message)

        try:
            if self._allowed_hosts is not None:
                check_host(_header(scope["headers"], b"host"), self._allowed_hosts)
            _check_slashes(scope.get("raw_path") or b"")
        except HelmrError as error:
            await problem_response(error)(scope, receive, send_on)
            return
        await self._app(scope, receive, send_on)


def _check_slashes(raw_path: bytes) -> None:
    """Return if the path has the same parts for the router, which decodes it first, as for a proxy in front.

    Raises:
        NotFound: It holds an encoded slash; no id or name here has one.
    """
    if ENCODED_SLASH in raw_path.lower():
        raise NotFound("no route has an encoded slash in its path")


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
