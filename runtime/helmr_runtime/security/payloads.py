"""Entry bodies and checkpoints at rest: AES-256-GCM, each bound to its place in the transcript.

A sealed body is still a JSON object, so that SQL over bodies meets no text that it can't read:

```
{
    "enc": 1,
    "stream": "approval",
    "stream_seq": 3,
    "sealed": "k1.<base64url of nonce, ciphertext and tag>",
}
```

What stands before `sealed` is what the store looks entries up by (`core.entries.LOOKUP_KEYS`). The
additional data is session, seq, kind, key id and all that text: a body that was moved to another
entry does not open, as little as one of which any byte was changed. The two ends are marks of their
own, so that a change of one can't make a sealed body pass for one in the clear.

A setting is sealed as `enc1.<key id>.<base64url>`, a piece of a file as `s<key id>.<nonce, ciphertext and tag>`,
bound to its name in the store.

Keys are a session's own (`helmr_runtime.security.keys`), nonces 96 random bits; one key seals at
most as many bodies as its session has entries, far below the 2^32 that random nonces allow
(NIST SP 800-38D). The hash chain covers the text as stored, so damage is found without a key too.

A filter for every log handler keeps secrets out of log lines. Ours are known by their prefix
(`helmr_runtime.security.secrets`); what others gave us by where it stands: a bearer header, a `whsec_` key, the path
after /callbacks/ and /v1/links/. Redacting is the second line: the first is that secrets are not logged, have no repr
and that the server's access log is off.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from helmr.errors import MasterKeyMissing, PayloadDamaged
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import SEALED_MARK
from helmr_runtime.security.secrets import SessionKeys, parse_secret

_SETTING_MARK = "enc1."
_FIELD = '"sealed":"'
_END = '"}'
_NONCE_BYTES = 12

PLAIN_PIECE, _SEALED_PIECE = b"p", b"s"
"""First byte of a stored piece of a file."""

CHECKPOINT = "checkpoint"
"""The kind under which a session's checkpoint is sealed; no entry has it."""


def is_sealed(stored: str) -> bool:
    """True for a text that `PayloadCipher.seal` made, also one that was damaged since."""
    if stored.startswith(SEALED_MARK) or not (stored.startswith("{") and stored.endswith("}")):
        return True
    # Unescaped quotes stand outside JSON strings only, and no kind's body ends with such a key.
    _, found, encoded = stored.rpartition(_FIELD)
    return bool(found) and stored.endswith(_END) and '"' not in encoded[: -len(_END)]


class PayloadCipher:
    """Seals and opens the entry bodies and settings of one session.

    Sealing uses the newest key, opening the key that the stored text names: a rotation concerns new
    entries only. Safe to use from several threads.
    """

    def __init__(self, keys: SessionKeys) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESGCM] = {}

    def seal(
        self, body_json: str, *, seq: int, kind: str, clear: Mapping[str, Any] | None = None
    ) -> str:
        """The stored text of an entry's body; the body itself while payloads are not encrypted."""
        if not self._keys.encrypts_payloads:
            return body_json
        head = SEALED_MARK
        if clear:
            head += f"{jsontext.encode(clear)[1:-1]},"
        sealed = self._seal(body_json, f"{self._keys.session_id}|{seq}|{kind}|{head}")
        return f"{head}{_FIELD}{sealed}{_END}"

    def open(self, stored: str, *, seq: int, kind: str) -> str:
        """The body's JSON text; a body that was stored in the clear is returned as it is.

        Raises:
            PayloadDamaged: A byte, the address or the key id was changed; names the entry.
            MasterKeyMissing: The key ring no longer holds its key.
        """
        if not is_sealed(stored):
            return stored
        head, found, rest = stored.rpartition(_FIELD)
        is_whole = head.startswith(SEALED_MARK) and found and rest.endswith(_END)
        return self._open(
            rest[: -len(_END)] if is_whole else None,
            f"{self._keys.session_id}|{seq}|{kind}|{head}",
            what=f"{self._keys.session_id} seq {seq} ({kind}): the body",
            facts={"seq": seq, "kind": kind},
        )

    def seal_setting(self, text: str, *, owner_id: str) -> str:
        """The stored text of a secret that a caller gave us, such as a provider's signing secret.

        Encrypted also while payloads are not.
        """
        return _SETTING_MARK + self._seal(text, f"{self._keys.session_id}|setting|{owner_id}")

    def open_setting(self, stored: str, *, owner_id: str) -> str:
        """The text that `seal_setting` was given for this owner.

        Raises:
            PayloadDamaged: It was changed, or belongs to another owner.
            MasterKeyMissing: The key ring no longer holds its key.
        """
        is_setting = stored.startswith(_SETTING_MARK)
        return self._open(
            stored.removeprefix(_SETTING_MARK) if is_setting else None,
            f"{self._keys.session_id}|setting|{owner_id}",
            what=f"{owner_id}: the stored setting",
            facts={"owner_id": owner_id},
        )

    def seal_piece(self, data: bytes, *, key: str) -> bytes:
        """The stored form of a piece of a file: a mark, and the piece, sealed where bodies are.

        Args:
            data: The piece.
            key: Its name in the store, which a sealed piece is bound to.
        """
        if not self._keys.encrypts_payloads:
            return PLAIN_PIECE + data
        key_id = self._keys.newest_id
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(key_id).encrypt(nonce, data, _piece_address(key, key_id))
        return b"".join((_SEALED_PIECE, key_id.encode(), b".", nonce, sealed))

    def open_piece(self, stored: bytes, *, key: str) -> bytes:
        """The piece.

        Raises:
            PayloadDamaged: It was changed, or lies under another name.
            MasterKeyMissing: The key ring no longer holds its key.
        """
        if stored[:1] == PLAIN_PIECE:
            return stored[1:]
        named, _, rest = stored[1:].partition(b".")
        key_id = named.decode("ascii", "replace")[:32]
        facts: dict[str, Any] = {"session_id": self._keys.session_id, "key_id": key_id}
        try:
            if stored[:1] != _SEALED_PIECE:
                raise ValueError("no mark of a piece")
            address = _piece_address(key, key_id)
            return self._cipher(key_id).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], address)
        except MasterKeyMissing as error:
            raise MasterKeyMissing(
                f"{key} was encrypted with master key {key_id!r}, which is not in the key ring",
                **facts,
            ) from error
        except (InvalidTag, ValueError) as error:
            raise PayloadDamaged(f"{key} does not decrypt: it was changed", **facts) from error

    def _seal(self, text: str, address: str) -> str:
        key_id = self._keys.newest_id
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(key_id).encrypt(nonce, text.encode(), f"{address}|{key_id}".encode())
        return f"{key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def _open(self, sealed: str | None, address: str, *, what: str, facts: dict[str, Any]) -> str:
        key_id, _, encoded = (sealed or "").partition(".")
        facts = {"session_id": self._keys.session_id, "key_id": key_id[:32], **facts}
        try:
            if sealed is None:
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


def _piece_address(key: str, key_id: str) -> bytes:
    return f"piece|{key}|{key_id}".encode()


MARK = "[redacted]"

_RULES = (
    # Also a secret that was cut off, whose rest may stand elsewhere; 4 characters give nothing
    # away.
    (re.compile(r"(hlmr_[a-z]{1,8}_)[0-9A-Za-z]{4,}"), rf"\1{MARK}"),
    (re.compile(r"(/(?:callbacks|v1/links)/)(?!\[redacted\])[^\s\"'?#<>]+"), rf"\1{MARK}"),
    (re.compile(r"(whsec_)[0-9A-Za-z+/=_-]{4,}"), rf"\1{MARK}"),
    (re.compile(r"(?i)(\bbearer\s+)(?!hlmr_|\[)[0-9A-Za-z._~+/=-]{4,}"), rf"\1{MARK}"),
)
_SECRET = re.compile(r"hlmr_[a-z]{1,8}_[0-9A-Za-z]{49}")
_OWN_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """The text without anything that looks like a secret."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def find_secrets(text: str) -> Iterator[str]:
    """The well-formed secrets in a text, live or not; what a search of logs and files looks for."""
    return (found[0] for found in _SECRET.finditer(text) if parse_secret(found[0]) is not None)


class RedactingFilter(logging.Filter):
    """Redacts message, traceback, stack and extra texts of every record that passes.

    Belongs on handlers: a logger's filters don't see what its children log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact in place; every record goes on."""
        record.msg, record.args = redact(_message(record)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
        if record.exc_text:
            # A formatter that finds exc_info makes its own text of it, past this filter.
            record.exc_text, record.exc_info = redact(record.exc_text), None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in record.__dict__.items():
            if name not in _OWN_ATTRIBUTES:
                record.__dict__[name] = _redacted_value(value)
        return True


_FORMATTER = logging.Formatter()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # The call's own mistake: logging reports it on stderr with the arguments, so they go too.
        return f"{record.msg} (its arguments do not fit)"


def _redacted_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    cleaned = redact(text)
    return value if isinstance(value, str) is False and cleaned == text else cleaned


def install(logger: logging.Logger | None = None) -> None:
    """Put the filter on every handler of a logger (default the root); harmless when repeated."""
    for handler in (logger or logging.getLogger()).handlers:
        if not any(isinstance(each, RedactingFilter) for each in handler.filters):
            handler.addFilter(RedactingFilter())
