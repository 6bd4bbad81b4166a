"""httpx without its command line; its exceptions and the gateway's problem answers become HelmrErrors.

No exception of httpx leaves the client: a test goes through every class that httpx has.

Where click is installed, `import httpx` also loads its `httpx` command, with rich's progress bars and the index of
pygments: 0.2 s of 0.35 s, for each command and each process with a client. While that module is marked as missing,
httpx behaves as without its `cli` extra. The mark is removed right after the import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from traceback import walk_tb
from typing import Any

from pydantic import ValidationError

from helmr.client.calls import Call, T
from helmr.errors import (
    HelmrError,
    OutcomeUnknown,
    RuntimeNotFound,
    Unavailable,
    UsageError,
    error_from_code,
)
from helmr.models import Problem

_COMMAND = "httpx._main"
_modules: dict[str, Any] = sys.modules

_is_marked = _COMMAND not in _modules
if _is_marked:
    _modules[_COMMAND] = None
try:
    import httpx as httpx
finally:
    if _is_marked:
        del _modules[_COMMAND]

FOREIGN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
"""The roots of every exception class of httpx."""

PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""Part of OpenSSL's error about an answer that is not encrypted."""

PLAIN_HINT = "It speaks http and not https: write http:// in the URL, or put a proxy with a certificate before it."

RETRY_AFTER_MAX_S = 300.0
"""Longest Retry-After that counts, in seconds; no call waits longer."""

_CONSTRUCTOR_WORDS = frozenset(("self", "message", "hint", "errors", "retry_after_s"))


def foreign(error: Exception, *, url: str, name: str, mutates: bool) -> HelmrError:
    """Return the HelmrError for an exception of httpx.

    Args:
        error: An exception for which `is_foreign` is True.
        url: The runtime's URL.
        name: The call, for the message.
        mutates: True if the call may have acted although no answer came.
    """
    kind = type(error).__name__
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return RuntimeNotFound(
                f"no runtime answers at {url} ({_said(error)})",
                hint=PLAIN_HINT if any(one in str(error) for one in PLAIN) else None,
                url=url,
                connecting=True,
            )
        case httpx.PoolTimeout():
            return Unavailable(f"{name}: every connection to {url} is in use", url=url)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return UsageError(
                f"{name}: the request can't be sent to {url} ({_said(error)})",
                hint="A runtime's URL looks like http://127.0.0.1:4356.",
            )
        case httpx.TooManyRedirects():
            return not_a_runtime(url, "it redirects in a circle")
        case httpx.StreamError():
            return UsageError(f"{name}: the answer was already read or closed ({kind})")
        case _ if mutates:
            return OutcomeUnknown(f"{name}: no whole answer from {url} ({_said(error)})", url=url)
        case _:
            return Unavailable(f"{name}: no whole answer from {url} ({_said(error)})", url=url)


def is_foreign(error: Exception) -> bool:
    """Return True for errors of httpx or its transport.

    A peer that closes a new connection at once gives an AttributeError of anyio, which asks the closed socket for
    its address.
    """
    if isinstance(error, FOREIGN):
        return True
    if not isinstance(error, AttributeError) or (trace := error.__traceback__) is None:
        return False
    *_, (frame, _) = walk_tb(trace)
    return str(frame.f_globals.get("__name__")).startswith("anyio.")


def not_a_runtime(url: str, why: str) -> RuntimeNotFound:
    """Return the error for a URL whose server is not Helmr."""
    return RuntimeNotFound(f"{url} does not answer as a Helmr runtime: {why}", url=url)


def answer(call: Call[T], response: httpx.Response, *, url: str) -> T:
    """Read the whole answer of a call.

    Raises:
        HelmrError: The error named by the gateway's problem, or `OutcomeUnknown`/`Unavailable` for an unreadable
            answer.
    """
    if not (response.is_success or response.status_code in call.also_ok):
        raise problem(response, url=url, name=call.name)
    try:
        if call.read is not None:
            kind = response.headers.get("content-type", "").partition(";")[0].strip()
            return call.read(kind, response.content)
        return call.reply.validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        why = (
            f"{call.name}: the answer can't be read ({place + ': ' if place else ''}{first['msg']})"
        )
        if response.status_code in call.also_ok:
            raise problem(response, url=url, name=call.name) from error
        broken = OutcomeUnknown if call.operation_id is not None else Unavailable
        raise broken(why, url=url) from error


def problem(response: httpx.Response, *, url: str, name: str) -> HelmrError:
    """Return the error for an answer with an error status."""
    retry_after_s = _retry_after_s(response.headers.get("retry-after"))
    try:
        said = Problem.model_validate_json(response.content)
    except ValidationError:
        return _without_problem(response, url=url, name=name, retry_after_s=retry_after_s)
    return error_from_code(
        said.code,
        said.detail,
        status=said.status,
        hint=said.hint,
        errors=[{"path": one.path, "message": one.message} for one in said.errors],
        retry_after_s=retry_after_s,
        facts=_facts(said.facts),
    )


def _without_problem(
    response: httpx.Response, *, url: str, name: str, retry_after_s: float | None
) -> HelmrError:
    status = response.status_code
    if status in (429, 502, 503, 504):  # a proxy in between, or a runtime that is just starting
        return error_from_code(
            "", f"{name}: {url} answers {status}", status=status, retry_after_s=retry_after_s
        )
    if status in (401, 403, 413):
        return error_from_code("", f"{name}: {url} answers {status}", status=status)
    if status >= 500:
        return Unavailable(f"{name}: {url} answers {status} without saying why", url=url)
    return not_a_runtime(url, f"{name} answers {status}")


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    # A fact must not replace an argument of the error itself.
    return {key: value for key, value in facts.items() if key not in _CONSTRUCTOR_WORDS}


def _retry_after_s(text: str | None) -> float | None:
    # Seconds only: the gateway sends no dates, and a date depends on this machine's clock.
    seconds = (text or "").strip()
    if not (seconds.isascii() and seconds.isdigit()):
        return None
    return min(float(seconds), RETRY_AFTER_MAX_S)


def _said(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
