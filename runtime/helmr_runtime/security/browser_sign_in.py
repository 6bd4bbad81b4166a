"""Signing in on a page: what ties an issuer's answer to the browser that asked, without a memory (S-116). No I/O.

A browser that begins gets a cookie, `<ends>.<random>.<return path>.<MAC>`. State, nonce and PKCE verifier are MACs of
the same random part, so they are never stored: the issuer's answer counts only beside the cookie of the browser that
asked, and the token only with the nonce of that sign-in. A form without an issuer (a pasted key) carries the state.

The path to go back to is one of this runtime's own pages, so no link leads elsewhere.

Source: OpenID Connect Core 1.0, 3.1.2.1; RFC 7636 (S256); RFC 9700, 4.7 (forged sign-ins).
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from helmr_runtime.security.callbacks import mac, url_text
from helmr_runtime.security.secrets import is_same_secret
from helmr_runtime.security.task_secrets import LINK_PATH

PURPOSE = "browser-sign-in"
"""Of the key that all this is made with."""

INBOX_PATH = "/inbox"
SIGN_IN_PATH = "/sign-in"
CALLBACK_PATH = "/sign-in/callback"

PENDING_FOR = timedelta(minutes=10)
"""From the first page to the issuer's answer."""

_COOKIE_CHARS_MAX = 2_000
_RETURN = re.compile(
    rf"{INBOX_PATH}(/wait_[0-9a-z]{{26}})?(\?[A-Za-z0-9_=&%.+-]{{0,800}})?|{LINK_PATH}hlmr_link_[0-9A-Za-z]{{49}}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in that a browser has begun.

    Attributes:
        id: Names it; random.
        return_to: A page of this runtime.
        ends_at: Later it counts no more.
        cookie: What the browser keeps meanwhile.
        state: Comes back with the issuer's answer, or with the form.
        nonce: Stands in the issuer's token.
        verifier: Redeems the issuer's code; the issuer has seen only `challenge`.
    """

    id: str
    return_to: str
    ends_at: datetime
    cookie: str
    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """The verifier's hash, S256."""
        return url_text(hashlib.sha256(self.verifier.encode()).digest())

    def is_answered_by(self, state: str | None) -> bool:
        """An answer with this state is for this browser."""
        return state is not None and is_same_secret(state, self.state)


def begun(key: bytes, return_to: str | None, now: datetime) -> PendingSignIn:
    """A new sign-in.

    Args:
        key: `KeyRing.purpose_key(PURPOSE)`.
        return_to: Where the person wants to be afterwards, as a link said it.
        now: Our clock, aware.
    """
    ends = int((now + PENDING_FOR).timestamp())
    return _made(key, ends, url_text(secrets.token_bytes(16)), own_page(return_to))


def read(key: bytes, cookie: str | None, now: datetime) -> PendingSignIn | None:
    """The sign-in that this cookie is of; None if we did not write it, or too long ago."""
    parts = (cookie or "").split(".")
    if cookie is None or len(cookie) > _COOKIE_CHARS_MAX or len(parts) != 4:
        return None
    ends, id_, path, given = parts
    if not is_same_secret(given, mac(key, "cookie", ends, id_, path)):
        return None
    # The MAC holds, so the rest is as we wrote it.
    return_to = base64.urlsafe_b64decode(path + "=" * (-len(path) % 4)).decode()
    found = _made(key, int(ends), id_, return_to)
    return found if now < found.ends_at else None


def own_page(path: str | None) -> str:
    """The path, if it is of a page here that people come back to; else that of the inbox."""
    return path if path is not None and _RETURN.fullmatch(path) else INBOX_PATH


def _made(key: bytes, ends: int, id_: str, return_to: str) -> PendingSignIn:
    path = url_text(return_to.encode())
    return PendingSignIn(
        id=id_,
        return_to=return_to,
        ends_at=datetime.fromtimestamp(ends, UTC),
        cookie=f"{ends}.{id_}.{path}.{mac(key, 'cookie', str(ends), id_, path)}",
        state=mac(key, "state", id_),
        nonce=mac(key, "nonce", id_),
        verifier=mac(key, "verifier", id_),
    )
