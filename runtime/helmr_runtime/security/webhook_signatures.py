"""A provider signs a webhook over its raw body: GitHub, Slack, Standard Webhooks.

A token created with `verify=` is completed through its callback URL only by a request that the
provider signed; the URL alone is then not enough. All three are HMAC-SHA256 over the bytes as they
came, compared in constant time; the two with a time also bound a replay.

```
github             X-Hub-Signature-256: sha256=<hex>             over the body
slack              X-Slack-Signature: v0=<hex>                   over v0:<time>:<body>
                   X-Slack-Request-Timestamp: <time>
standard_webhooks  webhook-signature: v1,<base64> [v1,<base64>…] over <id>.<time>.<body>
                   webhook-id, webhook-timestamp                 secret: whsec_<base64>
```

Source: docs.github.com "Validating webhook deliveries"; api.slack.com "Verifying requests from
Slack"; standardwebhooks.com 1.0.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from helmr.errors import BadRequest, SignatureRefused
from helmr_runtime.security.payloads import PayloadCipher
from helmr_runtime.security.secrets import is_same_secret

TOLERANCE_S = 300
"""How far a signed time may lie from ours; what Slack and Standard Webhooks recommend."""
TOLERANCE_S_MAX = 3600
SECRET_CHARS_MAX = 512
_SIGNATURES_MAX = 8
"""Signatures of one Standard Webhooks header; a sender that rotates its key sends two."""
_STANDARD_KEY_BYTES = range(16, 129)
"""The specification says 24 to 64 bytes; senders with others exist."""


class SignatureScheme(StrEnum):
    """Signature scheme of a provider; the value is the wire name."""

    GITHUB = "github"
    SLACK = "slack"
    STANDARD_WEBHOOKS = "standard_webhooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Scheme and secret that sign a token's callbacks, from `tokens.create(verify=…)`."""

    scheme: SignatureScheme
    secret: str = field(repr=False)
    tolerance_s: int = TOLERANCE_S

    def __post_init__(self) -> None:
        if not 1 <= len(self.secret) <= SECRET_CHARS_MAX:
            raise BadRequest(f"verify: the secret must have 1 to {SECRET_CHARS_MAX} characters")
        if not 1 <= self.tolerance_s <= TOLERANCE_S_MAX:
            raise BadRequest(f"verify: tolerance_s must be 1 to {TOLERANCE_S_MAX}")
        self._key()

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> Verification:
        """The configuration in a request: `{scheme, secret, tolerance_s?}`.

        Raises:
            BadRequest: An unknown scheme or field, or a secret that the scheme can't use.
        """
        unknown = sorted(set(parts) - {"scheme", "secret", "tolerance_s"})
        if unknown:
            raise BadRequest(f"verify: unknown field {unknown[0]!r}")
        scheme, secret = parts.get("scheme"), parts.get("secret")
        tolerance_s = parts.get("tolerance_s", TOLERANCE_S)
        if scheme not in list(SignatureScheme):
            known = ", ".join(SignatureScheme)
            raise BadRequest("verify: unknown scheme", hint=f"Schemes are {known}.")
        if not isinstance(secret, str):
            raise BadRequest("verify: secret must be the text that the provider signs with")
        if not isinstance(tolerance_s, int) or isinstance(tolerance_s, bool):
            raise BadRequest("verify: tolerance_s must be a whole number of seconds")
        return cls(scheme=SignatureScheme(scheme), secret=secret, tolerance_s=tolerance_s)

    def sealed(self, cipher: PayloadCipher, token_id: str) -> dict[str, Any]:
        """Return the form that the token's entry stores: its secret is encrypted and bound to the token."""
        return {
            "scheme": self.scheme.value,
            "tolerance_s": self.tolerance_s,
            "secret_sealed": cipher.seal_setting(self.secret, owner_id=token_id),
        }

    @classmethod
    def unsealed(
        cls, stored: Mapping[str, Any], cipher: PayloadCipher, token_id: str
    ) -> Verification:
        """The configuration that `sealed` stored for this token."""
        return cls(
            scheme=SignatureScheme(stored["scheme"]),
            tolerance_s=stored["tolerance_s"],
            secret=cipher.open_setting(stored["secret_sealed"], owner_id=token_id),
        )

    def check(self, headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
        """Return if the provider signed exactly these bytes, recently if it signs a time.

        Args:
            headers: Looked up by lower-case name.
            body: Raw, before any decoding.
            now: Our clock, aware.

        Raises:
            SignatureRefused: Missing, malformed, wrong or too old; the same words for each.
        """
        if not self._is_signed(headers, body, now):
            raise SignatureRefused(
                f"the callback carries no valid {self.scheme.value} signature over its body",
                hint="Check the signing secret on both sides, and that nothing rewrites the body.",
            )

    def _is_signed(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        match self.scheme:
            case SignatureScheme.GITHUB:
                return self._is_github(headers, body)
            case SignatureScheme.SLACK:
                return self._is_slack(headers, body, now)
            case SignatureScheme.STANDARD_WEBHOOKS:
                return self._is_standard(headers, body, now)

    def _is_github(self, headers: Mapping[str, str], body: bytes) -> bool:
        given = headers.get("x-hub-signature-256", "")
        return is_same_secret(given, "sha256=" + self._mac(body).hex())

    def _is_slack(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        signed_at = headers.get("x-slack-request-timestamp", "")
        given = headers.get("x-slack-signature", "")
        signature = "v0=" + self._mac(b"v0:" + signed_at.encode() + b":" + body).hex()
        return self._is_recent(signed_at, now) and is_same_secret(given, signature)

    def _is_standard(self, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        message_id = headers.get("webhook-id", "")
        signed_at = headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").split(" ", _SIGNATURES_MAX)[:_SIGNATURES_MAX]
        signed = message_id.encode() + b"." + signed_at.encode() + b"." + body
        signature = "v1," + base64.b64encode(self._mac(signed)).decode()
        has_one = sum(is_same_secret(each, signature) for each in given) > 0  # compares them all
        return bool(message_id) and self._is_recent(signed_at, now) and has_one

    def _is_recent(self, signed_at: str, now: datetime) -> bool:
        if not re.fullmatch(r"[0-9]{1,11}", signed_at, re.ASCII):
            return False
        age_s = (now - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - int(signed_at)
        return abs(age_s) <= self.tolerance_s

    def _mac(self, signed: bytes) -> bytes:
        return hmac.new(self._key(), signed, hashlib.sha256).digest()

    def _key(self) -> bytes:
        if self.scheme is not SignatureScheme.STANDARD_WEBHOOKS:
            return self.secret.encode()
        try:
            key = base64.b64decode(self.secret.removeprefix("whsec_").encode(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) not in _STANDARD_KEY_BYTES:
            # Not from the decoder's error: a traceback would show the secret.
            raise BadRequest("verify: a Standard Webhooks secret is whsec_ and base64") from None
        return key
