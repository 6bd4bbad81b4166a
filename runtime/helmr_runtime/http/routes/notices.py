"""/v1/notices: who is told that something waits."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from helmr.models import NoFields, NoticeRetryReceipt, NoticeTargetInfo, NoticeTestReceipt, Page
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep, NoticeTargetName, ServiceDep, json_response

router = APIRouter(tags=["notices"])

NO_FIELDS = NoFields()


@router.get("/v1/notices", response_model=Page[NoticeTargetInfo], responses=documented(400))
async def list_notice_targets(service: ServiceDep) -> Response:
    """List the notice targets of the runtime's configuration, and how far each is. All are on one page."""
    return json_response(await service.notices.list())


@router.post(
    "/v1/notices/{target}/test",
    response_model=NoticeTestReceipt,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def tell_notice_target_a_test(
    target: NoticeTargetName, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Tell a notice target that this is a test, and say whether it took that. A repeated call tells again."""
    return json_response(await service.notices.test(target))


@router.post(
    "/v1/notices/{target}/retry",
    response_model=NoticeRetryReceipt,
    responses=documented(400, 404, 409, 413, 415, 429),
)
async def retry_notice_target(
    target: NoticeTargetName, caller: CallerDep, service: ServiceDep, body: NoFields = NO_FIELDS
) -> Response:
    """Try now what a notice target has not taken, also what it was passed by."""
    return json_response(service.notices.retry(target))
