"""/v1/tokens: make, list, read, complete, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from helmr.models import (
    CompleteReceipt,
    CompleteRequest,
    NoFields,
    Page,
    TokenInfo,
    TokenReceipt,
    TokenRequest,
    TokensQuery,
)
from helmr_runtime.core.public_tokens import check_complete
from helmr_runtime.http.access import public_token_of
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, ServiceDep, TokenId, json_response

router = APIRouter(tags=["tokens"])

LIST_LEAVES_OUT = {"items": {"__all__": {"body", "json_schema", "initial", "data"}}}
NO_FIELDS = NoFields()
AS_USUAL = TokenRequest()


@router.post(
    "/v1/tokens",
    status_code=201,
    response_model=TokenReceipt,
    responses=documented(400, 409, 413, 415, 422, 429),
)
async def create_token(
    caller: CallerDep, service: ServiceDep, body: TokenRequest = AS_USUAL
) -> Response:
    """Make a token. Its callback URL and public token are shown here and never again."""
    return json_response(await service.tokens.create(caller, body), 201)


@router.get("/v1/tokens", response_model=Page[TokenInfo], responses=documented(400))
async def list_tokens(query: Annotated[TokensQuery, Query()], service: ServiceDep) -> Response:
    """List tokens, newest first."""
    page = await service.tokens.list(query)
    return json_response(page, exclude=LIST_LEAVES_OUT)


@router.get("/v1/tokens/{token_id}", response_model=TokenInfo, responses=documented(400, 404))
async def get_token(token_id: TokenId, service: ServiceDep) -> Response:
    """Get a token in full, with its data once it is completed."""
    return json_response(await service.tokens.get(token_id))


@router.post(
    "/v1/tokens/{token_id}/complete",
    response_model=CompleteReceipt,
    responses=documented(400, 404, 409, 410, 413, 415, 422, 429),
)
async def complete_token(
    token_id: TokenId,
    body: CompleteRequest,
    caller: CallerDep,
    service: ServiceDep,
    request: Request,
) -> Response:
    """Complete a token. The first completion wins; others are told who was first."""
    public_token = public_token_of(request)
    if public_token is not None:
        check_complete(public_token, token_id)
    receipt = await service.tokens.complete(
        caller,
        token_id,
        body,
        public_token_id=public_token.id if public_token is not None else None,
    )
    return json_response(receipt)


@router.post(
    "/v1/tokens/{token_id}/cancel",
    response_model=TokenInfo,
    responses=documented(400, 404, 409, 410, 413, 415, 429),
)
async def cancel_token(
    token_id: TokenId, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Cancel a token and the waits on it. Cancelling again changes nothing."""
    return json_response(await service.tokens.cancel(caller, token_id))
