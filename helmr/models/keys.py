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
    """The person that owns it and acts with it; None for a service's key."""
    created_at: datetime
    created_by: PrincipalInfo | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class ApiKeyReceipt(ApiKeyInfo):
    """A new API key with its secret, which only this answer shows."""

    secret: str


class FileKeyInfo(Wire):
    """A public key that verifies session files; `id` is that of the master key that it derives from."""

    id: str
    key: str


class Credentials(Wire):
    """Contents of `<data-dir>/credentials.json` and the live pointer, by which local programs reach a runtime."""

    url: str
    key: str
    pid: int
    data_dir: str
