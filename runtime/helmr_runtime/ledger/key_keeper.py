"""The master keys stay with the ledger; others ask it for what follows from them."""

from __future__ import annotations

from collections.abc import Sequence

from helmr_runtime.core.session_file import FileSignature
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.session_keys import SessionKeys
from helmr_runtime.security.signatures import public_keys, sign


class KeyKeeper:
    """What a ledger derives of its key ring.

    Args:
        ring: The master keys; None if there are none.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self.ring = ring

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys; None without master keys."""
        return self.ring.session_keys(session_id) if self.ring is not None else None

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """The signature of a session file, by the newest master key; None without master keys."""
        return sign(self.ring, signed) if self.ring is not None else None

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """The id of each master key and the public key that its signatures are checked by, the newest first."""
        return public_keys(self.ring) if self.ring is not None else ()
