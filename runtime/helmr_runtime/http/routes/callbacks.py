"""/v1/callbacks/{secret}: completing a token by its URL, and the page for people (S-42).

GET shows, and never acts. POST acts by content type: JSON as programs send it, a form as the page sends it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from helmr.errors import NotFound, TokenNotFound
from helmr.models import CompleteReceipt, CompleteRequest
from helmr.roles import ScopeType
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import PublicToken
from helmr_runtime.http.access import address_of
from helmr_runtime.http.answer_flow import opened, show, submit
from helmr_runtime.http.bodies import read_raw
from helmr_runtime.http.callback_page import Callback
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import ServiceDep, caller_of, json_response
from helmr_runtime.security.callbacks import CallbackForm, read_callback
from helmr_runtime.security.limits import RateLimiter
from helmr_runtime.security.origins import check_origin
from helmr_runtime.security.secrets import SecretKind, parse_secret, secret_hash
from helmr_runtime.service import Service

router = APIRouter(tags=["callbacks"])

PAGE = {"content": {"text/html": {"schema": {"type": "string"}}}}
Secret = Annotated[str, Path(description="A callback secret, or the public token of a token.")]


@router.get(
    "/v1/callbacks/{secret}",
    response_class=Response,
    responses={200: {**PAGE, "description": "The answer page"}, **documented(404, 429, 503)},
)
async def show_callback(secret: Secret, service: ServiceDep, request: Request) -> Response:
    """Show the page behind an emailed link. Changes nothing."""
    callback = await opened(service, request, _callback(request, service, secret))
    return callback if isinstance(callback, Response) else await show(service, callback)


@router.head("/v1/callbacks/{secret}", include_in_schema=False)
async def head_callback(secret: Secret, service: ServiceDep, request: Request) -> Response:
    """As GET, without the page."""
    callback = await opened(service, request, _callback(request, service, secret))
    response = callback if isinstance(callback, Response) else await show(service, callback)
    return Response(status_code=response.status_code, headers=dict(response.headers))


@router.post(
    "/v1/callbacks/{secret}",
    response_model=CompleteReceipt,
    responses={
        303: {"description": "A form was taken; the page says what was recorded"},
        **documented(400, 404, 409, 410, 413, 415, 422, 429, 503),
    },
)
async def complete_by_callback(secret: Secret, service: ServiceDep, request: Request) -> Response:
    """Complete the token: `{"data": …}` as JSON, `?raw=1` for raw tokens, or the page's form."""
    callback = await opened(service, request, _callback(request, service, secret))
    if isinstance(callback, Response):
        return callback
    token = callback.token
    raw = await read_raw(request)
    verification = service.tokens.verification(token)
    if verification is not None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        verification.check(headers, raw, now=service.now())
    sent = read_callback(
        content_type=request.headers.get("content-type"),
        body=raw,
        is_raw=request.query_params.get("raw") == "1",
        token_is_raw=bool(token["raw"]),
    )
    if isinstance(sent, CallbackForm):
        return await submit(service, callback, sent, f"/v1/callbacks/{secret}")
    if callback.public_token is not None:
        check_origin(callback.public_token, request.headers.get("origin"))
    receipt = await service.tokens.complete(
        callback.caller,
        token["id"],
        CompleteRequest(data=sent.data),
        public_token_id=callback.public_token_id,
    )
    return json_response(receipt)


async def _callback(request: Request, service: Service, secret: str) -> Callback:
    """The token behind a secret; one 404 for whatever is wrong with it (S-46)."""
    limiter: RateLimiter = request.app.limiter
    address = address_of(request)
    kind = parse_secret(secret)
    if kind not in (SecretKind.CALLBACK, SecretKind.PUBLIC_TOKEN):
        limiter.count_malformed(address)
        raise _nothing()
    hashed = secret_hash(secret)
    async with limiter.lookup(hashed):
        found = await _find(request, service, kind, hashed)
    if found is None:
        limiter.count_failure(address, hashed)
        raise _nothing()
    limiter.passed(hashed)
    limiter.admit_secret(hashed)
    return found


def _nothing() -> NotFound:
    return NotFound("there is nothing under this link")


async def _find(
    request: Request, service: Service, kind: SecretKind, hashed: str
) -> Callback | None:
    public_token: PublicToken | None = None
    if kind is SecretKind.CALLBACK:
        token = await service.tokens.by_callback(hashed)
        principal = Principal("callback", token["id"]) if token is not None else None
    else:
        public_token = await service.public_tokens.find(hashed)
        if public_token is None or public_token.scope.type is not ScopeType.TOKEN_COMPLETE:
            return None
        if public_token.revoked_at is not None or service.now() >= public_token.expires_at:
            return None
        principal = Principal("public_token", public_token.id)
        try:
            token = await service.tokens.in_full(public_token.scope.token_id or "")
        except TokenNotFound:
            return None
    if token is None or principal is None:
        return None
    caller = caller_of(principal, request.headers.get("operation-id"))
    return Callback(service, token, caller, public_token)
