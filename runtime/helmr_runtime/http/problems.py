"""Errors as problem details: one function maps every error to its answer.

Source: RFC 9457.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

from pydantic import ValidationError
from starlette.responses import Response

from helmr.errors import (
    BadFilter,
    BadRequest,
    HelmrError,
    Moved,
    NotFound,
    StaleEpoch,
    Unavailable,
    UsageError,
)
from helmr.models import FieldProblem, Problem
from helmr.wire.operations import SHOW_ERRORS

MEDIA_TYPE = "application/problem+json"
PAGING = ("limit", "cursor", "after")
"""Query parameters that filter nothing."""

ERRORS_PATH = SHOW_ERRORS.path

RETRY_AFTER_S = 1
"""Seconds to wait before a retry, if the error has no better value (S-64)."""


def problem_response(error: HelmrError) -> Response:
    """The error as a response with problem details."""
    if isinstance(error, (Moved, StaleEpoch)):
        # Errors between actors; a client can only try again.
        error = Unavailable("the session is moving between actors", hint="Try again.")
    problem = Problem(
        type=page_of(error.code),
        title=error.title,
        status=error.status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        errors=[FieldProblem(path=e["path"], message=e["message"]) for e in error.errors],
        facts=error.facts,
    )
    return Response(
        problem.model_dump_json(),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers=_headers(error),
    )


NO_ROUTE = {
    HTTPStatus.NOT_FOUND: "there is no such route",
    HTTPStatus.METHOD_NOT_ALLOWED: "this route does not take this method",
}


def page_of(code: str) -> str:
    """The path at which this gateway explains a code, below the runtime's URL."""
    return f"{ERRORS_PATH}#{code}"


def unexpected(error_id: str) -> HelmrError:
    """The error that a caller sees for a bug: only the id under which the log has it."""
    return HelmrError(
        f"something went wrong in the runtime ({error_id})",
        hint="The runtime's log says more under that id.",
        error_id=error_id,
    )


def from_validation(error: ValidationError, *, is_query: bool = False) -> UsageError:
    """Translate a model's refusal of a request: unknown or missing fields, wrong types, unknown filters."""
    errors = [
        {"path": ".".join(map(str, item["loc"])), "message": str(item["msg"])}
        for item in error.errors()
    ]
    first = errors[0]
    where = f"{first['path']}: " if first["path"] else ""
    kind = BadFilter if is_query and first["path"] not in PAGING else BadRequest
    return kind(f"{where}{first['message']}", errors=errors)


def no_route(status: HTTPStatus, headers: Mapping[str, str]) -> Response:
    """The response for a missing route (404) or method (405)."""
    is_missing = status is HTTPStatus.NOT_FOUND
    problem = Problem(
        type=page_of(NotFound.code) if is_missing else "about:blank",
        title=status.phrase,
        status=status.value,
        detail=NO_ROUTE[status],
        hint="/v1/openapi.json, below the runtime's URL, lists the routes.",
        code=NotFound.code if is_missing else status.name.lower(),
    )
    return Response(
        problem.model_dump_json(), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def _headers(error: HelmrError) -> Mapping[str, str]:
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable and error.status in (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ):
        wait_s = error.retry_after_s if error.retry_after_s is not None else RETRY_AFTER_S
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        # The rest of the body is not read, so this connection can't be used again.
        headers["Connection"] = "close"
    return headers
