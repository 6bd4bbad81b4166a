"""Secrets and the keys of one session: their text, how a typing error is recognized, what of it is stored.

A secret is `hlmr_<kind>_<43 base62><6 base62>`: 256 bits, then the CRC-32 of everything before it.
The prefix lets scanners find a leaked one; the CRC tells a damaged one without a lookup. Only
`secret_hash` is ever stored: a secret has 256 bits, so a plain SHA-256 can't be
searched.

A session's keys are plain values, derived from a master key and the session's id (`helmr_runtime.security.keys`). An
actor runs task code, so it gets these and never a master key: anyone who reads its memory can make and open what
belongs to that session and nothing else.

Invariants: S-46 (a malformed secret is refused like an unknown one, by who calls `parse_secret`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from helmr.errors import MasterKeyMissing

SECRET_BYTES = 32
_BODY_CHARS = 43
_CRC_CHARS = 6
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class SecretKind(StrEnum):
    """Kind of access that a secret gives; its text contains the value."""

    API_KEY = "key"
    PUBLIC_TOKEN = "pat"
    CALLBACK = "cb"
    LINK = "link"
    BROWSER = "web"
    """The cookie of a person's browser."""


_KINDS = "|".join(kind.value for kind in SecretKind)
_SECRET = re.compile(
    rf"hlmr_({_KINDS})_([0-9A-Za-z]{{{_BODY_CHARS}}})([0-9A-Za-z]{{{_CRC_CHARS}}})", re.ASCII
)
SECRET_CHARS_MAX = len("hlmr_link_") + _BODY_CHARS + _CRC_CHARS


def make_secret(kind: SecretKind | str) -> str:
    """A fresh random secret of that kind. Shown once; store `secret_hash` of it."""
    return secret_from_bytes(kind, secrets.token_bytes(SECRET_BYTES))


def secret_from_bytes(kind: SecretKind | str, raw: bytes) -> str:
    """The secret that holds these 32 bytes; how a derived secret gets its text."""
    if len(raw) != SECRET_BYTES:
        raise ValueError(f"a secret holds {SECRET_BYTES} bytes, not {len(raw)}")
    stem = f"hlmr_{SecretKind(kind).value}_{_base62(int.from_bytes(raw, 'big'), _BODY_CHARS)}"
    return stem + _crc(stem)


def parse_secret(text: str) -> SecretKind | None:
    """The kind of a well-formed secret, None for anything else.

    Says nothing about whether the secret is known: that is a lookup of its hash, which a wrong
    CRC saves.
    """
    found = _SECRET.fullmatch(text) if len(text) <= SECRET_CHARS_MAX else None
    if found is None or _crc(text[:-_CRC_CHARS]) != found[3]:
        return None
    return SecretKind(found[1])


def read_secret(text: str) -> tuple[SecretKind, str] | None:
    """Kind and hash of a well-formed secret, None for anything else."""
    kind = parse_secret(text)
    return (kind, secret_hash(text)) if kind is not None else None


def secret_hash(text: str) -> str:
    """Hex SHA-256 of a secret: what is stored and looked up."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def is_same_secret(left: str, right: str) -> bool:
    """Compare two secrets or two hashes in constant time."""
    return hmac.compare_digest(left.encode(errors="replace"), right.encode(errors="replace"))


def _crc(stem: str) -> str:
    return _base62(zlib.crc32(stem.encode()), _CRC_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Keys that one master key derives for one session: 32 bytes each, left out of reprs."""

    chain: bytes = field(repr=False)
    """HMAC key of the hash chain (S-52)."""
    secrets: bytes = field(repr=False)
    """The secrets of the session's tokens derive from it."""
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
