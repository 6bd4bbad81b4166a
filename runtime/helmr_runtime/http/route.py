"""One route as it is served: authenticate, read the body, call, and tell what went wrong.

Routes are declared with FastAPI, which makes the OpenAPI document of them. Serving them is done here: what its function
is given is looked up once, when the route is made, instead of at each request.

The gateway's edge: here, and nowhere else, an unexpected exception becomes an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from helmr import ids
from helmr.errors import HelmrError, OriginDenied
from helmr.roles import Need
from helmr_runtime.http.access import Authenticator, public_token_of
from helmr_runtime.http.bodies import read_model
from helmr_runtime.http.problems import from_validation, problem_response, unexpected
from helmr_runtime.security.origins import REFUSAL_HEADERS, answer_headers
from helmr_runtime.security.roles import operation_at

logger = logging.getLogger(__name__)

Getter = Callable[[Request], Any]

NOBODY_LISTENS = 499
"""Status of an answer that is never sent: the client went away while it sent its body."""


class ServedRoute:
    """A route of `helmr.operations.OPERATIONS`.

    Args:
        declared: Its declaration, of one method.
    """

    def __init__(self, declared: APIRoute) -> None:
        self.method = "".join(declared.methods or ())
        self.path = declared.path
        place = operation_at(self.method, self.path)
        self._is_open = place.need in (Need.NOTHING, Need.SECRET)
        self._need, self._scope = place.need, place.scope
        self._function = cast("Callable[..., Awaitable[Response]]", declared.endpoint)
        self._getters = _getters(declared.dependant)
        self._body = _body_of(declared)

    async def answer(self, request: Request) -> Response:
        """The answer to a request whose path and method are this route's, also when it is refused or fails."""
        response = await self._answer(request)
        request.app.generations.tell(response)
        if self._scope is not None:
            origin = request.headers.get("origin")
            response.headers.update(answer_headers(public_token_of(request), origin))
        return response

    async def _answer(self, request: Request) -> Response:
        try:
            if not self._is_open:
                authenticator: Authenticator = request.app.authenticator
                request.state.principal = await authenticator.authenticate(
                    request, self._need, self._scope
                )
                await request.app.generations.meet(request)
            body = {}
            if self._body is not None:
                name, model = self._body
                body[name] = await read_model(request, model)
            return await self._function(**body, **_taken(self._getters, request))
        except OriginDenied as error:
            response = problem_response(error)
            response.headers.update(REFUSAL_HEADERS if self._scope is not None else {})
            return response
        except HelmrError as error:
            if error.code != HelmrError.code:
                return problem_response(error)
            # A bug in the actor that was called; its text is for the log.
            error_id = ids.new_id("err")
            logger.error("%s: %s %s: %s", error_id, self.method, self.path, error.message)
            return problem_response(unexpected(error_id))
        except RequestValidationError as error:
            return problem_response(from_validation(error))
        except ClientDisconnect:
            return Response(status_code=NOBODY_LISTENS)
        except Exception:
            # The gateway's edge: the log says what happened, the caller learns under which id.
            error_id = ids.new_id("err")
            logger.exception("%s: %s %s failed", error_id, self.method, self.path)
            return problem_response(unexpected(error_id))


def _body_of(declared: APIRoute) -> tuple[str, type[BaseModel]] | None:
    """Name and model of the function's parameter that is the body."""
    field = declared.body_field
    if field is None:
        return None
    model = field.field_info.annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return field.name, model


# --- what a function is given -----------------------------------------------------------------------


def _getters(function: Dependant) -> dict[str, Getter]:
    """What takes each parameter's value from a request; without the body."""
    getters: dict[str, Getter] = {}
    if function.request_param_name is not None:
        getters[function.request_param_name] = _itself
    getters |= {field.name: partial(_path_part, field.alias) for field in function.path_params}
    getters |= {
        field.name: partial(_header, field.alias, field.default) for field in function.header_params
    }
    getters |= {field.name: partial(_query, field) for field in function.query_params}
    for part in function.dependencies:
        assert part.name is not None
        getters[part.name] = partial(_called, part.call, _getters(part))
    return getters


def _itself(request: Request) -> Request:
    return request


def _path_part(name: str, request: Request) -> str:
    return cast("str", request.path_params[name])


def _header(name: str, default: str | None, request: Request) -> str | None:
    return request.headers.get(name, default)


def _query(field: Any, request: Request) -> Any:
    """The query as the model that the function takes. FastAPI reads it, as it documents it."""
    values, errors = request_params_to_args([field], request.query_params)
    if errors:
        raise RequestValidationError(errors)
    return values[field.name]


def _called(function: Any, getters: dict[str, Getter], request: Request) -> Any:
    return function(**_taken(getters, request))


def _taken(getters: dict[str, Getter], request: Request) -> dict[str, Any]:
    return {name: get(request) for name, get in getters.items()}
