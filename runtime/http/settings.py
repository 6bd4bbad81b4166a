"""What the HTTP face is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.security.limits import LimitConfig

KEEP_ALIVE_S = 15.0
"""A comment on an event stream that is silent for so long, so that proxies keep it open."""

UNLIMITED = LimitConfig(
    per_secret="1000000/second",
    per_source="1000000/second",
    failures_per_source="1000000/second",
    failures="1000000/second",
)
"""Limits are for strangers at a port; an app that nothing listens for has none."""

NO_KEY_HASH = ""
"""Nor has it a local admin key: the hash of no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """See each.

    Attributes:
        admin_key_hash: Hex SHA-256 of the local admin key.
        version: Of Helmr, for the OpenAPI document.
        allowed_hosts: Names under which the runtime may be asked, from
            `runtime.security.limits.allowed_hosts`. None allows every name.
        limits: Of calls by whoever has no API key.
        keep_alive_s: Longest silence of an event stream.
    """

    admin_key_hash: str
    version: str
    allowed_hosts: frozenset[str] | None = None
    keep_alive_s: float = KEEP_ALIVE_S
    limits: LimitConfig = field(default_factory=LimitConfig)
