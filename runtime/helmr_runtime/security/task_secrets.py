"""Secrets that a run derives from its session's keys for its tokens, the same at every replay.

The live session holds this value and a run's thread uses it: it only computes, and stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from helmr.current import TokenCall
from helmr.errors import NotReady
from helmr.wire import ids
from helmr_runtime.core.public_tokens import Scope
from helmr_runtime.core.requests import key_tag
from helmr_runtime.core.tokens import NewToken
from helmr_runtime.security.keys import derive, derive_secret
from helmr_runtime.security.origins import check_allowed_origin
from helmr_runtime.security.payloads import PayloadCipher
from helmr_runtime.security.schemas import DataSchema
from helmr_runtime.security.secrets import SecretKind, SessionKey, SessionKeys, secret_hash
from helmr_runtime.security.webhook_signatures import Verification

CALLBACK_PATH = "/v1/callbacks/"
LINK_PATH = "/v1/links/"

MADE_UP = "made-up"
"""The id of a key that no one has."""


class TaskSecrets:
    """Makes tokens for a session.

    Args:
        keys: The session's; the system stream's for what a client makes. None: this runtime has no master key.
        base_url: The external base URL, without a slash at its end.
    """

    def __init__(self, keys: SessionKeys | None, base_url: str) -> None:
        self._optional_keys = keys
        self._base_url = base_url.rstrip("/")

    @property
    def _keys(self) -> SessionKeys:
        if self._optional_keys is None:
            raise NotReady(
                "this runtime has no master key, so it makes no tokens",
                hint="`helmr up` makes one in its data directory.",
            )
        return self._optional_keys

    @cached_property
    def asked_keys(self) -> Mapping[str, bytes]:
        """Keys of the hashes of steps' arguments, by their tags, the newest last (S-126); none without a master key."""
        keys = self._optional_keys
        if keys is None:
            return {}
        ordered = sorted(keys.by_id, key=lambda one: one == keys.newest_id)
        found = (derive(keys.by_id[one].secrets, "asked") for one in ordered)
        return {key_tag(key): key for key in found}

    def new_token(self, call: TokenCall) -> NewToken:
        """The token that the code asks for, with a fresh id.

        Raises:
            BadSchema, BadRequest: Its schema, verification or an origin can't be used.
        """
        if call.schema is not None:
            DataSchema(call.schema)
        token_id, key_id = ids.new_id(ids.TOKEN), self._keys.newest_id
        return NewToken(
            token_id=token_id,
            public_token_id=ids.new_id(ids.PUBLIC_TOKEN),
            key_id=key_id,
            callback_hash=secret_hash(self.secret("cb", token_id, key_id)),
            public_token_hash=secret_hash(self.secret("pat", token_id, key_id)),
            timeout_s=call.timeout_s,
            tags=tuple(dict.fromkeys(call.tags)),
            metadata=call.metadata,
            schema=call.schema,
            is_raw=call.is_raw,
            verify=self._sealed(call.verify, token_id),
            subject=call.subject,
            body=call.body,
            initial=call.initial,
            escalation=call.escalation,
            evidence=call.evidence,
            allowed_origins=tuple(check_allowed_origin(one) for one in call.allowed_origins),
        )

    def _sealed(self, verify: Mapping[str, Any] | None, token_id: str) -> dict[str, Any] | None:
        if verify is None:
            return None
        return Verification.from_json(verify).sealed(PayloadCipher(self._keys), token_id)

    def new_public_token(
        self, scope: Scope, allowed_origins: tuple[str, ...]
    ) -> tuple[str, str, str, tuple[str, ...]]:
        """Id, key id and secret's hash of a fresh public token, and its origins as browsers send them."""
        public_token_id, key_id = ids.new_id(ids.PUBLIC_TOKEN), self._keys.newest_id
        hashed = secret_hash(self.secret("pat", public_token_id, key_id))
        return public_token_id, key_id, hashed, tuple(map(check_allowed_origin, allowed_origins))

    def new_link(self) -> tuple[str, str, str]:
        """Id, key id and secret's hash of a fresh answer link."""
        link_id, key_id = ids.new_id(ids.PUBLIC_TOKEN), self._keys.newest_id
        return link_id, key_id, secret_hash(self.secret("link", link_id, key_id))

    def link_url(self, link_id: str, key_id: str) -> str:
        """Return the URL at which a person answers."""
        return f"{self._base_url}{LINK_PATH}{self.secret('link', link_id, key_id)}"

    def secret(self, kind: str, object_id: str, key_id: str) -> str:
        """The secret of an object of this session; `kind` is `cb`, `pat` or `link`."""
        return derive_secret(self._keys, SecretKind(kind), object_id, key_id)

    def callback_url(self, token_id: str, key_id: str, *, is_raw: bool) -> str:
        """Return the URL at which an outside system completes the token; `is_raw` makes it take raw bodies."""
        secret = self.secret("cb", token_id, key_id)
        return f"{self._base_url}{CALLBACK_PATH}{secret}{'?raw=1' if is_raw else ''}"


class MadeUpSecrets(TaskSecrets):
    """Secrets that open nothing, for code that is tried where the session's keys are not."""

    def __init__(self, session_id: str) -> None:
        key = SessionKey(chain=bytes(32), secrets=bytes(32), payload=bytes(32))
        super().__init__(SessionKeys(session_id, MADE_UP, {MADE_UP: key}), "http://helmr.invalid")

    @cached_property
    def asked_keys(self) -> Mapping[str, bytes]:
        """None: they are the session's, or those that came with its journal."""
        return {}

    def secret(self, kind: str, object_id: str, key_id: str) -> str:
        """Whatever key it was made with: a made-up secret of the same form."""
        return super().secret(kind, object_id, MADE_UP)
