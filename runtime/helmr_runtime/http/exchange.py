"""An exchange is one request, with its content and its sender.

A body is bounded before it is read, and parsed strictly: S-28 (1.25 MiB), no undocumented content type or encoding,
unknown fields refused.
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Coroutine, Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_origin

from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from helmr.errors import BadId, BadRequest, TooLarge, UnsupportedMedia
from helmr.models import HTTP_BODY_BYTES_MAX
from helmr.wire import ids, jsonio
from helmr.wire.old_names import REQUEST_FIELDS, request_of_today
from helmr.wire.roles import Role
from helmr_runtime.core.answerers import Identity
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.http.problems import from_validation
from helmr_runtime.http.settings import PEER, HttpSettings
from helmr_runtime.security.callbacks import media_type
from helmr_runtime.security.rate_limits import RateLimiter
from helmr_runtime.service import Caller, Service

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

NO_ADDRESS = "unknown"

HAS_OLD_NAMES = "helmr.has_old_names"
"""Key in the scope of a request that used names of an earlier version."""

_JSON_SUFFIX = re.compile(r"application/[!-.0-~]+\+json", re.ASCII)

LONG_BYTES = 64 * 1024
"""Longer bodies are parsed with the cycle collector off: JSON has no cycles, and looking for them took up to three
quarters of the time (measured: a megabyte of empty lists, 83 ms with and 22 ms without)."""


class Exchange(Request):
    """A request, with its path's parameters, and its sender once that is known.

    Attributes:
        parts: Values of the path's parameters, in order.
        principal: The acting principal, once the sender is known.
        role: The role of its key; None without one.
        public_token: The public token that it came with, set before it is allowed anything.
        identity: The person, if their identity is proven.
    """

    parts: tuple[str, ...] = ()
    principal: Principal
    role: Role | None = None
    public_token: ScopedToken | None = None
    identity: Identity | None = None

    @property
    def service(self) -> Service:
        """The gateway's service."""
        return cast("Service", self.app.service)

    @property
    def settings(self) -> HttpSettings:
        """The gateway's settings."""
        return cast("HttpSettings", self.app.settings)

    @property
    def limiter(self) -> RateLimiter:
        """The gateway's rate limiter."""
        return cast("RateLimiter", self.app.limiter)

    @property
    def target(self) -> str:
        """Path and query, as sent."""
        path, query = self.scope["raw_path"], self.scope["query_string"]
        text: bytes = path + (b"?" + query if query else b"")
        return text.decode("latin-1")

    @property
    def address(self) -> str:
        """The client's address, by which limits count."""
        return self.client.host if self.client is not None else NO_ADDRESS

    @property
    def peer(self) -> str:
        """The address at the other end of the connection, whatever headers say."""
        found = self.scope.get(PEER, self.scope.get("client"))
        return str(found[0]) if found is not None else NO_ADDRESS

    @property
    def bearer(self) -> str | None:
        """The request's bearer secret."""
        scheme, _, text = self.headers.get("authorization", "").partition(" ")
        return text.strip() if scheme.lower() == "bearer" and text.strip() else None

    def caller(self, principal: Principal | None = None) -> Caller:
        """Return the caller, under the id of the header Operation-Id.

        Args:
            principal: The principal of a secret in the path.

        Raises:
            BadId: The header holds no operation id. An empty header is refused too: its sender believes that the call
                is repeatable.
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
            UnsupportedMedia: It has a content encoding.
            BadRequest: It arrived too slowly.
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
        """The request's body as this model. No body means an object without fields.

        Raises:
            TooLarge, UnsupportedMedia: As `raw`, or the content type is not JSON.
            BadJson: It is not strict JSON.
            BadRequest: It does not fit the model, or arrived too slowly.
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
            BadFilter: A parameter is unknown, or its value can't be used.
            BadRequest: The same for a parameter of paging.
        """
        try:
            return model.model_validate(self._of_today(_given(model, self.query_params), model))
        except ValidationError as error:
            raise from_validation(error, is_query=True) from error

    async def while_connected(self, doing: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine, and cancel it when the client disconnects.

        Raises:
            ClientDisconnect: The client disconnected.
        """
        working = asyncio.ensure_future(doing)
        leaving = asyncio.ensure_future(disconnected(self.receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, leaving):
                if not task.done():
                    task.cancel()
            await asyncio.wait({working, leaving})
        if working.cancelled():
            raise ClientDisconnect
        return working.result()

    def _of_today(self, given: Any, model: type[BaseModel]) -> Any:
        today = request_of_today(given, model.model_fields)
        if today is not given:
            self.scope[HAS_OLD_NAMES] = True
        return today


async def disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


@cache
def _had_other_names(model: type[BaseModel]) -> bool:
    return not model.model_fields.keys().isdisjoint(REQUEST_FIELDS.values())


def _given(model: type[BaseModel], query: QueryParams) -> Mapping[str, Any]:
    """Each parameter's text; a list of texts for one that may be repeated."""
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
