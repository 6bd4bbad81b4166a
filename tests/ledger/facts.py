"""Facts that clients ask of the ledger, for tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from helmr.current import TokenCall
from helmr.wire import ids
from helmr_runtime.core.public_tokens import CreateCompletionToken
from helmr_runtime.core.tokens import CompleteToken, CreateToken
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.task_secrets import TaskSecrets
from tests.ledger.sessions import ALICE

SECRETS = TaskSecrets(
    KeyRing((MasterKey("k1", b"1" * 32),)).session_keys(ids.SYSTEM_STREAM), "http://h"
)


def create_token(timeout_s: float = 3600) -> CreateToken:
    """Make a token."""
    return CreateToken(principal=ALICE, new=SECRETS.new_token(TokenCall(timeout_s=timeout_s)))


def complete_token(
    token_id: str, data: Any = 1, public_token_id: str | None = None
) -> CompleteToken:
    """Complete it."""
    return CompleteToken(
        principal=ALICE, token_id=token_id, data=data, public_token_id=public_token_id
    )


def create_public_token(token_id: str, now: datetime) -> CreateCompletionToken:
    """Make a public token that completes it."""
    return CreateCompletionToken(
        principal=ALICE,
        public_token_id=ids.new_id("pat"),
        token_id=token_id,
        secret_hash=ids.new_id("pat"),
        key_id="k1",
        max_uses=None,
        expires_at=now + timedelta(days=1),
        allowed_origins=(),
    )
