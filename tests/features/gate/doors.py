"""What the feature writes first, for the tests of its door."""

from __future__ import annotations

from datetime import timedelta

from helmr.gate.grant_scope import GrantScope
from helmr.wire import ids
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.features.gate.facts import CreateGrant
from tests.ledger.sessions import START_AT

FACT = CreateGrant(
    principal=RUNTIME,
    grant_id=ids.new_id(ids.GRANT),
    scope=GrantScope(
        "claude-code", "a1", "api_key:key_1", "Bash", {"command": ("git *",)}
    ).to_json(),
    session_id=ids.new_id(ids.SESSION),
    expires_at=START_AT + timedelta(hours=1),
)
