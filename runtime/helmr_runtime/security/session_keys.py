"""The keys of one session, as its actor and the ledger hold them: plain values, no cryptography.

They are derived from a master key and the session's id (`helmr_runtime.security.keys`). An actor runs
task code, so it gets these and never a master key: anyone who reads its memory can make and open what
belongs to that session and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from helmr.errors import MasterKeyMissing


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What one master key gives one session; 32 bytes each, kept out of every repr."""

    chain: bytes = field(repr=False)
    """HMAC key of the hash chain (S-52)."""
    secrets: bytes = field(repr=False)
    """What the secrets of the session's tokens are derived from."""
    payload: bytes = field(repr=False)
    """AES-256-GCM key of the session's entry bodies and sealed settings."""


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """A session's keys by master key id; `newest_id` is for what is made now.

    `encrypts_payloads`: the bodies of new entries are sealed; old ones open either way.
    """

    session_id: str
    newest_id: str
    by_id: Mapping[str, SessionKey] = field(repr=False)
    encrypts_payloads: bool = False

    def get(self, key_id: str) -> SessionKey:
        """The key made with that master key.

        Raises:
            MasterKeyMissing: The key ring no longer holds it.
        """
        key = self.by_id.get(key_id)
        if key is None:
            raise MasterKeyMissing(
                f"{self.session_id}: master key {key_id!r} is not in the key ring", key_id=key_id
            )
        return key

    @property
    def newest(self) -> SessionKey:
        """The key for what is made now."""
        return self.get(self.newest_id)
