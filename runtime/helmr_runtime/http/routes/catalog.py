"""/v1/tasks and /v1/streams: what the runtime's code declares."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import APIRouter, Query
from starlette.responses import Response

from helmr.errors import BadCursor
from helmr.models import Page, StreamInfo, TaskInfo
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import ListQuery, ServiceDep, json_response

router = APIRouter(tags=["catalog"])

T = TypeVar("T", TaskInfo, StreamInfo)


@router.get("/v1/tasks", response_model=Page[TaskInfo], responses=documented(400))
async def list_tasks(query: Annotated[ListQuery, Query()], service: ServiceDep) -> Response:
    """List the tasks, with the JSON Schemas of their payloads and results, by id."""
    tasks = sorted((await service.catalog.get()).tasks, key=lambda task: task.id)
    return json_response(Page[TaskInfo].model_validate(_page(tasks, query)))


@router.get("/v1/streams", response_model=Page[StreamInfo], responses=documented(400))
async def list_streams(query: Annotated[ListQuery, Query()], service: ServiceDep) -> Response:
    """List the streams, with their JSON Schemas, by name."""
    streams = (await service.catalog.get()).streams
    ordered = sorted(streams, key=lambda stream: (stream.name, stream.direction, stream.tasks))
    return json_response(Page[StreamInfo].model_validate(_page(ordered, query)))


def _page(items: list[T], query: ListQuery) -> dict[str, object]:
    """A page of a list that is whole in memory; its cursor is the number of items before it."""
    start = 0
    if query.cursor is not None:
        if not (query.cursor.isascii() and query.cursor.isdecimal()) or len(query.cursor) > 9:
            raise BadCursor(f"{query.cursor[:40]!r} is not a cursor of this list")
        start = int(query.cursor)
    end = start + query.limit
    return {
        "items": items[start:end],
        "next_cursor": str(end) if end < len(items) else None,
    }
