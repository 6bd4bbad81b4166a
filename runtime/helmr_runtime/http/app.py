"""The ASGI app of a gateway finds the operation of a request, and adds headers, metrics and spans to every answer.

No framework stands between the server and a route; see decision 0095.

Invariants: caches keep no answer and browsers sniff none; a page of another host name can't drive a runtime on loopback
(DNS rebinding); a path has the same parts here as for a proxy in front.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import cached_property
from http import HTTPStatus
from pkgutil import resolve_name
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from helmr.errors import HelmrError, NotFound
from helmr.feature import operations_of
from helmr.wire.old_names import DEPRECATED_AT_S, path_of_today
from helmr.wire.operations import OPERATIONS
from helmr_runtime import tracing
from helmr_runtime.core.entries import Principal
from helmr_runtime.http import handlers, inbox, openapi, pages, sign_in_pages
from helmr_runtime.http.access import Access, Trusting
from helmr_runtime.http.browser import Browser
from helmr_runtime.http.exchange import HAS_OLD_NAMES, Exchange
from helmr_runtime.http.metrics import Metrics
from helmr_runtime.http.paths import served
from helmr_runtime.http.problems import no_route, problem_response
from helmr_runtime.http.served_operation import Authenticator
from helmr_runtime.http.settings import HttpSettings
from helmr_runtime.security.host_names import check_host
from helmr_runtime.security.origins import preflight_headers
from helmr_runtime.security.rate_limits import RateLimiter
from helmr_runtime.service import Service

logger = logging.getLogger(__name__)

SPECIAL = handlers.HANDLERS | pages.HANDLERS | sign_in_pages.HANDLERS | inbox.HANDLERS
"""Operations of the kernel with a handler of their own; all others are methods of the service."""

HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Default headers of every answer."""

DEPRECATION = (b"deprecation", f"@{DEPRECATED_AT_S}".encode())
"""Header of an answer to a request with old names (RFC 9745)."""

NO_ROUTE = "none"
"""The route label of a request without a route; its path may be anything and is not kept."""

ENCODED_SLASH = b"%2f"


class GatewayApp:
    """The app over a service, which the caller starts and stops.

    Args:
        service: The service that routes call.
        settings: Keys, hosts and times.
        trusts: The principal of requests without a secret. Only for an app without a port: anyone who reaches it may
            do everything.
    """

    def __init__(
        self, service: Service, settings: HttpSettings, *, trusts: Principal | None = None
    ) -> None:
        self.service = service
        self.settings = settings
        self.metrics = Metrics(service.features)
        service.watch(self.metrics.entries.seen)
        self.limiter = RateLimiter(service.now, settings.limits)
        self.access = access = Access(
            (settings.admin_key_hash, *settings.pair_key_hashes),
            api_keys=service.api_keys,
            public_tokens=service.public_tokens,
            people=service.people_view,
            sign_ins=service.sign_ins,
            limiter=self.limiter,
            now=service.now,
        )
        self.browser = Browser(access, service)
        self.authenticator: Authenticator = (
            Trusting(access, trusts) if trusts is not None else access
        )
        self._warned: set[tuple[str, str]] = set()
        """Routes at which a client used old names."""
        of_features = operations_of([one.face for one in service.features])
        self._operations = (*OPERATIONS, *of_features)
        special = dict(SPECIAL)
        for feature in service.features:
            special |= resolve_name(feature.handlers) if feature.handlers else {}
        self._paths = served(self._operations, service, special, self.authenticator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http"
        loop = asyncio.get_running_loop()
        began_at_s = loop.time()
        scope["app"] = self
        span = None
        if tracing.spans is not None:
            span = tracing.spans.request(scope["method"], scope["headers"])
        path, response = await self._answer(scope, receive)
        if span is not None:
            span.answered(path, response.status_code)
        present = {name for name, _ in response.raw_headers}
        response.raw_headers += [header for header in HEADERS if header[0] not in present]
        if HAS_OLD_NAMES in scope:
            response.raw_headers.append(DEPRECATION)
            self._warn_of_old_names(scope["method"], path)
        seconds = loop.time() - began_at_s
        # Counted after this turn of the loop, before any later request: no response waits for it.
        loop.call_soon(self.metrics.answered, scope["method"], path, response.status_code, seconds)
        await response(scope, receive, send)

    def _warn_of_old_names(self, method: str, path: str) -> None:
        """Log a client's old names, once for each route, so that operators see it before an upgrade."""
        if (method, path) not in self._warned:
            self._warned.add((method, path))
            logger.warning("%s %s: a client uses deprecated names, which will go", method, path)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[str, Response]:
        """The path of the route that took the request, and the answer."""
        try:
            if self.settings.allowed_hosts is not None:
                check_host(_header(scope["headers"], b"host"), self.settings.allowed_hosts)
            _check_slashes(scope.get("raw_path") or b"")
        except HelmrError as error:
            return NO_ROUTE, problem_response(error)
        path = scope["path"]
        found = self._paths.find(path)
        if found is None:
            found = self._paths.find(path_of_today(path))
            if found is None:
                return NO_ROUTE, no_route(HTTPStatus.NOT_FOUND, {})
            scope[HAS_OLD_NAMES] = True
        place, values = found
        operation = place.by_method.get(scope["method"])
        exchange = Exchange(scope, receive)
        if operation is not None:
            exchange.parts = values
            return place.path, await operation.answer(exchange)
        methods = sorted(place.by_method)
        if scope["method"] == "OPTIONS" and place.public_methods:
            allowed = {"Allow": ", ".join(sorted((*methods, "OPTIONS")))}
            told = preflight_headers(
                exchange.headers.get("origin"),
                exchange.headers.get("access-control-request-method"),
                place.public_methods,
            )
            return place.path, Response(status_code=204, headers=allowed | told)
        return place.path, no_route(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(methods)})

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi.document(self._operations, version=self.settings.version)


def _check_slashes(raw_path: bytes) -> None:
    """Check that the path, which is decoded here before it is split, has the same parts for a proxy in front.

    Raises:
        NotFound: It holds an encoded slash; no id or name here has one.
    """
    if ENCODED_SLASH in raw_path.lower():
        raise NotFound("no route has an encoded slash in its path")


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key == name), None)
