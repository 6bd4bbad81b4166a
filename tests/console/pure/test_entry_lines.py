"""What an entry says on one line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from console import views
from helmr.models import EntryInfo, PrincipalInfo


@pytest.mark.parametrize(
    ("kind", "body", "word", "text"),
    [
        ("token.created", {"token_id": "tok_1", "subject": "Paid?"}, "token", "made tok_1: Paid?"),
        ("token.created", {"token_id": "tok_1"}, "token", "made tok_1"),
        ("token.completed", {"token_id": "tok_1", "data": "yes"}, "token", "completed tok_1: yes"),
        ("public_token.created", {"public_token_id": "pat_1"}, "token", "made pat_1"),
        (
            "public_token.spent",
            {"public_token_id": "pat_1", "uses": 2},
            "token",
            "pat_1 used, 2 in all",
        ),
        (
            "api_key.created",
            {"key_id": "key_1", "name": "on-call", "role": "viewer"},
            "key",
            "made on-call, viewer key_1",
        ),
        ("odd.kind", {"a": 1}, "odd", 'odd.kind {"a": 1}'),
    ],
)
def test_tokens_and_keys_are_told_in_words(
    kind: str, body: dict[str, Any], word: str, text: str
) -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    principal = PrincipalInfo(type="api_key", name="local")
    line = views.entry_line(
        EntryInfo(
            session_id="ses_1",
            seq=1,
            feed_offset=1,
            recorded_at=at,
            kind=kind,
            principal=principal,
            body=body,
        )
    )
    assert (line.word, line.text) == (word, text)
