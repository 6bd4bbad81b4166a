"""/v1/public-tokens and /v1/api-keys: make, list, revoke."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from helmr.models import (
    ApiKeyInfo,
    ApiKeyReceipt,
    ApiKeyRequest,
    Page,
    PublicTokenInfo,
    PublicTokenReceipt,
    PublicTokenRequest,
)
from helmr.roles import ScopeType
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import (
    CallerDep,
    KeyId,
    ListQuery,
    PublicTokenId,
    ServiceDep,
    json_response,
)
from helmr_runtime.security.roles import check_delegation

router = APIRouter(tags=["access"])


@router.post(
    "/v1/public-tokens",
    status_code=201,
    response_model=PublicTokenReceipt,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def create_public_token(
    body: PublicTokenRequest, caller: CallerDep, service: ServiceDep, request: Request
) -> Response:
    """Make a public token for what the key may do itself. Its secret is shown here and never again."""
    check_delegation(request.state.role, ScopeType(body.scope.type))
    return json_response(await service.public_tokens.create(caller, body), 201)


@router.get("/v1/public-tokens", response_model=Page[PublicTokenInfo], responses=documented(400))
async def list_public_tokens(query: Annotated[ListQuery, Query()], service: ServiceDep) -> Response:
    """List public tokens, newest first, with the uses they have left."""
    return json_response(await service.public_tokens.list(**query.model_dump()))


@router.delete(
    "/v1/public-tokens/{public_token_id}",
    response_model=PublicTokenInfo,
    responses=documented(400, 404, 409, 429),
)
async def revoke_public_token(
    public_token_id: PublicTokenId, caller: CallerDep, service: ServiceDep, request: Request
) -> Response:
    """Revoke a public token that the same key has made, any with the role admin. Revoking again changes nothing."""
    role = request.state.role
    return json_response(await service.public_tokens.revoke(caller, public_token_id, role))


@router.post(
    "/v1/api-keys",
    status_code=201,
    response_model=ApiKeyReceipt,
    responses=documented(400, 409, 413, 415, 429),
)
async def create_api_key(body: ApiKeyRequest, caller: CallerDep, service: ServiceDep) -> Response:
    """Make an API key. Its secret is shown here and never again."""
    return json_response(await service.api_keys.create(caller, body), 201)


@router.get("/v1/api-keys", response_model=Page[ApiKeyInfo], responses=documented(400))
async def list_api_keys(query: Annotated[ListQuery, Query()], service: ServiceDep) -> Response:
    """List API keys, newest first."""
    return json_response(await service.api_keys.list(**query.model_dump()))


@router.delete(
    "/v1/api-keys/{key_id}", response_model=ApiKeyInfo, responses=documented(400, 404, 409, 429)
)
async def revoke_api_key(key_id: KeyId, caller: CallerDep, service: ServiceDep) -> Response:
    """Revoke an API key. Revoking again changes nothing."""
    return json_response(await service.api_keys.revoke(caller, key_id))
