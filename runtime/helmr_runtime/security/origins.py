"""Browsers: which origin may use a public token, and what a preflight gets.

A preflight carries no credentials, so it can't say whose token is meant: it is answered for any
origin. The real request is refused unless its origin is one of the token's. No cookie and no other
ambient right exists on these routes, hence never Access-Control-Allow-Credentials.

A token without allowed origins may be used by programs only: a request with an Origin is refused. Any page may read
that refusal, since it says what to add (docs/decisions/0034).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from helmr.errors import BadRequest, OriginDenied
from helmr_runtime.core.public_tokens import ScopedToken

PREFLIGHT_MAX_AGE_S = 600
_ALLOWED_HEADERS = "Authorization, Content-Type, Operation-Id, Last-Event-ID"
_EXPOSED_HEADERS = "Retry-After"
REFUSAL_HEADERS = {"Access-Control-Allow-Origin": "*"}
"""Of the refusal of a page's origin."""
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_allowed_origin(text: str) -> str:
    """The origin of a token's configuration, in the form browsers send it (RFC 6454 §6.2).

    Exactly scheme, host and port; no wildcard, since one forgotten subdomain would hold the token.

    Raises:
        BadRequest: Anything else; says how an origin looks.
    """
    hint = "An origin is scheme, host and port only, such as https://app.example.com."
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadRequest(f"allowed_origins: {text[:80]!r} is not an origin", hint=hint) from error
    shown = f"[{host}]" if ":" in host else host
    has_more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in _DEFAULT_PORTS or has_more or not _HOST.fullmatch(shown) or port == 0:
        raise BadRequest(f"allowed_origins: {text[:80]!r} is not an origin", hint=hint)
    suffix = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown}{suffix}"


def check_origin(token: ScopedToken, origin: str | None) -> None:
    """Return if a request with this Origin header may use the token.

    Matching is exact, byte by byte, and `null` (a sandboxed frame, a file) is never allowed.

    Raises:
        OriginDenied: A browser on a page of another origin.
    """
    if origin is None or (origin != "null" and origin in token.allowed_origins):
        return
    shown = origin[:100]
    hint = f'Make the token with allowed_origins=["{shown}"]'
    if origin == "null":
        hint = "Serve the page over HTTP or HTTPS: a file, or a sandboxed frame, has no origin to allow."
    elif token.allowed_origins:
        hint += f"; this one is for {', '.join(token.allowed_origins[:3])}."
    else:
        hint += ": without it, only programs may use it."
    raise OriginDenied(f"{token.id} may not be used from {shown}", hint=hint, origin=shown)


def preflight_headers(
    origin: str | None, requested_method: str | None, methods: tuple[str, ...]
) -> dict[str, str]:
    """The CORS headers of an OPTIONS answer on a public route; empty if it is not a preflight.

    Args:
        origin: Its Origin header.
        requested_method: Its Access-Control-Request-Method header.
        methods: What public tokens may call on this route.
    """
    if origin is None or requested_method not in methods:
        return {}
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
        "Vary": "Origin, Access-Control-Request-Method",
    }


def answer_headers(token: ScopedToken | None, origin: str | None) -> dict[str, str]:
    """The CORS headers of a real answer, also of an error: only an allowed page may read it.

    `REFUSAL_HEADERS` are those of the answer to a page that is not.
    """
    headers = {"Vary": "Origin"}
    if (
        token is not None
        and origin is not None
        and origin in token.allowed_origins
        and origin != "null"
    ):
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
    return headers
