"""The answer page's nonce: a form can be sent only by who was shown the page.

```
<expires, unix seconds>.<22 random>.<43 MAC>.<22 MAC with the binding>      base64url
```

The MACs (HMAC-SHA256) cover the token's id and the first two parts, the second also the binding:
what the form was made from. So a blind POST, as link scanners send it, is refused without a lookup,
a nonce of one token is nothing on another's page, and a form whose schema was changed meanwhile is
shown again instead of being read with the wrong meaning.

*One time*: its only use is the completion of a one-shot token. Whoever completes the token stores
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

NONCE_LIFETIME = timedelta(hours=24)
"""A page may stay open for a working day; the secret in its URL lives longer anyway."""
_NONCE_CHARS_MAX = 120


class NonceState(StrEnum):
    """What a nonce is worth."""

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
    head = f"{expires}.{_text(secrets.token_bytes(16))}"
    return f"{head}.{_mac(key, head, token_id)}.{_mac(key, head, token_id, binding)[:22]}"


def read_nonce(
    key: bytes, nonce: str | None, *, token_id: str, binding: str, now: datetime
) -> Nonce:
    """Say what a submitted nonce is worth on this token's page, now."""
    parts = (nonce or "").split(".")
    if nonce is None or len(nonce) > _NONCE_CHARS_MAX or len(parts) != 4:
        return Nonce(NonceState.UNKNOWN)
    head = f"{parts[0]}.{parts[1]}"
    if not _is_equal(parts[2], _mac(key, head, token_id)):
        return Nonce(NonceState.UNKNOWN)
    is_current = _is_equal(parts[3], _mac(key, head, token_id, binding)[:22])
    # The MAC holds, so the head is one that we wrote.
    expires_at = datetime.fromtimestamp(int(parts[0]), UTC)
    state = NonceState.VALID if is_current and now < expires_at else NonceState.STALE
    return Nonce(state, parts[1])


def _mac(key: bytes, *parts: str) -> str:
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        raw = part.encode(errors="replace")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return _text(digest.digest())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _is_equal(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(errors="replace"), right.encode())
