"""Answer links: made for a wait and a person at /v1/waits/{id}/links, opened at /v1/links/{secret} (S-74).

GET of a link shows, and never acts. POST answers its wait once: `{"data": …}` as JSON, or the page's form.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from helmr.errors import NotFound
from helmr.models import (
    AnswerLinkInfo,
    AnswerLinkReceipt,
    AnswerLinkRequest,
    AnswerRequest,
    Page,
    SendReceipt,
    TokenAnswerReceipt,
)
from helmr_runtime.http.access import address_of
from helmr_runtime.http.answer_flow import opened, show, submit
from helmr_runtime.http.bodies import read_raw
from helmr_runtime.http.link_page import LinkedWait
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import (
    CallerDep,
    PublicTokenId,
    ServiceDep,
    WaitId,
    caller_of,
    json_response,
)
from helmr_runtime.security.callbacks import CallbackForm, read_callback
from helmr_runtime.security.limits import RateLimiter
from helmr_runtime.security.secrets import SecretKind, parse_secret, secret_hash
from helmr_runtime.security.task_secrets import LINK_PATH
from helmr_runtime.service import Service

router = APIRouter(tags=["waits"])

PAGE = {"content": {"text/html": {"schema": {"type": "string"}}}}
Secret = Annotated[str, Path(description="An answer link's secret.")]


@router.post(
    "/v1/waits/{wait_id}/links",
    status_code=201,
    response_model=AnswerLinkReceipt,
    responses=documented(400, 404, 409, 413, 415, 422, 429),
)
async def create_link(
    wait_id: WaitId, body: AnswerLinkRequest, caller: CallerDep, service: ServiceDep
) -> Response:
    """Make a link by which one person answers this wait. Its URL is shown here and never again."""
    return json_response(await service.links.create(caller, wait_id, body), 201)


@router.get(
    "/v1/waits/{wait_id}/links",
    response_model=Page[AnswerLinkInfo],
    responses=documented(400, 404),
)
async def list_links(wait_id: WaitId, service: ServiceDep) -> Response:
    """List the links of a wait, newest first, revoked and expired ones too."""
    return json_response(Page[AnswerLinkInfo](items=list(await service.links.list(wait_id))))


@router.delete(
    "/v1/waits/{wait_id}/links/{link_id}",
    response_model=AnswerLinkInfo,
    responses=documented(400, 404, 409, 429),
)
async def revoke_link(
    wait_id: WaitId, link_id: PublicTokenId, caller: CallerDep, service: ServiceDep
) -> Response:
    """Revoke a link; its secret opens nothing from now on. Revoking again changes nothing."""
    return json_response(await service.links.revoke(caller, wait_id, link_id))


@router.get(
    "/v1/links/{secret}",
    response_class=Response,
    responses={200: {**PAGE, "description": "The answer page"}, **documented(404, 429, 503)},
)
async def show_link(secret: Secret, service: ServiceDep, request: Request) -> Response:
    """Show what the wait asks. Changes nothing."""
    linked = await opened(service, request, _linked(request, service, secret))
    return linked if isinstance(linked, Response) else await show(service, linked)


@router.head("/v1/links/{secret}", include_in_schema=False)
async def head_link(secret: Secret, service: ServiceDep, request: Request) -> Response:
    """As GET, without the page."""
    linked = await opened(service, request, _linked(request, service, secret))
    response = linked if isinstance(linked, Response) else await show(service, linked)
    return Response(status_code=response.status_code, headers=dict(response.headers))


@router.post(
    "/v1/links/{secret}",
    response_model=SendReceipt | TokenAnswerReceipt,
    responses={
        303: {"description": "A form was taken; the page says what was recorded"},
        **documented(400, 404, 409, 410, 413, 415, 422, 429, 503),
    },
)
async def answer_by_link(secret: Secret, service: ServiceDep, request: Request) -> Response:
    """Answer the wait on behalf of the link's person: `{"data": …}` as JSON, or the page's form."""
    linked = await opened(service, request, _linked(request, service, secret))
    if isinstance(linked, Response):
        return linked
    sent = read_callback(
        content_type=request.headers.get("content-type"),
        body=await read_raw(request),
        is_raw=False,
        token_is_raw=False,
    )
    if isinstance(sent, CallbackForm):
        return await submit(service, linked, sent, f"{LINK_PATH}{secret}")
    return json_response(await linked.answer(AnswerRequest(data=sent.data)))


async def _linked(request: Request, service: Service, secret: str) -> LinkedWait:
    """The wait behind a secret; one 404 for whatever is wrong with it (S-46)."""
    limiter: RateLimiter = request.app.limiter
    address = address_of(request)
    if parse_secret(secret) is not SecretKind.LINK:
        limiter.count_malformed(address)
        raise _nothing()
    hashed = secret_hash(secret)
    async with limiter.lookup(hashed):
        link = await service.links.find(hashed)
    if link is None:
        limiter.count_failure(address, hashed)
        raise _nothing()
    limiter.passed(hashed)
    limiter.admit_secret(hashed)
    caller = caller_of(link.principal, request.headers.get("operation-id"))
    return LinkedWait(service, await service.waits.get(link.wait_id), link, caller)


def _nothing() -> NotFound:
    return NotFound("there is nothing under this link")
