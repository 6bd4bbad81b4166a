"""Entry bodies at rest: AES-256-GCM, each bound to its place in the transcript.

The stored text is `enc1.<key id>.<base64url of nonce, ciphertext and tag>`, which no JSON text can
be taken for (a body is an object and starts with `{`). The additional data is session, seq, kind
and key id: a body that was moved to another entry does not open, as little as one whose bytes were
changed.

Keys are a session's own (`runtime.security.session_keys`), nonces 96 random bits; one key seals at
most as many bodies as its session has entries, far below the 2^32 that random nonces allow
(NIST SP 800-38D). The hash chain covers the text as stored, so damage is found without a key too.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from helmr.errors import MasterKeyMissing, PayloadDamaged
from runtime.security.session_keys import SessionKeys

_MARK = "enc1."
_NONCE_BYTES = 12


def is_sealed(stored: str) -> bool:
    """True for a text that `PayloadCipher.seal` made; anything else is a body in the clear."""
    return stored.startswith(_MARK)


class PayloadCipher:
    """Seals and opens the entry bodies and settings of one session.

    Sealing uses the newest key, opening the key that the stored text names: a rotation concerns new
    entries only. Safe to use from several threads.
    """

    def __init__(self, keys: SessionKeys) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESGCM] = {}

    def seal(self, body_json: str, *, seq: int, kind: str) -> str:
        """The stored text of an entry's body; the body itself while payloads are not encrypted."""
        if not self._keys.encrypts_payloads:
            return body_json
        return self._seal(body_json, f"{self._keys.session_id}|{seq}|{kind}")

    def open(self, stored: str, *, seq: int, kind: str) -> str:
        """The body's JSON text; a body that was stored in the clear is returned as it is.

        Raises:
            PayloadDamaged: A byte, the address or the key id was changed; names the entry.
            MasterKeyMissing: The key ring no longer holds its key.
        """
        if stored.startswith("{"):
            return stored
        return self._open(
            stored,
            f"{self._keys.session_id}|{seq}|{kind}",
            what=f"{self._keys.session_id} seq {seq} ({kind}): the body",
            facts={"seq": seq, "kind": kind},
        )

    def seal_setting(self, text: str, *, owner_id: str) -> str:
        """The stored text of a secret that a caller gave us, such as a provider's signing secret.

        Encrypted also while payloads are not.
        """
        return self._seal(text, f"{self._keys.session_id}|setting|{owner_id}")

    def open_setting(self, stored: str, *, owner_id: str) -> str:
        """The text that `seal_setting` was given for this owner.

        Raises:
            PayloadDamaged: It was changed, or belongs to another owner.
            MasterKeyMissing: The key ring no longer holds its key.
        """
        return self._open(
            stored,
            f"{self._keys.session_id}|setting|{owner_id}",
            what=f"{owner_id}: the stored setting",
            facts={"owner_id": owner_id},
        )

    def _seal(self, text: str, address: str) -> str:
        key_id = self._keys.newest_id
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(key_id).encrypt(nonce, text.encode(), f"{address}|{key_id}".encode())
        return f"{_MARK}{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def _open(self, stored: str, address: str, *, what: str, facts: dict[str, Any]) -> str:
        key_id, _, encoded = stored.removeprefix(_MARK).partition(".")
        facts = {"session_id": self._keys.session_id, "key_id": key_id[:32], **facts}
        try:
            if not is_sealed(stored):
                raise ValueError("no mark of an encrypted text")
            raw = base64.b64decode(encoded.encode("ascii"), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw).decode() != encoded:
                raise ValueError("the last character has spare bits set")
            cipher = self._cipher(key_id)
            additional = f"{address}|{key_id}".encode()
            return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], additional).decode()
        except MasterKeyMissing as error:
            raise MasterKeyMissing(
                f"{what} was encrypted with master key {key_id[:32]!r}, "
                "which is not in the key ring, or the text was changed",
                **facts,
            ) from error
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise PayloadDamaged(f"{what} does not decrypt: it was changed", **facts) from error

    def _cipher(self, key_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCM(self._keys.get(key_id).payload)
        return cipher
