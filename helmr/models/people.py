"""People on the wire: the list of people, the caller, and an admin's changes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from helmr.models.common import REASON_MAX, PrincipalInfo, Wire
from helmr.models.requests import Request

ACCESS_TOKEN_HEADER = "Helmr-Access-Token"
"""Header with an issuer's access token, sent with the ID token to a runtime that needs it."""

RoleName = Literal["admin", "operator", "sender", "viewer", "asker"]


class SigningKeyInfo(Wire):
    """A public key that verifies a person's signed answers (S-115), until `revoked_at`; `key` is `TYPE BASE64`."""

    fingerprint: str
    key: str
    comment: str | None = None
    added_at: datetime
    revoked_at: datetime | None = None


class PersonInfo(Wire):
    """A person (S-111).

    Attributes:
        id: The name of their table in `helmr.toml`, else their e-mail.
        groups: Their groups in the file.
        role: Their role; None, without any right, once the file no longer names them.
        issuer, subject: Their account at sign-in.
        bound_at: Time of their first sign-in.
        disabled_at: Time since which they are disabled.
        reason: Reason for that.
        signing_keys: Keys that sign their answers, oldest first.
    """

    id: str
    email: str | None = None
    groups: list[str] = Field(default_factory=list)
    role: RoleName | None = None
    issuer: str | None = None
    subject: str | None = None
    bound_at: datetime | None = None
    disabled_at: datetime | None = None
    reason: str | None = None
    signing_keys: list[SigningKeyInfo] = Field(default_factory=list)

    @property
    def status(self) -> str:
        """Their status in one word."""
        if self.disabled_at is not None:
            return "disabled"
        return "active" if self.role is not None else "unknown"


class WhoAmI(Wire):
    """The caller of an operation.

    Attributes:
        principal: The caller as entries name it.
        role: The caller's role; None for a public token.
        person: The person whom the credential verifies, with the groups known now; None for a service.
        groups_at: Time at which the groups were complete; None if the issuer may have more.
        expires_at: End of the credential's validity.
    """

    principal: PrincipalInfo
    role: RoleName | None = None
    person: PersonInfo | None = None
    groups_at: datetime | None = None
    expires_at: datetime | None = None


class SignInInfo(Wire):
    """Settings for a client's sign-in; all null without an issuer.

    Attributes:
        issuer, client_id, scopes: The issuer, the client's id there, and the scopes to request.
        needs_access_token: The issuer lists groups only at its userinfo endpoint: also send its access token, as
            `Helmr-Access-Token`.
    """

    issuer: str | None = None
    client_id: str | None = None
    scopes: list[str] = Field(default_factory=list)
    needs_access_token: bool = False


class DisableRequest(Request):
    """POST /v1/people/{person}/disable."""

    reason: str | None = Field(default=None, min_length=1, max_length=REASON_MAX)


class SigningKeyRequest(Request):
    """POST /v1/people/{person}/keys. `key` is the line of a `.pub` file."""

    key: str = Field(min_length=1, max_length=8_192)


class RevokeKeyRequest(Request):
    """POST /v1/people/{person}/keys/revoke. `fingerprint` is `SHA256:…`."""

    fingerprint: str = Field(min_length=1, max_length=128)
    reason: str | None = Field(default=None, min_length=1, max_length=REASON_MAX)
