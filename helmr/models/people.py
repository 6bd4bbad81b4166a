"""People on the wire: who there is, who calls, and what an admin says of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from helmr.models.common import REASON_MAX, PrincipalInfo, Wire
from helmr.models.requests import Request

ACCESS_TOKEN_HEADER = "Helmr-Access-Token"
"""Carries an issuer's access token beside its ID token, where the runtime says that it needs one."""

RoleName = Literal["admin", "operator", "sender", "viewer", "asker"]


class SigningKeyInfo(Wire):
    """A public key that signs a person's answers (S-115), or did until `revoked_at`; `key` is `TYPE BASE64`."""

    fingerprint: str
    key: str
    comment: str | None = None
    added_at: datetime
    revoked_at: datetime | None = None


class PersonInfo(Wire):
    """A person (S-111).

    Attributes:
        id: The name of their table in `helmr.toml`, else their e-mail.
        groups: Those that the file says.
        role: What they may do; None of one whom the file does not know any more, who may do nothing.
        issuer, subject: What they have signed in as.
        bound_at: When they did that first.
        disabled_at: Since when they may act no more.
        reason: Why.
        signing_keys: What signs their answers, the oldest first.
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
        """In one word."""
        if self.disabled_at is not None:
            return "disabled"
        return "active" if self.role is not None else "unknown"


class WhoAmI(Wire):
    """Who calls.

    Attributes:
        principal: As entries name them.
        role: What they may do; None of a public token.
        person: Whom the credential proves, with the groups that are known now; None of a service's.
        groups_at: When those were all; None if the issuer may know of more.
        expires_at: Of the credential.
    """

    principal: PrincipalInfo
    role: RoleName | None = None
    person: PersonInfo | None = None
    groups_at: datetime | None = None
    expires_at: datetime | None = None


class SignInInfo(Wire):
    """What a client needs to have its person sign in; all null of a runtime without an issuer.

    Attributes:
        issuer, client_id, scopes: Where, as which client, and what to ask for.
        needs_access_token: The issuer says groups at its userinfo alone: send its access token too, as
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
