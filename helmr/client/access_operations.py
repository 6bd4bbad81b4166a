"""Tokens, public tokens and API keys as calls; beside `operations`, whose rules hold here too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from helmr import ids
from helmr.client.calls import Call, get_call, list_call, post_call
from helmr.durations import Duration, seconds
from helmr.labels import metadata_object, tag_list
from helmr.ladder import Rung, rungs_json
from helmr.models import (
    ApiKeyInfo,
    ApiKeyReceipt,
    CompleteReceipt,
    FileKeyInfo,
    Page,
    PublicTokenInfo,
    PublicTokenReceipt,
    TokenInfo,
    TokenReceipt,
)
from helmr.schema import codec_of, json_schema
from helmr.tokens import Verify


def create_token(
    *,
    timeout: Duration | None,
    tags: Iterable[str],
    metadata: Mapping[str, Any] | None,
    schema: Any,
    raw: bool,
    verify: Verify | None,
    subject: str | None,
    body: str | None,
    initial: Any,
    ladder: Iterable[Rung],
    allowed_origins: Iterable[str],
    operation_id: str | None,
) -> Call[TokenReceipt]:
    """POST /v1/tokens."""
    timeout_s = seconds(timeout) if timeout is not None else None
    rungs = rungs_json(ladder, codec_of(schema, what="the ladder's default"), timeout_s)
    parts: dict[str, Any] = {
        "timeout": timeout_s,
        "tags": list(tag_list(tags)) or None,
        "metadata": metadata_object(metadata) or None,
        "schema": json_schema(schema),
        "raw": raw or None,
        "verify": _verify(verify),
        "subject": subject,
        "body": body,
        "initial": initial,
        "ladder": list(rungs) or None,
        "allowed_origins": list(allowed_origins) or None,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    call: Call[TokenReceipt] = post_call("/v1/tokens", TokenReceipt, given, operation_id)
    return call


def get_token(token_id: str) -> Call[TokenInfo]:
    """GET /v1/tokens/{id}."""
    return get_call(_token(token_id), TokenInfo)


def list_tokens(
    *,
    status: str | None = None,
    tag: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[Page[TokenInfo]]:
    """GET /v1/tokens."""
    given = {"status": status, "tag": tag}
    return list_call("/v1/tokens", TokenInfo, given, limit=limit, cursor=cursor)


def complete_token(
    token_id: str, data: Any, *, public_access_token: str | None, operation_id: str | None
) -> Call[CompleteReceipt]:
    """POST /v1/tokens/{id}/complete."""
    path = f"{_token(token_id)}/complete"
    call: Call[CompleteReceipt] = post_call(
        path, CompleteReceipt, {"data": data}, operation_id, bearer=public_access_token
    )
    return call


def cancel_token(token_id: str, *, operation_id: str | None) -> Call[TokenInfo]:
    """POST /v1/tokens/{id}/cancel."""
    call: Call[TokenInfo] = post_call(f"{_token(token_id)}/cancel", TokenInfo, None, operation_id)
    return call


def create_public_token(
    *,
    scope: Mapping[str, Any],
    max_uses: int | None,
    expires_in: Duration | None,
    allowed_origins: Iterable[str],
    operation_id: str | None,
) -> Call[PublicTokenReceipt]:
    """POST /v1/public-tokens."""
    parts: dict[str, Any] = {
        "scope": dict(scope),
        "max_uses": max_uses,
        "expires_in": seconds(expires_in) if expires_in is not None else None,
        "allowed_origins": list(allowed_origins) or None,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    call: Call[PublicTokenReceipt] = post_call(
        "/v1/public-tokens", PublicTokenReceipt, given, operation_id
    )
    return call


def list_public_tokens(
    *, limit: int | None = None, cursor: str | None = None
) -> Call[Page[PublicTokenInfo]]:
    """GET /v1/public-tokens."""
    return list_call("/v1/public-tokens", PublicTokenInfo, {}, limit=limit, cursor=cursor)


def revoke_public_token(public_token_id: str, *, operation_id: str | None) -> Call[PublicTokenInfo]:
    """DELETE /v1/public-tokens/{id}."""
    path = f"/v1/public-tokens/{ids.check_id(public_token_id, ids.PUBLIC_TOKEN)}"
    call: Call[PublicTokenInfo] = post_call(
        path, PublicTokenInfo, None, operation_id, method="DELETE"
    )
    return call


def create_api_key(role: str, name: str, *, operation_id: str | None) -> Call[ApiKeyReceipt]:
    """POST /v1/api-keys."""
    call: Call[ApiKeyReceipt] = post_call(
        "/v1/api-keys", ApiKeyReceipt, {"role": role, "name": name}, operation_id
    )
    return call


def list_api_keys(*, limit: int | None = None, cursor: str | None = None) -> Call[Page[ApiKeyInfo]]:
    """GET /v1/api-keys."""
    return list_call("/v1/api-keys", ApiKeyInfo, {}, limit=limit, cursor=cursor)


def revoke_api_key(key_id: str, *, operation_id: str | None) -> Call[ApiKeyInfo]:
    """DELETE /v1/api-keys/{id}."""
    path = f"/v1/api-keys/{ids.check_id(key_id, ids.API_KEY)}"
    call: Call[ApiKeyInfo] = post_call(path, ApiKeyInfo, None, operation_id, method="DELETE")
    return call


def list_file_keys() -> Call[Page[FileKeyInfo]]:
    """GET /v1/file-keys."""
    return list_call("/v1/file-keys", FileKeyInfo, {}, limit=None, cursor=None)


def _token(token_id: str) -> str:
    return f"/v1/tokens/{ids.check_id(token_id, ids.TOKEN)}"


def _verify(verify: Verify | None) -> dict[str, Any] | None:
    if verify is None:
        return None
    return {
        "scheme": verify.scheme,
        "secret": verify.secret,
        "tolerance_s": verify.tolerance_s,
    }
