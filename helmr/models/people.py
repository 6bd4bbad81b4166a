"""People on the wire: the list of people, the caller, and an admin's changes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from helmr.models.common import PERSON_MAX, REASON_MAX, TOKEN_TAG_MAX, PrincipalInfo, Wire
from helmr.models.requests import Request

ACCESS_TOKEN_HEADER = "Helmr-Access-Token"
"""Header with an issuer's access token, sent with the ID token to a runtime that needs it."""

SCOPE_MAX = 50
"""Tasks, streams or tags of one delegation."""

RoleName = Literal["admin", "operator", "sender", "viewer", "asker"]


class SigningKeyInfo(Wire):
    """A public key that verifies a person's signed answers (S-115), until `revoked_at`; `key` is `TYPE BASE64`."""

    fingerprint: str
    key: str
    comment: str | None = None
    added_at: datetime
    revoked_at: datetime | None = None


class DelegationInfo(Wire):
    """A delegation: a deputy answers for a person, for a while (S-142).

    Attributes:
        delegator: The person who is away.
        deputy: The person who may answer for them.
        starts_at, ends_at: It holds from the first until just before the second.
        tasks, streams, tags: Waits that it is for; of each that is not empty, one must match.
        made_by, made_at: The delegator or an admin, and the time.
        reason: The reason; an admin gives one.
        ended_at: The time at which it was ended before `ends_at`.
    """

    id: str
    delegator: str
    deputy: str
    starts_at: datetime
    ends_at: datetime
    tasks: list[str] = Field(default_factory=list)
    streams: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    made_by: PrincipalInfo
    made_at: datetime
    reason: str | None = None
    ended_at: datetime | None = None

    @property
    def scope(self) -> str:
        """The waits that it is for, in words: `all waits`, `tasks refund; tags spring`."""
        named = {"tasks": self.tasks, "streams": self.streams, "tags": self.tags}
        said = [f"{name} {', '.join(listed)}" for name, listed in named.items() if listed]
        return "; ".join(said) or "all waits"


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
        delegations: Those that have not ended, of which they are the delegator or the deputy.
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
    delegations: list[DelegationInfo] = Field(default_factory=list)

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


def _read_time(value: Any) -> Any:
    """Read a time's text; bodies are read strictly, and JSON has no times."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


Moment = Annotated[AwareDatetime, BeforeValidator(_read_time)]


class DelegateRequest(Request):
    """POST /v1/people/{person}/delegations.

    `deputy` is a person's id or e-mail. `starts_at` is now unless given; `ends_at` is at most 90 days from now. An
    admin who makes it for another gives a `reason`.
    """

    deputy: str = Field(min_length=1, max_length=PERSON_MAX)
    ends_at: Moment
    starts_at: Moment | None = None
    tasks: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=SCOPE_MAX
    )
    streams: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default_factory=list, max_length=SCOPE_MAX
    )
    tags: list[Annotated[str, Field(min_length=1, max_length=TOKEN_TAG_MAX)]] = Field(
        default_factory=list, max_length=SCOPE_MAX
    )
    reason: str | None = Field(default=None, min_length=1, max_length=REASON_MAX)


class SigningKeyRequest(Request):
    """POST /v1/people/{person}/keys. `key` is the line of a `.pub` file."""

    key: str = Field(min_length=1, max_length=8_192)


class RevokeKeyRequest(Request):
    """POST /v1/people/{person}/keys/revoke. `fingerprint` is `SHA256:…`."""

    fingerprint: str = Field(min_length=1, max_length=128)
    reason: str | None = Field(default=None, min_length=1, max_length=REASON_MAX)
