"""Connections to targets: a name is resolved once, its addresses are looked at, and one of those is connected to.

So nothing can change between the check and the use (DNS rebinding). Private addresses are refused: a target's name
is configuration, but where it leads is up to anyone who owns the name. A target takes a notice, or `NotTaken` says why
it did not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

from helmr_runtime.notices.content import NotTaken

CONNECT_S = 10.0
SEND_S = 20.0
"""Longest that a target may take for one notice, all in all."""

ANSWER_BYTES_MAX = 64 * 1024
"""A target that says more than this is read no further; its status counts all the same."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""What is given out of IPv6. Elsewhere lie old and local ways to reach IPv4 or this site: `::127.0.0.1`, `fec0::1`."""

_SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by a carrier's customers
            "127.0.0.0/8",  # this machine
            "169.254.0.0/16",  # this link; metadata of clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; metadata of a cloud
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # relays of multicast
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; broadcast
        ),
    )
)
_SPECIAL_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID, relays
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: whatever IPv4 address is in it
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
"""What is in `_UNICAST` and no one's server.

Source: IANA's IPv4 and IPv6 Special-Purpose Address Registries, November 2026. `ipaddress` has its own, of another year
with each Python.
"""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """True if an address is on the public internet, not on this machine or network."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    inner = address.ipv4_mapped
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address in _UNICAST and not any(address in network for network in _SPECIAL_V6)


async def resolve(host: str, port: int, *, private: bool) -> Sequence[str]:
    """The addresses of a name.

    Args:
        host: A name or an address.
        port: Where it listens.
        private: Whether private addresses may be among them.

    Raises:
        NotTaken: There is none, or a private one.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise NotTaken("its name could not be resolved in time") from error
    except (OSError, UnicodeError) as error:
        raise NotTaken("its name can't be resolved") from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    for text in addresses if not private else ():
        if not is_public(ipaddress.ip_address(text.partition("%")[0])):
            raise NotTaken(
                "refused: its name leads to a private address",
                hint="If that is meant, set private_addresses = true for the target.",
            )
    return addresses


async def connect(host: str, port: int, *, private: bool) -> socket.socket:
    """A connected socket; see `resolve`.

    Raises:
        NotTaken: No address could be connected to.
    """
    loop = asyncio.get_running_loop()
    for address in await resolve(host, port, private=private):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(sock, (address, port))
        except (OSError, TimeoutError):
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        return sock
    raise NotTaken("it can't be connected to")


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects as `resolve` allows; certificates are still checked by the name."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failed: Exception | None = None
        for address in await resolve(host, port, private=self._private):
            try:
                return await self._inner.connect_tcp(address, port, timeout=timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise NotTaken("it can't be connected to") from failed

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Poster:
    """Posts to URLs. Follows no redirect, believes no proxy of the environment, keeps no connection.

    Args:
        private: Whether private addresses may be posted to.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> bytes:
        """Post; returns the beginning of the answer if it is 2xx.

        Raises:
            NotTaken: It is another, or there is none.
        """
        sent: list[tuple[bytes | str, bytes | str]] = list(headers.items())
        times = dict.fromkeys(("connect", "read", "write", "pool"), CONNECT_S)
        try:
            async with (
                asyncio.timeout(SEND_S),
                httpcore.AsyncConnectionPool(
                    ssl_context=await asyncio.to_thread(ssl.create_default_context),
                    network_backend=_Guarded(self._private),
                    max_keepalive_connections=0,
                ) as pool,
                pool.stream(
                    "POST", url, headers=sent, content=body, extensions={"timeout": times}
                ) as answer,
            ):
                status = answer.status
                said = b""
                async for part in answer.aiter_stream():
                    said += part
                    if len(said) > ANSWER_BYTES_MAX:
                        break
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise NotTaken("it did not answer in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise NotTaken(f"the connection failed: {type(error).__name__}") from error
        if 300 <= status < 400:
            raise NotTaken(f"it answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise NotTaken(f"it answered {status}")
        return said
