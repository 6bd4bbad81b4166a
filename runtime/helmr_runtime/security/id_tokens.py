"""ID tokens of OpenID Connect: what makes one good, and what it says of who signed in (S-111, S-114). No I/O, no clock.

A token counts if its issuer's key has signed it with an algorithm of public keys, it is for this client, and it is of
now. Everything else about it is refused in the same words, so that no one learns by trying which part was wrong.

An issuer may say groups at its userinfo endpoint alone. What that says counts for the account of the ID token only.

Source: OpenID Connect Core 1.0, 3.1.3.7 and 5.3.2; RFC 8725 (the algorithm is chosen here, never by the token).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from helmr_runtime.core.public_tokens import unauthenticated
from helmr_runtime.security.people import proven_email

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")
"""Public keys only: with `HS256` an issuer's public key would be a secret, and `none` is no signature."""

LEEWAY = timedelta(seconds=60)
"""Tolerated difference between the issuer's clock and ours."""

TOKEN_CHARS_MAX = 16_384
SUBJECT_MAX = 255
GROUPS_MAX = 200
GROUP_CHARS_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Claims of a valid ID token.

    Attributes:
        issuer, subject: The person's identity at the issuer.
        email: Lower-case address, if the issuer verified it and it is ASCII.
        issued_at: Time of the token.
        groups: Groups in the claim; None if the claim does not list all of them.
        groups_at: Time at which the person had these groups.
        groups_why: Reason and remedy if the issuer's userinfo did not give them; None if it did or was not asked.
        expires_at: Expiry of the token.
        nonce: The nonce that the sign-in sent, if any.
    """

    issuer: str
    subject: str
    email: str | None
    issued_at: datetime
    groups: tuple[str, ...] | None
    groups_at: datetime
    groups_why: str | None = None
    expires_at: datetime
    nonce: str | None = None


def is_like(text: str) -> bool:
    """True if the text could be an ID token, judged by its form alone."""
    return len(text) <= TOKEN_CHARS_MAX and text.count(".") == 2 and text.isascii()


def key_id(token: str) -> str | None:
    """The key that a token names, before anything of it is believed."""
    try:
        found = json.loads(_decoded(token.partition(".")[0]))
        named = found.get("kid")
    except (ValueError, AttributeError, RecursionError, binascii.Error):
        return None
    return named if isinstance(named, str) else None


def check_id_token(
    token: str,
    keys: KeySet,
    *,
    issuer: str,
    client_id: str,
    groups_claim: str | None,
    now: datetime,
    may_lack_groups: bool = False,
) -> SignIn:
    """Validate an ID token and return its claims.

    Args:
        token: From the client.
        keys: The issuer's keys.
        issuer, client_id: Expected issuer and audience.
        groups_claim: Name of the claim of groups; None if there is none.
        now: The time.
        may_lack_groups: Userinfo has the groups, so a token without the claim leaves them unknown.

    Raises:
        Unauthenticated: The token is invalid; the message is the same for every reason.
    """
    try:
        _check_keys(token)
        claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise unauthenticated() from error
    issued_at, expires_at = _time(claims.get("iat")), _time(claims.get("exp"))
    subject = claims.get("sub")
    if (
        claims.get("iss") != issuer
        or not _is_for(claims, client_id)
        or not isinstance(subject, str)
        or not 1 <= len(subject) <= SUBJECT_MAX
        or issued_at is None
        or expires_at is None
        or issued_at > now + LEEWAY
        or expires_at <= now - LEEWAY
        or (_time(claims.get("nbf")) or issued_at) > now + LEEWAY
    ):
        raise unauthenticated()
    return SignIn(
        issuer=issuer,
        subject=subject,
        email=_email(claims),
        issued_at=issued_at,
        groups=_groups(claims, groups_claim, None if may_lack_groups else []),
        groups_at=issued_at,
        expires_at=expires_at,
        nonce=nonce if isinstance(nonce := claims.get("nonce"), str) else None,
    )


def userinfo_groups(found: Mapping[str, Any], subject: str, claim: str) -> tuple[str, ...]:
    """The groups that an issuer's userinfo says.

    Raises:
        ValueError: It can't count for the account with this subject; the rest of a sentence says why, and what to do.
    """
    if found.get("sub") != subject:
        raise ValueError("is of another account than the ID token: sign in again")
    groups = _groups(found, claim, [])
    if groups is None:
        raise ValueError(
            f"does not list all groups in {claim!r}: have the issuer list at most {GROUPS_MAX}"
        )
    return groups


def _check_keys(token: str) -> None:
    """Return if no object in head and claims has a key twice: readers differ about which of them counts.

    Raises:
        ValueError: One has, or is no JSON.
    """
    for part in token.split(".")[:2]:
        json.loads(_decoded(part), object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _is_for(claims: Mapping[str, Any], client_id: str) -> bool:
    said = claims.get("aud")
    audiences: Collection[Any] = said if isinstance(said, list) else (said,)
    if client_id not in audiences:
        return False
    party = claims.get("azp")
    return party == client_id if party is not None or len(audiences) > 1 else True


def _email(claims: Mapping[str, Any]) -> str | None:
    is_verified = claims.get("email_verified") is True
    return proven_email(claims.get("email")) if is_verified else None


def _groups(claims: Mapping[str, Any], claim: str | None, lacking: Any) -> tuple[str, ...] | None:
    """All groups, or None: a person whose groups are only partly known could pass by a `not_by`.

    An issuer leaves the claim out for a person in no group, and for one in too many: then it names the claim in
    `_claim_names` (OpenID Connect Core 1.0, 5.6.2). `lacking` stands for a claim that is left out.
    """
    if claim is None:
        return ()
    elsewhere = claims.get("_claim_names")
    said = claims.get(claim, lacking)
    if (isinstance(elsewhere, Mapping) and claim in elsewhere) or not isinstance(said, list):
        return None
    groups = tuple(one for one in said if isinstance(one, str) and one.isprintable())
    if len(groups) > GROUPS_MAX or any(len(one) > GROUP_CHARS_MAX for one in groups):
        return None
    return groups


def _time(said: Any) -> datetime | None:
    if not isinstance(said, int | float) or isinstance(said, bool) or not 0 <= said < 2**40:
        return None
    try:
        return datetime.fromtimestamp(said, UTC)
    except (ValueError, OverflowError, OSError):
        return None
