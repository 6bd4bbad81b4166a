"""The runtime signs session files by Ed25519 (RFC 8032), with a key pair that follows from a master key (S-95).

The pair is derived, not stored: it is there from the first `up` on, is kept and restored as the key ring is, and a
rotation of the master key is one of it. The newest master key signs. Files that an older one signed stay good by its
public key, which `helmr key public` prints too.

A public key is written `ed25519:` and the base64 of its 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from helmr.errors import SessionFileDamaged, UsageError
from helmr_runtime.core.session_file import Checked, FileSignature
from helmr_runtime.security.keys import KeyRing

PURPOSE = "session-file"
SCHEME = "ed25519:"


def sign(ring: KeyRing, signed: bytes) -> FileSignature:
    """The newest key's signature of a file, by what of it is signed."""
    key = _private(ring, ring.newest.id)
    signature = base64.b64encode(key.sign(signed)).decode()
    return FileSignature(_text(key), signature)


def public_keys(ring: KeyRing) -> tuple[tuple[str, str], ...]:
    """The id of each master key and the text of the public key that follows from it, the newest first."""
    return tuple((key.id, _text(_private(ring, key.id))) for key in reversed(ring.keys))


def check_signature(checked: Checked, keys: Sequence[str]) -> str:
    """Return the one of these public keys that signed the file.

    Raises:
        UsageError: One of them is not a public key.
        SessionFileDamaged: None of them signed it; the line is the footer's.
    """
    known = {key.strip(): _public(key) for key in keys}
    said = checked.signature
    key = known.get(said.key)
    if key is None:
        raise SessionFileDamaged(
            f"line {checked.lines}: it is signed by {said.key[:80]}, which is none of the keys that were given",
            hint="`helmr key public` prints the runtime's keys, older ones too.",
            line=checked.lines,
        )
    try:
        key.verify(base64.b64decode(said.signature, validate=True), checked.signed)
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise SessionFileDamaged(
            f"line {checked.lines}: the signature is not that of {said.key} for this file",
            hint="Someone has changed the file and made its chain fit.",
            line=checked.lines,
        ) from error
    return said.key


def _private(ring: KeyRing, key_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(ring.purpose_key(PURPOSE, key_id))


def _text(key: Ed25519PrivateKey) -> str:
    return SCHEME + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _public(text: str) -> Ed25519PublicKey:
    encoded = text.strip()
    try:
        if not encoded.startswith(SCHEME):
            raise ValueError("no scheme")
        raw = base64.b64decode(encoded.removeprefix(SCHEME), validate=True)
        return Ed25519PublicKey.from_public_bytes(raw)
    except (binascii.Error, ValueError) as error:
        raise UsageError(
            f"{encoded[:80]!r} is not a public key",
            hint=f"It begins with {SCHEME}, as `helmr key public` prints it.",
        ) from error
