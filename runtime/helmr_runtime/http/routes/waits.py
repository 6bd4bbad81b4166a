"""/v1/waits: the inbox, and answering one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from helmr.models import (
    AnswerData,
    AnswerRequest,
    Page,
    Rehearsal,
    SendReceipt,
    TokenAnswerReceipt,
    WaitInfo,
    WaitsQuery,
)
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, ServiceDep, WaitId, json_response

router = APIRouter(tags=["waits"])

LIST_LEAVES_OUT = {"items": {"__all__": {"body", "json_schema", "initial", "on_decline", "answer"}}}


@router.get("/v1/waits", response_model=Page[WaitInfo], responses=documented(400))
async def list_waits(query: Annotated[WaitsQuery, Query()], service: ServiceDep) -> Response:
    """List waits: soonest end first, none last, then by id.

    Pending ones for input or a token, unless asked.
    """
    page = await service.waits.list(query)
    return json_response(page, exclude=LIST_LEAVES_OUT)


@router.get("/v1/waits/{wait_id}", response_model=WaitInfo, responses=documented(400, 404))
async def get_wait(wait_id: WaitId, service: ServiceDep) -> Response:
    """Get a wait in full, with the JSON Schema that its answer must fit."""
    return json_response(await service.waits.get(wait_id))


@router.post(
    "/v1/waits/{wait_id}/answer",
    response_model=SendReceipt | TokenAnswerReceipt,
    responses=documented(400, 404, 409, 410, 413, 415, 422, 429),
)
async def answer_wait(
    wait_id: WaitId, body: AnswerRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Answer exactly this wait; if it is over, say who ended it, when and with what."""
    return json_response(await service.waits.answer(caller, wait_id, body))


@router.post(
    "/v1/waits/{wait_id}/rehearse",
    response_model=Rehearsal,
    responses=documented(400, 404, 409, 410, 413, 415, 422, 429),
)
async def rehearse_answer(
    wait_id: WaitId, body: AnswerData, caller: CallerDep, service: ServiceDep
) -> Response:
    """Say what an answer would set off: the ops that the code asks for, to the first that touches the world.

    Stores nothing and lets nothing out.
    """
    return json_response(await service.waits.rehearse(caller, wait_id, body))
