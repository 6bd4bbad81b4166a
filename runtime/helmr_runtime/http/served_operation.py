"""A served operation answers its requests: it authenticates, reads, calls the service, and shapes the reply.

A row of `helmr.wire.operations` is served by its method of the service, which takes the caller if it has such a
parameter, the values of the path's parameters, and the body or the query string as the row's model. Rows without a
service method have a handler. The sender is checked once, by the row. Every bad secret gets the same answer.

This is the gateway's edge: only here an unexpected exception becomes an answer.

Invariants: S-46 and S-51 (rights of a secret), S-102 (answers that may be stale say so).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from helmr.errors import HelmrError, OriginDenied, Standby
from helmr.models import STALE_HEADER, NoFields
from helmr.wire import ids
from helmr.wire.operation import PAGE, Media, Operation
from helmr.wire.roles import Need, Owner, ScopeType
from helmr_runtime.core.entries import Principal
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.problems import problem_response, unexpected
from helmr_runtime.security.origins import REFUSAL_HEADERS, answer_headers
from helmr_runtime.security.role_checks import check_owner, reaches_all
from helmr_runtime.service import Caller, Service

logger = logging.getLogger(__name__)


class Authenticator(Protocol):
    """Finds the sender of a request."""

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        """Return the caller's principal, if it may use the route.

        Args:
            exchange: The request; gets the key's `role`, or the `public_token`.
            need: The right that the route needs.
            scope: The scope of public tokens that may use it instead.

        Raises:
            NotAllowed: 401 without a good secret, 403 if it does not cover the route.
            Overloaded: Too many calls or wrong secrets.
        """
        ...


Handler = Callable[..., Awaitable[Response]]
"""Takes the exchange, the path's values, and the body or the query string if the row has a model."""

CALLBACKS = "callbacks"
"""The tag of operations that outside systems call without a key."""

CLIENT_LEFT = 499
"""Status of an answer that is never sent: the client disconnected while it sent its body."""


def takes_caller(method: Callable[..., Any]) -> bool:
    """True if a method of the service takes the caller: it acts, or its reply depends on the caller."""
    return _has_caller(getattr(method, "__func__", method))


@cache
def _has_caller(function: Callable[..., Any]) -> bool:
    return "caller" in inspect.signature(function).parameters


def _may_be_stale(row: Operation[Any]) -> bool:
    """True if a row reads sessions; a row that needs no right shows nothing of them."""
    return (row.method == "GET" or row.may_be_stale) and row.need is not Need.NOTHING


class ServedOperation:
    """Serves one row: authenticate, read, call, and answer, errors included.

    Args:
        row: The operation.
        service: The service to call.
        handler: Called instead, if there is one.
        authenticator: Finds the sender of a request.
        is_head: Serves HEAD: the same answer without its body.
    """

    def __init__(
        self,
        row: Operation[Any],
        service: Service,
        handler: Handler | None,
        authenticator: Authenticator,
        *,
        is_head: bool = False,
    ) -> None:
        self.row = row
        self.method = "HEAD" if is_head else row.method
        self._handler = handler
        self._authenticator = authenticator
        self._takes_caller = False
        self._is_page = row.reply is PAGE or row.tag == CALLBACKS
        self._may_be_stale = _may_be_stale(row)
        noun, self._verb = row.served_at
        self._maker = service.part(noun).maker if row.owner is Owner.OWN else None
        if handler is None:
            self._noun = service.part(noun)
            method = getattr(self._noun, self._verb)
            self._takes_caller = takes_caller(method)

    async def answer(self, exchange: Exchange) -> Response:
        """Answer a request with this row's path and method, also when it is refused or fails."""
        row = self.row
        try:
            if self._is_page and exchange.settings.peer is not None:
                await exchange.service.staleness.look()  # raises Standby
            response = await self._answer(exchange)
            if self._may_be_stale:
                as_of = await exchange.service.staleness.as_of()
                if as_of is not None:
                    response.headers[STALE_HEADER] = as_of
        except Standby as error:
            with suppress(
                HelmrError
            ):  # tells the ledger that a client came: the other runtime may be gone
                await exchange.service.staleness.look()
            response = self._refusal(error, exchange)
        except HelmrError as error:
            response = self._refusal(error, exchange)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_LEFT)
        except Exception:
            # The gateway's edge: the log has the error, the caller gets its id.
            error_id = ids.new_id("err")
            logger.exception("%s: %s %s failed", error_id, self.method, row.path)
            response = problem_response(unexpected(error_id))
        if row.scope is not None:
            origin = exchange.headers.get("origin")
            response.headers.update(answer_headers(exchange.public_token, origin))
        return response

    async def _answer(self, exchange: Exchange) -> Response:
        row = self.row
        if row.needs_key:
            exchange.principal = await self._authenticator.authenticate(
                exchange, row.need, row.scope
            )
            if self._maker is not None and not reaches_all(row, exchange.role):
                made_by = await self._maker(exchange.parts[-1])
                check_owner(exchange.role, exchange.principal, made_by)
        given: tuple[Any, ...] = exchange.parts
        if row.body is not None:
            body = await exchange.body_as(row.body)
            given = given if row.body is NoFields else (*given, body)
        elif row.query is not None:
            given = (*given, exchange.query_as(row.query))
        if self._handler is not None:
            response = await self._handler(exchange, *given)
            return response if self.method == row.method else _without_body(response)
        if self._takes_caller:
            given = (self._caller(exchange), *given)
        return self._shaped(await getattr(self._noun, self._verb)(*given), exchange)

    def _caller(self, exchange: Exchange) -> Caller:
        if self.row.takes_operation_id:
            return exchange.caller()
        return Caller(exchange.principal, role=exchange.role, identity=exchange.identity)

    def _shaped(self, reply: Any, exchange: Exchange) -> Response:
        row = self.row
        if isinstance(reply, BaseModel):
            is_old = 200 in row.others and not getattr(reply, "created", True)
            return json_response(reply, 200 if is_old else row.status, exclude=row.excluded)
        if isinstance(row.reply, Media):
            named = dict(zip(row.path_names, exchange.parts, strict=True))
            filename = row.reply.filename.format_map(named)
            headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
            return StreamingResponse(reply, media_type=row.reply.content_type, headers=headers)
        return Response(reply, media_type="application/json")

    def _refusal(self, error: HelmrError, exchange: Exchange) -> Response:
        peer = exchange.settings.peer
        if peer is not None and self._is_page and isinstance(error, Standby):
            return Response(status_code=307, headers={"Location": peer + exchange.target})
        if error.code == HelmrError.code:
            # A bug in the actor that was called; its text is for the log.
            error_id = ids.new_id("err")
            logger.error("%s: %s %s: %s", error_id, self.method, self.row.path, error.message)
            return problem_response(unexpected(error_id))
        response = problem_response(error)
        if isinstance(error, OriginDenied) and self.row.scope is not None:
            response.headers.update(REFUSAL_HEADERS)
        return response


def json_response(model: BaseModel, status_code: int = 200, *, exclude: Any = None) -> Response:
    """The model as JSON, by its wire names."""
    text = model.model_dump_json(by_alias=True, exclude=exclude)
    return Response(text, status_code=status_code, media_type="application/json")


def _without_body(response: Response) -> Response:
    return Response(status_code=response.status_code, headers=dict(response.headers))
