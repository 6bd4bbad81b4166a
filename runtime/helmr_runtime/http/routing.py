"""From the table of operations to what is served: which row a request names, and what happens around every call.

A row is served by the method of the service at its place, which takes the caller if it asks for one, the values of the
path's parameters, and the body or the query string as the row's model. What is no such call has a handler of its own.

The gateway's edge: here, and nowhere else, an unexpected exception becomes an answer.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from helmr import ids
from helmr.errors import HelmrError, OriginDenied
from helmr.models import NoFields
from helmr.operation import PAGE, Media, Operation
from helmr.roles import Owner
from helmr_runtime.http.access import Authenticator, GenerationHeader
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.problems import problem_response, unexpected
from helmr_runtime.security.origins import REFUSAL_HEADERS, answer_headers
from helmr_runtime.security.roles import check_owner, reaches_all
from helmr_runtime.service import Caller, Service

logger = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[Response]]
"""Takes the exchange, the path's values, and the body or the query string if the row has a model for it."""

CLIENT_LEFT = 499
"""Status of an answer that is never sent: the client went away while it sent its body."""


class ServedOperation:
    """A row as it is served: authenticate, read, call, and answer, also what went wrong.

    Args:
        row: The operation.
        service: What is called.
        handler: Called instead, if there is one.
        authenticator: Tells who sends a request.
        generations: What clients have met of promoted ledgers.
        is_head: Serves HEAD: the same answer without its body.
    """

    def __init__(
        self,
        row: Operation[Any],
        service: Service,
        handler: Handler | None,
        authenticator: Authenticator,
        generations: GenerationHeader,
        *,
        is_head: bool = False,
    ) -> None:
        self.row = row
        self.method = "HEAD" if is_head else row.method
        self._handler = handler
        self._authenticator = authenticator
        self._generations = generations
        self._maker = service.maker_of(row) if row.owner is Owner.OWN else None
        self._takes_caller = False
        if handler is None:
            noun, self._verb = row.served_at
            self._noun = getattr(service, noun)
            method = getattr(self._noun, self._verb)
            self._takes_caller = "caller" in inspect.signature(method).parameters

    async def answer(self, exchange: Exchange) -> Response:
        """The answer to a request whose path and method are this row's, also when it is refused or fails."""
        row = self.row
        try:
            response = await self._answer(exchange)
        except HelmrError as error:
            response = self._refusal(error)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_LEFT)
        except Exception:
            # The gateway's edge: the log says what happened, the caller learns under which id.
            error_id = ids.new_id("err")
            logger.exception("%s: %s %s failed", error_id, self.method, row.path)
            response = problem_response(unexpected(error_id))
        self._generations.tell(response)
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
            await self._generations.meet(exchange)
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
        return Caller(exchange.principal, role=exchange.role)

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

    def _refusal(self, error: HelmrError) -> Response:
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


def served(
    rows: Iterable[Operation[Any]],
    service: Service,
    handlers: Mapping[str, Handler],
    authenticator: Authenticator,
    generations: GenerationHeader,
) -> Paths:
    """All rows as they are served."""
    paths = Paths()
    for row in rows:
        handler = handlers.get(row.name)
        paths.add(ServedOperation(row, service, handler, authenticator, generations))
        if row.reply is PAGE:
            head = ServedOperation(row, service, handler, authenticator, generations, is_head=True)
            paths.add(head)
    return paths


# --- paths ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PathPlace:
    """A path and what is served there.

    Attributes:
        path: As declared, `/v1/waits/{wait_id}`.
        by_method: The operations.
        public_methods: Those that public tokens may call.
    """

    path: str
    by_method: dict[str, ServedOperation] = field(default_factory=dict)
    public_methods: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    """Where a path has got to; a part behind it is one of `fixed`, or the value of a parameter."""

    fixed: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    place: PathPlace | None = None


class Paths:
    """Which operation a path names, part by part."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, operation: ServedOperation) -> None:
        """Serve this one too."""
        row, node = operation.row, self._root
        for part in _parts(row.path):
            node = _next(node, part)
        if node.place is None:
            node.place = PathPlace(row.path)
        assert node.place.path == row.path
        node.place.by_method[operation.method] = operation
        if row.scope is not None:
            node.place.public_methods += (row.method,)

    def find(self, path: str) -> tuple[PathPlace, tuple[str, ...]] | None:
        """The place that a decoded path names, and the values of its parameters; None if it names none."""
        node = self._root
        values: list[str] = []
        for part in _parts(path):
            after = node.fixed.get(part)
            if after is None:
                if node.parameter is None or not part:
                    return None
                after = node.parameter
                values.append(part)
            node = after
        return (node.place, tuple(values)) if node.place is not None else None


def _parts(path: str) -> list[str]:
    return path.split("/")[1:]


def _next(node: _Node, part: str) -> _Node:
    if not part.startswith("{"):
        return node.fixed.setdefault(part, _Node())
    if node.parameter is None:
        node.parameter = _Node()
    return node.parameter


def _without_body(response: Response) -> Response:
    return Response(status_code=response.status_code, headers=dict(response.headers))
