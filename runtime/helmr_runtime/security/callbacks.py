"""Parses the body of a callback POST by its content type (S-42).

```
application/json              must be {"data": …}
application/json, ?raw=1      any JSON value, as it is            token made with raw=True
form, ?raw=1                  an object of its fields             token made with raw=True
form                          the answer page's fields and nonce
anything else                 415;  an empty body 422
```

Pure: the caller has limited the size and checks a provider's signature over the raw bytes first.

The answer page's nonce lets a form be sent only from a page that was shown:

```
<expires, unix seconds>.<22 random>.<43 MAC>.<22 MAC with the binding>      base64url
```

The MACs (HMAC-SHA256) cover the token's id and the first two parts, the second also the binding:
what the form was made from. So a blind POST, as link scanners send it, is refused without a lookup,
a nonce of one token is nothing on another's page, and a form whose schema was changed meanwhile is
shown again instead of being read with the wrong meaning.

*One time*: its only use is the completion of a one-shot token. Anyone who completes the token stores
`Nonce.id` with the completion; the same nonce afterwards is the same browser's second click (S-41:
same data `already_completed`), never a second completion.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

from helmr.errors import BadRequest, SchemaMismatch, TooLarge, UnsupportedMedia
from helmr.wire.jsonio import loads
from helmr_runtime.security.secrets import is_same_secret

FORM_FIELDS_MAX = 2_000
"""Fields of one form; the answer page makes at most a few hundred."""
NONCE_FIELD = "nonce"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_CHARSETS = ("utf-8", "utf8", "us-ascii")
_HINT = f'Send {_JSON} with {{"data": …}}, or open the link in a browser.'


@dataclass(frozen=True, slots=True)
class CallbackData:
    """A completion's data, as JSON."""

    data: Any


@dataclass(frozen=True, slots=True)
class CallbackForm:
    """The answer page, filled in; `values` by field name, in the order they came."""

    nonce: str | None
    values: dict[str, list[str]]


def read_callback(
    *,
    content_type: str | None,
    body: bytes,
    is_raw: bool,
    token_is_raw: bool,
) -> CallbackData | CallbackForm:
    """Read the body of a callback POST.

    Args:
        content_type: The header as it came.
        body: Within the body limit.
        is_raw: The request says `?raw=1`.
        token_is_raw: The token was created with `raw=True`.

    Raises:
        UnsupportedMedia: Neither JSON nor an urlencoded form, or a charset other than UTF-8.
        SchemaMismatch: An empty body.
        BadRequest: `?raw=1` on a token that was not made for it, no `data`, an unreadable form.
        BadJson: Not strict JSON.
        TooLarge: More fields than any page of ours has.
    """
    media = _media_type(content_type)
    if is_raw and not token_is_raw:
        raise BadRequest("this token takes no raw bodies", hint="Create it with raw=True.")
    if not body.strip():
        raise SchemaMismatch("the body is empty", hint=_HINT)
    if media == _FORM:
        values = form_values(body)
        if is_raw:
            single = {name: all_[0] if len(all_) == 1 else all_ for name, all_ in values.items()}
            return CallbackData(single)
        nonces = values.pop(NONCE_FIELD, [])
        return CallbackForm(nonces[0] if len(nonces) == 1 else None, values)
    value = loads(body)
    if is_raw:
        return CallbackData(value)
    if not isinstance(value, dict) or set(value) != {"data"}:
        raise BadRequest('the body must be {"data": …} and nothing else', hint=_HINT)
    return CallbackData(value["data"])


def media_type(header: str | None) -> tuple[str, bool]:
    """Type and subtype that a Content-Type header says, in lower case, and whether the text is in UTF-8."""
    media, *parameters = (part.strip().lower() for part in (header or "").split(";"))
    charsets = [one.partition("=")[2].strip("\"' ") for one in parameters if one[:7] == "charset"]
    return media, all(charset in _CHARSETS for charset in charsets)


def _media_type(header: str | None) -> str:
    media, is_utf8 = media_type(header)
    if media not in (_JSON, _FORM) or not is_utf8:
        shown = (header or "none")[:80]
        raise UnsupportedMedia(f"content type {shown!r} is not accepted here", hint=_HINT)
    return media


def form_values(body: bytes) -> dict[str, list[str]]:
    """The fields of an urlencoded form, in the order they came.

    Raises:
        BadRequest: It is none.
        TooLarge: It has more fields than any page of ours.
    """
    if body.count(b"&") >= FORM_FIELDS_MAX:
        raise TooLarge(f"a form may have at most {FORM_FIELDS_MAX} fields")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"
        )
    except ValueError as error:
        raise BadRequest("the body is not an urlencoded form") from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


NONCE_LIFETIME = timedelta(hours=24)
"""A page may stay open for a working day; the secret in its URL lives longer anyway."""
_NONCE_CHARS_MAX = 120


class NonceState(StrEnum):
    """Result of checking a nonce."""

    VALID = "valid"
    STALE = "stale"
    """Ours, but the page is too old or its form has changed: show it again with what was typed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Nonce:
    """The result of reading one; `id` is stored with the completion it made."""

    state: NonceState
    id: str | None = None


def make_nonce(key: bytes, *, token_id: str, binding: str, now: datetime) -> str:
    """A fresh nonce for one view of a token's page.

    Args:
        key: `KeyRing.purpose_key("page-nonce")`.
        token_id: The token whose page it is.
        binding: Hash of what the form was made from (`form_binding`).
        now: Our clock, aware.
    """
    expires = int((now + NONCE_LIFETIME).timestamp())
    head = f"{expires}.{url_text(secrets.token_bytes(16))}"
    return f"{head}.{mac(key, head, token_id)}.{mac(key, head, token_id, binding)[:22]}"


def read_nonce(
    key: bytes, nonce: str | None, *, token_id: str, binding: str, now: datetime
) -> Nonce:
    """Say what a submitted nonce is worth on this token's page, now."""
    parts = (nonce or "").split(".")
    if nonce is None or len(nonce) > _NONCE_CHARS_MAX or len(parts) != 4:
        return Nonce(NonceState.UNKNOWN)
    head = f"{parts[0]}.{parts[1]}"
    if not is_same_secret(parts[2], mac(key, head, token_id)):
        return Nonce(NonceState.UNKNOWN)
    is_current = is_same_secret(parts[3], mac(key, head, token_id, binding)[:22])
    # The MAC holds, so the head is one that we wrote.
    expires_at = datetime.fromtimestamp(int(parts[0]), UTC)
    state = NonceState.VALID if is_current and now < expires_at else NonceState.STALE
    return Nonce(state, parts[1])


def mac(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 of the parts, each with its length before it, in 43 characters."""
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        raw = part.encode(errors="replace")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return url_text(digest.digest())


def url_text(raw: bytes) -> str:
    """The bytes as text that stands in a URL or a cookie: base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
