"""Settings of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from helmr_runtime.security.rate_limits import RateLimits

KEEP_ALIVE_S = 15.0
"""A comment on an event stream that is silent for that long, so that proxies keep it open."""

UNLIMITED = RateLimits(
    per_secret="1000000/second",
    per_source="1000000/second",
    malformed_per_source="1000000/second",
    failures_per_source="1000000/second",
    failures="1000000/second",
)
"""Limits are for strangers at a port; an app that nothing listens for has none."""

PEER = "helmr.peer"
"""Of a request's scope: who is at the other end of its connection, whatever headers say."""

NO_KEY_HASH = ""
"""Nor has it a local admin key: the hash of no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBounds:
    """How long a client may take, and how many may be connected.

    Attributes:
        head_s: From a connection, or the first byte of a later request, to the end of its head.
        body_s: From there to the end of its body; a slower sender would hold its memory for ever.
        refusal_s: What the answer to a slower one may take, and its being read.
        idle_s: Between two requests: longer than clients keep theirs open, so that none sends a request into a
            connection that is just being closed.
        unread_s: For how long a caller may take nothing more of a response or a followed stream.
        read_on_s: For how long a refused client that still sends is read on, so that it sees the response.
        read_on_silent_s: As long as it goes on sending.
        read_on_bytes_max: And not more than this.
        per_source_max: Connections of one source, if it is not a trusted proxy.
        connections_max: Of all together.
    """

    head_s: float = 10.0
    body_s: float = 30.0
    refusal_s: float = 5.0
    idle_s: float = 75.0
    unread_s: float = 15.0
    read_on_s: float = 30.0
    read_on_silent_s: float = 5.0
    read_on_bytes_max: int = 32 * 1024 * 1024
    per_source_max: int = 1_000
    connections_max: int = 4_000

    def within(self, files_max: int) -> ConnectionBounds:
        """The same, with connections for half the files that the process may open, at most."""
        most = min(self.connections_max, max(1, files_max // 2))
        return replace(
            self, connections_max=most, per_source_max=min(self.per_source_max, max(1, most // 2))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Names, keys and bounds of one gateway.

    Attributes:
        admin_key_hash: Hex SHA-256 of the local admin key.
        pair_key_hashes: The same of the keys that both runtimes of a pair take.
        version: Of Helmr, for the OpenAPI document.
        allowed_hosts: Names under which the runtime may be asked, from
            `helmr_runtime.security.host_names.allowed_hosts`. None allows every name.
        limits: Of calls by anyone who has no API key.
        keep_alive_s: Longest silence of an event stream.
        bounds: Of connections.
        peer: The other runtime of a pair: pages and callbacks are there while this one stands by.
        trusted_proxies: Networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
    """

    admin_key_hash: str
    version: str
    allowed_hosts: frozenset[str] | None = None
    keep_alive_s: float = KEEP_ALIVE_S
    limits: RateLimits = field(default_factory=RateLimits)
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)
    peer: str | None = None
    pair_key_hashes: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
