"""A key on the wire: API keys, public keys of session files, and the local key that programs find."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from helmr.models.common import PrincipalInfo, Wire


class ApiKeyInfo(Wire):
    """An API key, without its secret."""

    id: str
    name: str
    role: Literal["admin", "operator", "sender", "viewer", "asker"]
    person: str | None = None
    """Whose it is, and what comes with it is theirs; None of a service's key."""
    created_at: datetime
    created_by: PrincipalInfo | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class ApiKeyReceipt(ApiKeyInfo):
    """Answer of making one: with its secret, the only time it is shown."""

    secret: str


class FileKeyInfo(Wire):
    """A public key by which session files are verified; `id` is that of the master key that it follows from."""

    id: str
    key: str


class Credentials(Wire):
    """`<data-dir>/credentials.json` and the live pointer: how local programs find and enter a runtime."""

    url: str
    key: str
    pid: int
    data_dir: str
