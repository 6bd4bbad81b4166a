"""Tokens, public tokens and API keys as JSON-typed dicts that fit `helmr.models`. Pure; shared by both ledgers."""

from __future__ import annotations

from typing import Any

from helmr.ids import SYSTEM_STREAM
from helmr_runtime.core.entries import Entry, EntryKind, iso
from helmr_runtime.ledger.index.keys import ApiKey, OwnedPublicToken
from helmr_runtime.ledger.index.tokens import TokenHead
from helmr_runtime.ledger.index.views import UNREADABLE

Json = dict[str, Any]


def token_json(
    token: TokenHead, created: Entry, ended: Entry | None, pinned: Entry | None, *, in_full: bool
) -> Json:
    """A `TokenInfo`; in full also what the service needs to complete it.

    Args:
        token: Its numbers.
        created: Its `token.created`.
        ended: The entry that ended it.
        pinned: The newest `wait.opened` that pinned a schema; None if none did.
        in_full: With texts, schema, data, and `schemas` (offset and schema of each that a completion must
            fit), `waits`, `key_id`, `verify_sealed`, `nonce_id`, `completed_by_public_token`.
    """
    body = created.body
    verify = body.get("verify")
    found: Json = {
        "id": token.id,
        "status": token.status.value,
        "session_id": None if token.session_id == SYSTEM_STREAM else token.session_id,
        "run_id": created.run_id,
        "tags": body["tags"],
        "metadata": body["metadata"],
        "subject": _asked(body, pinned, "subject"),
        "raw": bool(body.get("raw")),
        "verify": verify["scheme"] if verify is not None else None,
        "public_token_id": body["public_token_id"],
        "created_at": iso(token.created_at),
        "created_by": created.principal.to_json(),
        "expires_at": iso(token.expires_at),
        "ended_at": iso(token.ended_at) if token.ended_at is not None else None,
        "ended_by": ended.principal.to_json() if ended is not None else None,
    }
    if not in_full:
        return found
    schemas = [
        {"offset": entry.feed_offset, "schema": entry.body["schema"]}
        for entry in (created, pinned)
        if entry is not None and "schema" in entry.body
    ]
    found |= {
        "body": _asked(body, pinned, "body"),
        "schema": schemas[-1]["schema"] if schemas else None,
        "initial": _asked(body, pinned, "initial"),
        "escalation": body.get("escalation", []),
        "schemas": schemas,
        "waits": sorted(token.waits.items()),
        "key_id": body["key_id"],
        "verify_sealed": verify,
        "data": None,
        "nonce_id": None,
        "completed_by_public_token": None,
    }
    if ended is not None and ended.kind is EntryKind.TOKEN_COMPLETED:
        found |= {
            "data": ended.body["data"],
            "nonce_id": ended.body.get("nonce_id"),
            "completed_by_public_token": ended.body.get("public_token_id"),
        }
    return found


def unreadable_token_json(token: TokenHead, created: Entry, tags: list[str], problem: str) -> Json:
    """A `TokenInfo` for a list, when the body of one of its entries can't be read."""
    return {
        "id": token.id,
        "status": token.status.value,
        "session_id": None if token.session_id == SYSTEM_STREAM else token.session_id,
        "run_id": created.run_id,
        "tags": tags,
        "subject": UNREADABLE,
        "problem": problem,
        "created_at": iso(token.created_at),
        "created_by": created.principal.to_json(),
        "expires_at": iso(token.expires_at),
        "ended_at": iso(token.ended_at) if token.ended_at is not None else None,
    }


def _asked(body: Any, pinned: Entry | None, name: str) -> Any:
    """What the person is asked: the token's own text, else that of the wait that pinned its schema."""
    own = body.get(name)
    return own if own is not None or pinned is None else pinned.body.get(name)


def public_token_json(owned: OwnedPublicToken) -> Json:
    """A `PublicTokenInfo`, with the hash of its secret and `session_id` of the session that decides it."""
    token = owned.token
    scope = {
        "type": token.scope.type.value,
        "session": token.scope.session_id,
        "stream": token.scope.stream,
        "token": token.scope.token_id,
        "correlation_id": token.scope.correlation_id,
        "wait": token.scope.wait_id,
        "person": token.scope.person,
    }
    return {
        "id": token.id,
        "scope": {name: value for name, value in scope.items() if value is not None},
        "max_uses": token.max_uses,
        "uses": token.uses,
        "uses_left": token.uses_left,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
        "last_used_at": iso(token.last_used_at) if token.last_used_at is not None else None,
        "revoked_at": iso(token.revoked_at) if token.revoked_at is not None else None,
        "allowed_origins": list(token.allowed_origins),
        "state": token.to_json(),
        "session_id": owned.session_id,
        "created_offset": owned.created_offset,
    }


def api_key_json(key: ApiKey) -> Json:
    """An `ApiKeyInfo`."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "created_at": iso(key.created_at),
        "revoked_at": iso(key.revoked_at) if key.revoked_at is not None else None,
    }
