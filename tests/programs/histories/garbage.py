"""Bytes that no client of Helmr sends, for the port that its clients use."""

from __future__ import annotations

import asyncio
import contextlib
import random

READ_S = 1.0
"""An answer comes within so long, or the connection is closed from here."""
ANSWER_BYTES_MAX = 65_536
SOME = 12


def pieces(draw: random.Random, key: str) -> list[bytes]:
    """One of each kind."""
    there = f"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n".encode()
    json = there + b"Content-Type: application/json\r\n"

    def posted(body: bytes) -> bytes:
        return json + b"Content-Length: %d\r\n\r\n" % len(body) + body

    return [
        draw.randbytes(draw.randrange(1, 4096)),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(512),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + draw.randbytes(64),
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000,
        b"GET /" + draw.randbytes(300) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        json + b"Content-Length: -1\r\n\r\n{}",
        json + b"Content-Length: 1000000\r\n\r\n{",  # the rest never comes
        json + b"Content-Length: 2\r\nContent-Length: 7\r\n\r\n{}",
        json + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n" + draw.randbytes(200),
        json + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        posted(b"{" * 10_000),
        posted(b"[" * 100_000),
        posted(b'{"tags": ["\xff\xfe"]}'),
        posted(b'{"metadata": {"a": 1e999}}'),
        posted(b'{"metadata": {"a": %s}}' % (b"9" * 6_000)),
        posted(b'{"tags": "\\ud800"}'),
        posted(draw.randbytes(200)),
        there + b"Operation-Id: " + draw.randbytes(20).hex().encode() + b"\r\nContent-Length: 0\r\n\r\n",
        there + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    ]  # fmt: skip


async def send_some(
    host: str, port: int, draw: random.Random, key: str, *, read_s: float = READ_S
) -> list[bytes]:
    """Send some at once, each on a connection of its own; the status lines that came back within that time."""
    some = draw.choices(pieces(draw, key), k=SOME)
    answers = await asyncio.gather(*(_answer(host, port, one, read_s) for one in some))
    return [answer.split(b"\r\n", 1)[0] for answer in answers if answer]


async def _answer(host: str, port: int, sent: bytes, read_s: float) -> bytes:
    answer = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(read_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(sent)
                await writer.drain()
                answer = await reader.read(ANSWER_BYTES_MAX)
            finally:
                writer.transport.abort()
                await writer.wait_closed()
    return answer
