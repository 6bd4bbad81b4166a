"""Entry bodies and checkpoints between memory, where they are plain, and the file, where they may be sealed.

Safe to use from several threads: readers open while the loop seals.
"""

from __future__ import annotations

from functools import lru_cache

from helmr.errors import MasterKeyMissing
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.payloads import CHECKPOINT, PayloadCipher, is_sealed

CIPHERS_CACHED = 4_096
"""Sessions whose keys are kept ready; deriving them anew takes some ten microseconds."""


class Bodies:
    """Seals and opens with the keys of whatever session it is asked about.

    Args:
        ring: The master keys; without them bodies are plain and a sealed one can't be opened.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self._ciphers = lru_cache(CIPHERS_CACHED)(self._cipher_of)

    def cipher(self, session_id: str) -> PayloadCipher | None:
        """The session's cipher; it seals only if the ring says so."""
        return self._ciphers(session_id)

    def open(self, stored: str, *, session_id: str, seq: int, kind: str) -> str:
        """The JSON text of a stored body.

        Raises:
            PayloadDamaged: It was changed, or belongs to another entry.
            MasterKeyMissing: Its key is not in the ring.
        """
        if not is_sealed(stored):
            return stored
        cipher = self.cipher(session_id)
        if cipher is None:
            raise MasterKeyMissing(
                f"{session_id} seq {seq} ({kind}): the body is encrypted and there is no key ring",
                session_id=session_id,
                seq=seq,
            )
        return cipher.open(stored, seq=seq, kind=kind)

    def open_checkpoint(self, stored: str, *, session_id: str, seq: int) -> str:
        """The text of a stored checkpoint; raises as `open` does."""
        return self.open(stored, session_id=session_id, seq=seq, kind=CHECKPOINT)

    def _cipher_of(self, session_id: str) -> PayloadCipher | None:
        return PayloadCipher(self._ring.session_keys(session_id)) if self._ring else None
