"""Answers: models as JSON, and the parts of requests that many routes share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from helmr import ids
from helmr.errors import BadId
from helmr.models import (
    NOTICE_TARGET_NAME,
    NOTICE_TARGET_NAME_MAX,
    SCHEDULE_NAME,
    SCHEDULE_NAME_MAX,
    AfterQuery,
    FollowQuery,
    ListQuery,
    OutputQuery,
)
from helmr_runtime.core.entries import Principal
from helmr_runtime.service import Caller, Service


def json_response(model: BaseModel, status_code: int = 200, *, exclude: Any = None) -> Response:
    """The model as JSON, by its wire names."""
    text = model.model_dump_json(by_alias=True, exclude=exclude)
    return Response(text, status_code=status_code, media_type="application/json")


# --- what a handler is given ----------------------------------------------------------------------


def _service(request: Request) -> Service:
    service: Service = request.app.service
    return service


def _id_pattern(prefix: str) -> dict[str, Any]:
    # Only documented: the service checks ids, and says which kind it expected.
    return {"pattern": _pattern_of(prefix)}


def _pattern_of(prefix: str) -> str:
    return f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"


def _caller(
    request: Request,
    operation_id: Annotated[
        str | None,
        Header(
            alias="Operation-Id",
            description="Makes the call repeatable: the same id with the same request gets the "
            "first receipt for 24 hours, with another one 409.",
            json_schema_extra=_id_pattern(ids.OPERATION),
        ),
    ] = None,
) -> Caller:
    return caller_of(request.state.principal, operation_id)


def caller_of(principal: Principal, operation_id: str | None) -> Caller:
    """Who calls, under the id of the header Operation-Id.

    Raises:
        BadId: The header is there and holds none; an empty one too, whose sender believes that the call is repeatable.
    """
    if operation_id is None:
        return Caller(principal)
    try:
        return Caller(principal, ids.check_id(operation_id, ids.OPERATION))
    except BadId as error:
        raise BadId(
            f"Operation-Id: {error.message}",
            hint=f"It is a TypeID, {_pattern_of(ids.OPERATION)}; without the header a call can't be repeated.",
        ) from error


ServiceDep = Annotated[Service, Depends(_service)]
CallerDep = Annotated[Caller, Depends(_caller)]

SessionId = Annotated[str, Path(json_schema_extra=_id_pattern(ids.SESSION))]
RunId = Annotated[str, Path(json_schema_extra=_id_pattern(ids.RUN))]
WaitId = Annotated[str, Path(json_schema_extra=_id_pattern(ids.WAIT))]
TokenId = Annotated[str, Path(json_schema_extra=_id_pattern(ids.TOKEN))]
PublicTokenId = Annotated[str, Path(json_schema_extra=_id_pattern(ids.PUBLIC_TOKEN))]
KeyId = Annotated[str, Path(json_schema_extra=_id_pattern(ids.API_KEY))]
StreamName = Annotated[
    str, Path(json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"})
]
ScheduleName = Annotated[
    str,
    Path(json_schema_extra={"pattern": SCHEDULE_NAME, "maxLength": SCHEDULE_NAME_MAX}),
]
NoticeTargetName = Annotated[
    str,
    Path(json_schema_extra={"pattern": NOTICE_TARGET_NAME, "maxLength": NOTICE_TARGET_NAME_MAX}),
]
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="Where to go on; wins over `after`."),
]


__all__ = [
    "AfterQuery",
    "CallerDep",
    "FollowQuery",
    "KeyId",
    "LastEventId",
    "ListQuery",
    "NoticeTargetName",
    "OutputQuery",
    "PublicTokenId",
    "Query",
    "RunId",
    "ScheduleName",
    "ServiceDep",
    "SessionId",
    "StreamName",
    "TokenId",
    "WaitId",
    "json_response",
]
