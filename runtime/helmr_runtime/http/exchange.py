"""One request of an operation: read, its sender authenticated, served by the service, and answered.

A row of `helmr.operations` is served by the method of the service at its place, which takes the caller if it asks for
one, the values of the path's parameters, and the body or the query string as the row's model; what is no such call has
a handler of its own. A body is bounded before it is read, and strict when it is. Who asks is checked once, by the row:
the local admin key is known by its hash, other API keys and public tokens are asked of the service; whatever is wrong
with a secret, the answer is the same.

The gateway's edge: here, and nowhere else, an unexpected exception becomes an answer.

Invariants: S-28 (1.25 MiB), S-46 and S-51 (what a secret may do), S-102 (what may be stale says so); no
undocumented content type or encoding, unknown fields refused.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, TypeVar, cast, get_origin

from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from helmr import ids, jsonio
from helmr.errors import (
    BadId,
    BadRequest,
    HelmrError,
    OriginDenied,
    Standby,
    TooLarge,
    UnsupportedMedia,
)
from helmr.models import HTTP_BODY_BYTES_MAX, STALE_HEADER, NoFields
from helmr.old_names import REQUEST_FIELDS, request_of_today
from helmr.operation import PAGE, Media, Operation
from helmr.operations import RUN_QUERY, SPEAK_MCP
from helmr.roles import Need, Owner, Role, ScopeType
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.http.problems import from_validation, problem_response, unexpected
from helmr_runtime.http.settings import PEER, HttpSettings
from helmr_runtime.security.callbacks import media_type
from helmr_runtime.security.origins import REFUSAL_HEADERS, answer_headers
from helmr_runtime.security.rate_limits import RateLimiter
from helmr_runtime.security.role_checks import check_owner, reaches_all
from helmr_runtime.service import Caller, Service

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

NO_ADDRESS = "unknown"

HAS_OLD_NAMES = "helmr.has_old_names"
"""Of the scope of a request that named something as an earlier version did."""

_JSON_SUFFIX = re.compile(r"application/[!-.0-~]+\+json", re.ASCII)

LONG_BYTES = 64 * 1024
"""From here on a body is parsed with the collector of cycles at rest: JSON has none, and looking for them again and
again took up to three quarters of the time (measured: a megabyte of empty lists 83 and 22 ms)."""


class Exchange(Request):
    """A request, what its path names, and its sender once that is known.

    Attributes:
        parts: Values of the path's parameters, in order.
        principal: Who acts, once the sender is known.
        role: Of its key; None without one.
        public_token: That it came with, known before it is allowed anything.
        identity: The person, if it is proven that it is one.
    """

    parts: tuple[str, ...] = ()
    principal: Principal
    role: Role | None = None
    public_token: ScopedToken | None = None
    identity: Identity | None = None

    @property
    def service(self) -> Service:
        """What the gateway serves."""
        return cast("Service", self.app.service)

    @property
    def settings(self) -> HttpSettings:
        """Of the gateway."""
        return cast("HttpSettings", self.app.settings)

    @property
    def limiter(self) -> RateLimiter:
        """Of the gateway."""
        return cast("RateLimiter", self.app.limiter)

    @property
    def target(self) -> str:
        """Path and query, as they were sent."""
        path, query = self.scope["raw_path"], self.scope["query_string"]
        text: bytes = path + (b"?" + query if query else b"")
        return text.decode("latin-1")

    @property
    def address(self) -> str:
        """Where the request comes from, as limits count."""
        return self.client.host if self.client is not None else NO_ADDRESS

    @property
    def peer(self) -> str:
        """The other end of the connection, whatever headers say."""
        found = self.scope.get(PEER, self.scope.get("client"))
        return str(found[0]) if found is not None else NO_ADDRESS

    @property
    def bearer(self) -> str | None:
        """The request's bearer secret."""
        scheme, _, text = self.headers.get("authorization", "").partition(" ")
        return text.strip() if scheme.lower() == "bearer" and text.strip() else None

    def caller(self, principal: Principal | None = None) -> Caller:
        """Who calls, under the id of the header Operation-Id.

        Args:
            principal: Who acts by a secret in the path.

        Raises:
            BadId: The header is there and holds none; an empty one too, whose sender believes that the call is
                repeatable.
        """
        acting = principal if principal is not None else self.principal
        operation_id = self.headers.get("operation-id")
        if operation_id is None:
            return Caller(
                acting, role=self.role, public_token=self.public_token, identity=self.identity
            )
        try:
            ids.check_id(operation_id, ids.OPERATION)
        except BadId as error:
            raise BadId(
                f"Operation-Id: {error.message}",
                hint=f"It is a TypeID, {ids.pattern(ids.OPERATION)}; without the header a call can't be repeated.",
            ) from error
        return Caller(acting, operation_id, self.role, self.public_token, self.identity)

    async def raw(self) -> bytes:
        """The body's bytes, within the limits of size and time.

        Raises:
            TooLarge: Over 1.25 MiB, whatever the headers say.
            UnsupportedMedia: It is encoded.
            BadRequest: It came too slowly.
        """
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise UnsupportedMedia(
                f"Content-Encoding {encoding[:40]!r} is not accepted",
                hint="Send the body as it is.",
            )
        declared = self.headers.get("content-length", "")
        if declared.isascii() and declared.isdecimal() and int(declared[:20]) > HTTP_BODY_BYTES_MAX:
            raise _too_large()
        timeout_s = self.settings.bounds.body_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._received()
        except TimeoutError:
            raise BadRequest(f"the body did not arrive within {timeout_s:g} s") from None

    async def _received(self) -> bytes:
        pieces: list[bytes] = []
        size_bytes = 0
        has_more = True
        while has_more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            size_bytes += len(pieces[-1])
            if size_bytes > HTTP_BODY_BYTES_MAX:
                raise _too_large()
            has_more = message.get("more_body", False)
        return b"".join(pieces)

    async def body_as(self, model: type[M]) -> M:
        """The request's body as this model. No body stands for one without fields.

        Raises:
            TooLarge, UnsupportedMedia: As `raw`, and not JSON by its content type.
            BadJson: Not strict JSON.
            BadRequest: Not the model's fields and types, or too slow.
        """
        raw = await self.raw()
        value: Any = {}
        if raw:
            _check_content_type(self.headers.get("content-type"))
            value = _parsed(raw)
            if _had_other_names(model):
                value = self._of_today(value, model)
        elif any(part.is_required() for part in model.model_fields.values()):
            raise BadRequest("a JSON body is needed", hint="Send Content-Type: application/json.")
        try:
            # Strict: "1" is not a number and 1 is not a boolean.
            return model.model_validate(value, strict=True)
        except ValidationError as error:
            raise from_validation(error) from error

    def query_as(self, model: type[M]) -> M:
        """The query string as this model.

        Raises:
            BadFilter: It has a parameter that the model lacks, or one that can't be what it says.
            BadRequest: So for one that filters nothing.
        """
        try:
            return model.model_validate(self._of_today(_given(model, self.query_params), model))
        except ValidationError as error:
            raise from_validation(error, is_query=True) from error

    def _of_today(self, given: Any, model: type[BaseModel]) -> Any:
        today = request_of_today(given, model.model_fields)
        if today is not given:
            self.scope[HAS_OLD_NAMES] = True
        return today


@cache
def _had_other_names(model: type[BaseModel]) -> bool:
    return not model.model_fields.keys().isdisjoint(REQUEST_FIELDS.values())


def _given(model: type[BaseModel], query: QueryParams) -> Mapping[str, Any]:
    """Each parameter's text, of one that may come more than once all of them."""
    given: dict[str, Any] = {}
    for name in query:
        part = model.model_fields.get(name)
        is_list = part is not None and get_origin(part.annotation) is list
        given[name] = query.getlist(name) if is_list else query[name]
    return given


def _parsed(raw: bytes) -> Any:
    if len(raw) < LONG_BYTES or not gc.isenabled():
        return jsonio.loads(raw)
    gc.disable()
    try:
        return jsonio.loads(raw)
    finally:
        gc.enable()


def _too_large() -> TooLarge:
    return TooLarge(f"a body has at most {HTTP_BODY_BYTES_MAX} bytes")


def _check_content_type(header: str | None) -> None:
    if header == "application/json":
        return
    media, is_utf8 = media_type(header)
    is_json = media == "application/json" or _JSON_SUFFIX.fullmatch(media) is not None
    if not is_json or not is_utf8:
        raise UnsupportedMedia(
            f"Content-Type {(header or '')[:100]!r} is not accepted",
            hint="Send Content-Type: application/json, in UTF-8.",
        )


class Authenticator(Protocol):
    """Tells who sent a request."""

    async def authenticate(
        self, exchange: Exchange, need: Need, scope: ScopeType | None = None
    ) -> Principal:
        """The caller, if it may do what the route needs.

        Args:
            exchange: Gets the key's `role`, or the `public_token`.
            need: What the route asks of a key.
            scope: Which public token may use it instead.

        Raises:
            NotAllowed: 401 without a good secret, 403 if it does not cover the route.
            Overloaded: Too many calls or wrong secrets.
        """
        ...


Handler = Callable[..., Awaitable[Response]]
"""Takes the exchange, the path's values, and the body or the query string if the row has a model for it."""

CALLBACKS = "callbacks"
"""The tag of operations that outside systems call without a key."""

CLIENT_LEFT = 499
"""Status of an answer that is never sent: the client went away while it sent its body."""


def takes_caller(method: Callable[..., Any]) -> bool:
    """Whether a method of the service asks who calls: what acts, and what is shown to each as it concerns them."""
    return _has_caller(getattr(method, "__func__", method))


@cache
def _has_caller(function: Callable[..., Any]) -> bool:
    return "caller" in inspect.signature(function).parameters


def _may_be_stale(row: Operation[Any]) -> bool:
    """Whether it reads sessions; what asks for no right tells nothing of them."""
    is_read = row.method == "GET" or row in (RUN_QUERY, SPEAK_MCP)
    return is_read and row.need is not Need.NOTHING


class ServedOperation:
    """A row as it is served: authenticate, read, call, and answer, also what went wrong.

    Args:
        row: The operation.
        service: What is called.
        handler: Called instead, if there is one.
        authenticator: Tells who sends a request.
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
        self._maker = service.maker_of(row) if row.owner is Owner.OWN else None
        self._takes_caller = False
        self._is_page = row.reply is PAGE or row.tag == CALLBACKS
        self._may_be_stale = _may_be_stale(row)
        if handler is None:
            noun, self._verb = row.served_at
            self._noun = getattr(service, noun)
            method = getattr(self._noun, self._verb)
            self._takes_caller = takes_caller(method)

    async def answer(self, exchange: Exchange) -> Response:
        """The answer to a request whose path and method are this row's, also when it is refused or fails."""
        row = self.row
        try:
            if self._is_page and exchange.settings.peer is not None:
                await exchange.service.staleness.look()  # raises that it stands by
            response = await self._answer(exchange)
            if self._may_be_stale:
                as_of = await exchange.service.staleness.as_of()
                if as_of is not None:
                    response.headers[STALE_HEADER] = as_of
        except Standby as error:
            with suppress(
                HelmrError
            ):  # the ledger hears that a client has come: the other runtime may go
                await exchange.service.staleness.look()
            response = self._refusal(error, exchange)
        except HelmrError as error:
            response = self._refusal(error, exchange)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_LEFT)
        except Exception:
            # The gateway's edge: the log says what happened, the caller learns under which id.
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


def served(
    rows: Iterable[Operation[Any]],
    service: Service,
    handlers: Mapping[str, Handler],
    authenticator: Authenticator,
) -> Paths:
    """All rows as they are served."""
    paths = Paths()
    for row in rows:
        handler = handlers.get(row.name)
        paths.add(ServedOperation(row, service, handler, authenticator))
        if row.reply is PAGE:
            paths.add(ServedOperation(row, service, handler, authenticator, is_head=True))
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
