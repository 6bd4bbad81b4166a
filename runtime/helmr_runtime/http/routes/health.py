"""/healthz, /readyz, /metrics and the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from helmr.errors import NotAllowed
from helmr.models import Health
from helmr.roles import Need
from helmr_runtime.http.access import Authenticator
from helmr_runtime.http.metrics import Metrics
from helmr_runtime.http.shape import ServiceDep

router = APIRouter(tags=["health"])

FOR_ANYBODY = {"ready", "reasons", "version", "now"}
"""What `/readyz` tells without a key: enough for a probe, nothing about the machine."""

_FOLDERS = re.compile(r"(?<=['\"])/(?:[^/'\"]+/)+|(?<![\w./])/(?:[^\s/'\"]+/)+")
"""Between quotes a folder's name may hold spaces."""


@router.get("/healthz", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def healthz() -> Response:
    """The gateway answers."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    response_model=Health,
    responses={503: {"model": Health, "description": "Not ready; says why"}},
)
async def readyz(request: Request, service: ServiceDep) -> Response:
    """Whether sessions can be started and answered. With a key it tells more."""
    health = await service.health.ready()
    if await _is_known(request):
        text = health.model_dump_json()
    else:
        reasons = [without_folders(reason, health.data_dir) for reason in health.reasons]
        told = health.model_copy(update={"reasons": reasons})
        text = told.model_dump_json(include=FOR_ANYBODY)
    status_code = 200 if health.ready else 503
    return Response(text, status_code=status_code, media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics(request: Request, service: ServiceDep) -> Response:
    """Numbers in the Prometheus text format."""
    metrics: Metrics = request.app.metrics
    return Response(await metrics.render(service), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/openapi.json", include_in_schema=False)
async def openapi_document(request: Request) -> Response:
    """This API as an OpenAPI document."""
    document: dict[str, Any] = request.app.document
    return JSONResponse(document)


def without_folders(text: str, data_dir: str | None = None) -> str:
    """The text with files named by their last part: where they lie is nobody else's to know."""
    if data_dir:
        text = text.replace(data_dir.rstrip("/") + "/", "").replace(data_dir, "the data directory")
    return _FOLDERS.sub("", text)


async def _is_known(request: Request) -> bool:
    authenticator: Authenticator = request.app.authenticator
    try:
        await authenticator.authenticate(request, Need.READ)
    except NotAllowed:
        return False
    return True
