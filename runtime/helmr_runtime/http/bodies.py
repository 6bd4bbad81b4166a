"""Request bodies: bounded before they are read, strict when they are, and then a model.

Invariants: S-28 (1.25 MiB), no undocumented content type or encoding, unknown fields refused.
"""

from __future__ import annotations

import asyncio
import gc
import re
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from helmr import jsonio
from helmr.errors import BadRequest, TooLarge, UnsupportedMedia
from helmr.models import HTTP_BODY_BYTES_MAX
from helmr_runtime.http.problems import from_validation
from helmr_runtime.security.callbacks import media_type

_JSON_SUFFIX = re.compile(r"application/[!-.0-~]+\+json", re.ASCII)

LONG_BYTES = 64 * 1024
"""From here on a body is parsed with the collector of cycles at rest: JSON has none, and looking for them again and
again took up to three quarters of the time (measured: a megabyte of empty lists 83 and 22 ms)."""


async def read_model(request: Request, model: type[BaseModel]) -> BaseModel:
    """The request's body as this model. No body stands for one without fields.

    Raises:
        TooLarge: Over 1.25 MiB, whatever the headers say.
        UnsupportedMedia: Not JSON by its content type, or encoded.
        BadJson: Not strict JSON.
        BadRequest: Not the model's fields and types, or too slow.
    """
    raw = await read_raw(request)
    value: Any = {}
    if raw:
        _check_content_type(request.headers.get("content-type"))
        value = _parsed(raw)
    elif any(field.is_required() for field in model.model_fields.values()):
        raise BadRequest("a JSON body is needed", hint="Send Content-Type: application/json.")
    try:
        # Strict: "1" is no number and 1 is no boolean.
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        raise from_validation(error) from error


async def read_raw(request: Request) -> bytes:
    """The body's bytes, within the limits of size and time.

    Raises:
        TooLarge, UnsupportedMedia, BadRequest: See `read_model`.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40]!r} is not taken", hint="Send the body as it is."
        )
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdecimal() and int(declared[:20]) > HTTP_BODY_BYTES_MAX:
        raise _too_large()
    chunks: list[bytes] = []
    timeout_s = request.app.settings.bounds.body_s
    size_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            has_more = True
            while has_more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size_bytes += len(chunks[-1])
                if size_bytes > HTTP_BODY_BYTES_MAX:
                    raise _too_large()
                has_more = message.get("more_body", False)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {timeout_s:g} s") from None
    return b"".join(chunks)


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
    media, is_utf8 = media_type(header)
    is_json = media == "application/json" or _JSON_SUFFIX.fullmatch(media) is not None
    if not is_json or not is_utf8:
        raise UnsupportedMedia(
            f"Content-Type {(header or '')[:100]!r} is not taken",
            hint="Send Content-Type: application/json, in UTF-8.",
        )
