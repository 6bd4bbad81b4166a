"""Who asks: the key of a request, and what its role may do (S-46, S-51).

One check per route, from the table in `runtime.security.roles`. There is one key, the local admin key;
`Authenticator` is where others come in.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import unquote

from starlette.requests import Request

from helmr.errors import Unauthenticated
from runtime.core.entries import Principal
from runtime.security.roles import (
    ON_BEHALF_OF_HEADER,
    Need,
    Role,
    check_on_behalf_of,
    check_role,
)
from runtime.security.secrets import SecretKind, is_same_secret, parse_secret, secret_hash

LOCAL_KEY_NAME = "local"


class Authenticator(Protocol):
    """Tells who sent a request."""

    async def authenticate(self, request: Request, need: Need) -> Principal:
        """The caller, if it may do what the route needs.

        Raises:
            NotAllowed: 401 without a good key, 403 if its role does not cover the route.
        """
        ...


class LocalKey:
    """The admin key that `up` writes into the data directory.

    Args:
        key_hash: Hex SHA-256 of the key; the key itself is not kept.
    """

    def __init__(self, key_hash: str) -> None:
        self._key_hash = key_hash

    async def authenticate(self, request: Request, need: Need) -> Principal:
        """See `Authenticator`."""
        text = bearer(request)
        # A malformed secret takes the same way to the same answer as an unknown one.
        is_key = text is not None and parse_secret(text) is SecretKind.API_KEY
        if not is_key or text is None or not is_same_secret(secret_hash(text), self._key_hash):
            raise Unauthenticated("no valid key came with the request")
        check_role(Role.ADMIN, need)
        person = request.headers.get(ON_BEHALF_OF_HEADER)
        return Principal(
            "api_key",
            name=LOCAL_KEY_NAME,
            on_behalf_of=check_on_behalf_of(
                Role.ADMIN, unquote(person, errors="replace") if person is not None else None
            ),
        )


def bearer(request: Request) -> str | None:
    """The bearer secret of a request."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and text.strip() else None
