"""A runtime answers only requests whose Host header names it."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from helmr.errors import NotAllowed

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def allowed_hosts(
    bind_host: str, base_urls: Collection[str], extra: Collection[str] = ()
) -> frozenset[str]:
    """The names under which a runtime may be asked, lower case, without ports.

    Args:
        bind_host: `--host`; a wildcard address is not a name and adds nothing.
        base_urls: The external base URL, if configured.
        extra: Further names of the configuration.
    """
    names = {_host_of(url.partition("://")[2].partition("/")[0]) for url in base_urls}
    names |= {_host_of(name) for name in extra}
    if bind_host not in ("", "0.0.0.0", "::", "[::]"):
        names.add(
            _host_of(
                f"[{bind_host}]" if bind_host.count(":") > 1 and "[" not in bind_host else bind_host
            )
        )
    return frozenset(names - {""}) | _LOCAL_HOSTS


@lru_cache(64)
def check_host(host_header: str | None, allowed: frozenset[str]) -> None:
    """Return if the Host header names this runtime.

    A page on evil.example whose name was rebound to 127.0.0.1 sends `Host: evil.example`; so a
    loopback runtime can't be driven from a browser (DNS rebinding).

    Raises:
        NotAllowed: No Host or another name.
    """
    host = _host_of(host_header or "")
    if host not in allowed:
        raise NotAllowed(
            f"Host {host[:100]!r} is not a name of this runtime",
            hint="Set the external base URL, or add the name to the allowed hosts.",
        )


def _host_of(authority: str) -> str:
    """The host of `host[:port]`, lower case, without a trailing dot; empty if it is malformed."""
    text = authority.strip().lower()
    if text.startswith("["):
        name, bracket, port = text.partition("]")
        host, port = name + bracket, port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not port.isdecimal():
        return ""
    return host.rstrip(".")
