"""Settings of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from helmr_runtime.security.rate_limits import RateLimits

KEEP_ALIVE_S = 15.0
"""An event stream that is silent for this long gets a comment, so that proxies keep it open."""

UNLIMITED = RateLimits(
    per_secret="1000000/second",
    per_source="1000000/second",
    malformed_per_source="1000000/second",
    failures_per_source="1000000/second",
    failures="1000000/second",
)
"""No limits, for an app without a port: limits are for strangers."""

PEER = "helmr.peer"
"""Key in a request's scope: the address at the other end of the connection, whatever headers say."""

NO_KEY_HASH = ""
"""The hash of no secret, for an app without a local admin key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBounds:
    """Bounds of connections, in time and number.

    Attributes:
        head_s: From a connection, or the first byte of a later request, to the end of its head.
        body_s: From there to the end of its body; bounds the memory that a slow sender holds.
        refusal_s: Longest that the refusal of a slower sender takes to be sent and read.
        idle_s: Between two requests. Longer than clients keep connections open, so that none sends a request into a
            connection that is just closing.
        unread_s: Longest that a client may read nothing of a response or a followed stream.
        read_on_s: Longest that a refused client that still sends is read on, so that it sees the response.
        read_on_silent_s: Longest silence of such a client.
        read_on_bytes_max: Most bytes read from such a client.
        per_source_max: Connections of one source that is not a trusted proxy.
        connections_max: Connections of all sources together.
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
        """The same bounds, with connections for at most half the files that the process may open."""
        most = min(self.connections_max, max(1, files_max // 2))
        return replace(
            self, connections_max=most, per_source_max=min(self.per_source_max, max(1, most // 2))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Names, keys and bounds of one gateway.

    Attributes:
        admin_key_hash: Hex SHA-256 of the local admin key.
        pair_key_hashes: The same of the keys that both runtimes of a pair accept.
        version: Helmr's version, for the OpenAPI document.
        allowed_hosts: Host names that requests may use, from
            `helmr_runtime.security.host_names.allowed_hosts`. None allows every name.
        limits: Rate limits of calls without an API key.
        keep_alive_s: Longest silence of an event stream.
        bounds: Bounds of connections.
        peer: The URL of the pair's other runtime, which serves pages and callbacks while this one stands by.
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
