"""Public tokens and API keys in the ledger's memory: whose secret this is. Pure, folded from entries.

A public token of a session is decided in that session; here stands what its entries said, so that a secret finds
its token (S-44). Revoked and expired ones are kept for the list, up to a bound.

Invariants: S-45 (what `token.complete` ones have left), S-46, S-53.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from helmr.wire import ids
from helmr.wire.ids import SYSTEM_STREAM
from helmr_runtime.core.entries import Entry, EntryKind, from_iso, iso
from helmr_runtime.core.nouns import CHANGES, NounColumn
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.core.tokens import own_public_token

PUBLIC_TOKENS_MAX = 100_000
"""Public tokens in memory; beyond, dead ones go first."""

API_KEYS_MAX = 10_000

OF_KEYS = frozenset(
    {
        EntryKind.TOKEN_CREATED,
        EntryKind.PUBLIC_TOKEN_CREATED,
        EntryKind.PUBLIC_TOKEN_SPENT,
        EntryKind.PUBLIC_TOKEN_REVOKED,
        EntryKind.SESSION_CANCELLED,
        EntryKind.RUN_REWOUND,
        EntryKind.API_KEY_CREATED,
        EntryKind.API_KEY_REVOKED,
    }
)
"""Kinds of entries that change this index."""


@dataclass(frozen=True, slots=True)
class OwnedPublicToken:
    """A public token and the session whose entries make it; the system stream if a client made it for a token."""

    token: ScopedToken
    session_id: str
    created_offset: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key."""

    id: Annotated[str, NounColumn("api_key", id_of=ids.API_KEY, is_key=True)]
    created_offset: int
    created_at: datetime
    secret_hash: str
    role: str
    name: str
    person: str | None = None
    """The person who owns it (S-111)."""
    expires_at: datetime | None = None
    revoked_at: Annotated[datetime | None, CHANGES] = None


class KeyIndex:
    """Public tokens and API keys by id and by their secret's hash."""

    def __init__(self) -> None:
        self.public_tokens: dict[str, OwnedPublicToken] = {}
        self.api_keys: dict[str, ApiKey] = {}
        self._public_by_hash: dict[str, str] = {}
        self._api_by_hash: dict[str, str] = {}
        self._of_session: dict[str, set[str]] = {}
        self._of_wait: dict[str, set[str]] = {}
        self.touched_public: set[str] = set()
        self.touched_api: set[str] = set()

    def public_by_hash(self, secret_hash: str) -> OwnedPublicToken | None:
        """The public token with this secret, dead or alive."""
        found = self._public_by_hash.get(secret_hash)
        return self.public_tokens[found] if found is not None else None

    def api_by_hash(self, secret_hash: str) -> ApiKey | None:
        """The API key with this secret, also a revoked one."""
        found = self._api_by_hash.get(secret_hash)
        return self.api_keys[found] if found is not None else None

    def keys_of(self, person: str) -> list[ApiKey]:
        """A person's API keys that are not revoked."""
        keys = self.api_keys.values()
        return [one for one in keys if one.person == person and one.revoked_at is None]

    def links_of(self, wait_id: str) -> list[OwnedPublicToken]:
        """The answer links of a wait, newest first; revoked and expired ones too."""
        found = [self.public_tokens[known] for known in self._of_wait.get(wait_id, ())]
        return sorted(found, key=lambda one: -one.created_offset)

    def apply(self, entry: Entry) -> None:
        """Fold one stored entry."""
        assert entry.feed_offset is not None
        body = entry.body
        match entry.kind:
            case EntryKind.TOKEN_CREATED:
                token = own_public_token(entry, from_iso(body["expires_at"]))
                self._made(OwnedPublicToken(token, entry.session_id, entry.feed_offset))
            case EntryKind.PUBLIC_TOKEN_CREATED:
                parts = {**body, "created_at": iso(entry.recorded_at)}
                token = ScopedToken.from_json(parts)
                self._made(OwnedPublicToken(token, entry.session_id, entry.feed_offset))
            case EntryKind.PUBLIC_TOKEN_SPENT:
                self._change(
                    body["public_token_id"], uses=body["uses"], last_used_at=entry.recorded_at
                )
            case EntryKind.PUBLIC_TOKEN_REVOKED:
                self._revoke(body["public_token_id"], entry.recorded_at)
            case EntryKind.SESSION_CANCELLED:
                for public_token_id in tuple(self._of_session.get(entry.session_id, ())):
                    self._revoke(public_token_id, entry.recorded_at)
            case EntryKind.RUN_REWOUND:
                for public_token_id in body["public_tokens"]:
                    self._revoke(public_token_id, entry.recorded_at)
            case EntryKind.API_KEY_CREATED:
                self.admit_api_key(
                    ApiKey(
                        id=body["key_id"],
                        role=body["role"],
                        name=body["name"],
                        secret_hash=body["secret_hash"],
                        person=body.get("person"),
                        expires_at=from_iso(body["expires_at"]) if "expires_at" in body else None,
                        created_offset=entry.feed_offset,
                        created_at=entry.recorded_at,
                    )
                )
                self.touched_api.add(body["key_id"])
            case EntryKind.API_KEY_REVOKED:
                key = self.api_keys.get(body["key_id"])
                if key is not None and key.revoked_at is None:
                    self.api_keys[key.id] = replace(key, revoked_at=entry.recorded_at)
                    self.touched_api.add(key.id)
            case _:
                pass

    def admit_public_token(self, owned: OwnedPublicToken) -> None:
        """Take in a public token that was read from the tables; one that is here wins."""
        if owned.token.id in self.public_tokens:
            return
        self.public_tokens[owned.token.id] = owned
        self._public_by_hash[owned.token.secret_hash] = owned.token.id
        if owned.token.scope.wait_id is not None:
            self._of_wait.setdefault(owned.token.scope.wait_id, set()).add(owned.token.id)
        if owned.session_id != SYSTEM_STREAM and owned.token.revoked_at is None:
            self._of_session.setdefault(owned.session_id, set()).add(owned.token.id)

    def admit_api_key(self, key: ApiKey) -> None:
        """Take in an API key that was read from the tables."""
        self.api_keys.setdefault(key.id, key)
        self._api_by_hash[key.secret_hash] = key.id

    def evict(self, now: datetime) -> None:
        """Forget dead public tokens, oldest first, while there are too many. The list reads the tables."""
        if len(self.public_tokens) <= PUBLIC_TOKENS_MAX:
            return
        for owned in tuple(self.public_tokens.values()):
            token = owned.token
            is_dead = token.revoked_at is not None or token.expires_at <= now
            if is_dead and token.id not in self.touched_public:
                self._forget(owned)

    def forget(self, sessions: Collection[str]) -> None:
        """Forget the public tokens of sessions that were pruned."""
        for owned in [one for one in self.public_tokens.values() if one.session_id in sessions]:
            self._forget(owned)
            self.touched_public.discard(owned.token.id)
            self._of_session.pop(owned.session_id, None)

    def _forget(self, owned: OwnedPublicToken) -> None:
        token = owned.token
        del self.public_tokens[token.id], self._public_by_hash[token.secret_hash]
        self._of_session.get(owned.session_id, set()).discard(token.id)
        wait_id = token.scope.wait_id
        if wait_id is not None:
            self._of_wait[wait_id].discard(token.id)
            if not self._of_wait[wait_id]:
                del self._of_wait[wait_id]

    def _made(self, owned: OwnedPublicToken) -> None:
        self.admit_public_token(owned)
        self.touched_public.add(owned.token.id)

    def _revoke(self, public_token_id: str, at: datetime) -> None:
        owned = self.public_tokens.get(public_token_id)
        if owned is None or owned.token.revoked_at is not None:
            return
        self._change(public_token_id, revoked_at=at)
        self._of_session.get(owned.session_id, set()).discard(public_token_id)

    def _change(self, public_token_id: str, **changes: object) -> None:
        owned = self.public_tokens.get(public_token_id)
        if owned is None:
            return
        token = replace(owned.token, **changes)  # type: ignore[arg-type]  # fields of its own
        self.public_tokens[public_token_id] = replace(owned, token=token)
        self.touched_public.add(public_token_id)
