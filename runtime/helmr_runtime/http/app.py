"""The ASGI app of a gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from helmr_runtime.core.entries import Principal
from helmr_runtime.http import openapi
from helmr_runtime.http.access import Access, Trusting
from helmr_runtime.http.metrics import Metrics
from helmr_runtime.http.middleware import GatewayMiddleware
from helmr_runtime.http.problems import from_http
from helmr_runtime.http.routes import (
    callbacks,
    catalog,
    health,
    keys,
    queries,
    runs,
    sessions,
    streams,
    tokens,
    waits,
)
from helmr_runtime.http.settings import HttpSettings
from helmr_runtime.security.limits import RateLimiter
from helmr_runtime.security.origins import preflight_headers
from helmr_runtime.security.roles import ROUTES
from helmr_runtime.service import Service

ROUTERS = (
    sessions.router,
    streams.router,
    waits.router,
    runs.router,
    tokens.router,
    callbacks.router,
    keys.router,
    queries.router,
    catalog.router,
    health.router,
)


def create_app(
    service: Service, settings: HttpSettings, *, trusts: Principal | None = None
) -> FastAPI:
    """The app over a service, which the caller starts and stops.

    Args:
        service: What the routes call.
        settings: Keys, hosts and times.
        trusts: Who acts in requests without a secret. Only for an app that nothing listens for: whoever reaches it
            may do everything.
    """
    app = FastAPI(
        title="Helmr",
        version=settings.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_name,
    )
    metrics = Metrics()
    app.state.service = service
    app.state.settings = settings
    app.state.metrics = metrics
    limiter = RateLimiter(service.now, settings.limits)
    app.state.limiter = limiter
    access = Access(
        settings.admin_key_hash,
        api_keys=service.api_keys,
        public_tokens=service.public_tokens,
        limiter=limiter,
        now=service.now,
    )
    app.state.authenticator = Trusting(access, trusts) if trusts is not None else access
    for router in ROUTERS:
        app.include_router(router)
    for path, methods in _public_paths().items():
        app.add_route(path, _preflight(methods), methods=["OPTIONS"], include_in_schema=False)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(GatewayMiddleware, metrics=metrics, allowed_hosts=settings.allowed_hosts)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.document(app, version=settings.version)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to replace it
    return app


def _public_paths() -> dict[str, tuple[str, ...]]:
    """The paths that public tokens may call, with their methods."""
    found: dict[str, tuple[str, ...]] = {}
    for route in ROUTES:
        if route.public_scope is not None:
            found[route.path] = (*found.get(route.path, ()), route.method)
    return found


def _preflight(methods: tuple[str, ...]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        headers = preflight_headers(
            request.headers.get("origin"),
            request.headers.get("access-control-request-method"),
            methods,
        )
        allowed = ", ".join(sorted({*_methods(request), "OPTIONS"}))
        return Response(status_code=204, headers={"Allow": allowed} | headers)

    return answer


def _operation_name(route: APIRoute) -> str:
    return route.name


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = from_http(error)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of one route; several may share the path.
        response.headers["Allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    return {
        method
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
