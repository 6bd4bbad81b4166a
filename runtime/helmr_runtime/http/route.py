"""The class of every route: authenticate, read the body, call, and tell what went wrong.

The gateway's edge: here, and nowhere else, an unexpected exception becomes an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from helmr import ids
from helmr.errors import HelmrError
from helmr_runtime.http.access import Authenticator, public_token_of
from helmr_runtime.http.bodies import read_model
from helmr_runtime.http.problems import from_validation, problem_response, unexpected
from helmr_runtime.security.origins import answer_headers
from helmr_runtime.security.roles import Need, route_need

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

NOBODY_LISTENS = 499
"""Status of an answer that is never sent: the client went away while it sent its body."""


class HelmrRoute(APIRoute):
    """A route of `helmr_runtime.security.roles.ROUTES`."""

    def get_route_handler(self) -> Handler:
        """The handler with its edge around it."""
        call = super().get_route_handler()
        place = route_need(next(iter(self.methods or ())), self.path)
        need, scope = place.need, place.public_scope
        model = self._body_model()

        async def handle(request: Request) -> Response:
            response = await answer(request)
            if scope is not None:
                origin = request.headers.get("origin")
                response.headers.update(answer_headers(public_token_of(request), origin))
            return response

        async def answer(request: Request) -> Response:
            try:
                if need not in (Need.NOTHING, Need.SECRET):
                    authenticator: Authenticator = request.app.state.authenticator
                    principal = await authenticator.authenticate(request, need, scope)
                    request.state.principal = principal
                if model is not None:
                    request = _Parsed(request, await read_model(request, model))
                return await call(request)
            except HelmrError as error:
                if error.code != HelmrError.code:
                    return problem_response(error)
                # A bug in the actor that was called; its text is for the log.
                error_id = ids.new_id("err")
                logger.error("%s: %s %s: %s", error_id, request.method, self.path, error.message)
                return problem_response(unexpected(error_id))
            except RequestValidationError as error:
                return problem_response(from_validation(error))
            except ClientDisconnect:
                return Response(status_code=NOBODY_LISTENS)
            except Exception:
                # The gateway's edge: the log says what happened, the caller learns under which id.
                error_id = ids.new_id("err")
                logger.exception("%s: %s %s failed", error_id, request.method, self.path)
                return problem_response(unexpected(error_id))

        return handle

    def _body_model(self) -> type[BaseModel] | None:
        if self.body_field is None:
            return None
        model = self.body_field.field_info.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        return model


class _Parsed(Request):
    """A request whose body was read already; the framework takes the model as it is."""

    def __init__(self, request: Request, model: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._model = model

    async def body(self) -> bytes:
        """The model: without a content type, which a body without fields may lack, the framework
        takes what this gives, and asks for JSON otherwise."""
        return self._model  # type: ignore[return-value]  # a true value, handed on as it is

    async def json(self) -> Any:
        """The model."""
        return self._model
