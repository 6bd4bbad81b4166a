"""A link that opens the inbox of a runtime on this machine for the holder of its local admin key, once. Pure.

It carries `<made at>.<random>.<MAC>` and never the key. The gateway stores only the key's hash, so the hash keys the
MAC: no route mints links, and a link needs no entry in the ledger.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta

LOCAL_PATH = "/sign-in/local"
CODE_FIELD = "code"
VALID_FOR = timedelta(minutes=10)
CODE_CHARS_MAX = 200


def inbox_link(url: str, key: str, now: datetime) -> str:
    """A fresh link below a runtime's URL.

    Args:
        url: The runtime's.
        key: Its local admin key.
        now: The time, aware.
    """
    made_at, random = str(int(now.timestamp() * 1000)), secrets.token_hex(16)
    mac = _mac(hashlib.sha256(key.encode()).hexdigest(), made_at, random)
    return f"{url.rstrip('/')}{LOCAL_PATH}?{CODE_FIELD}={made_at}.{random}.{mac}"


def made_at(key_hash: str, code: str) -> datetime | None:
    """Return the time at which the code was made; None if another key made it."""
    parts = code.split(".") if len(code) <= CODE_CHARS_MAX and code.isascii() else []
    if not key_hash or len(parts) != 3:
        return None
    at, random, given = parts
    if not hmac.compare_digest(given, _mac(key_hash, at, random)):
        return None
    return datetime.fromtimestamp(int(at) / 1000, UTC)


def _mac(key_hash: str, at: str, random: str) -> str:
    text = f"helmr inbox link\0{at}\0{random}"
    return hmac.new(key_hash.encode(), text.encode(), hashlib.sha256).hexdigest()
