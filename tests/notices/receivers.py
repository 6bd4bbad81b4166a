"""What notices are sent to in tests: HTTP endpoints, one of them for phones, and an SMTP server, which can be down."""

from __future__ import annotations

import contextlib
import email
import email.policy
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

WITHIN_S = 5.0


class Endpoint:
    """Takes posts on a port of this machine. While it is down nothing listens there; `statuses` are answered first."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.location = "http://127.0.0.1:9/"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.posts]

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Take a post; returns the status and the body of the answer."""
        self.posts.append((headers, body))
        return 204, b""

    def up(self) -> None:
        if self._server is not None:
            return
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {k.lower(): v for k, v in self.headers.items()}
                status, said = endpoint.statuses.pop(0) if endpoint.statuses else 204, b""
                if status < 300:
                    status, said = endpoint.take(headers, body)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", endpoint.location)
                if status != 204:
                    self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextlib.contextmanager
def endpoint(*, is_up: bool = True) -> Iterator[Endpoint]:
    one = Endpoint()
    if is_up:
        one.up()
    try:
        yield one
    finally:
        one.down()


class PushServer(Endpoint):
    """Takes messages as an ntfy server does, and shows them as a phone does.

    Args:
        keeps_sequences: As from 2.16 on; a server before shows each message beside the others.
        token: The token that it wants.
    """

    def __init__(self, *, keeps_sequences: bool = True, token: str | None = None) -> None:
        super().__init__()
        self._keeps_sequences = keeps_sequences
        self._token = token

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The notifications on the phone, newest last: of each sequence the newest message."""
        found: dict[str, dict[str, Any]] = {}
        for number, one in enumerate(self.bodies):
            key = one["sequence_id"] if self._keeps_sequences else str(number)
            found.pop(key, None)
            found[key] = one
        return list(found.values())

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self._token is not None and headers.get("authorization") != f"Bearer {self._token}":
            return 403, b'{"code":40301,"http":403,"error":"forbidden"}'
        self.posts.append((headers, body))
        said = {"id": f"message{len(self.posts):05}", "time": 1, "event": "message"}
        said |= json.loads(body)
        if not self._keeps_sequences:
            del said["sequence_id"]
        return 200, json.dumps(said).encode()


@contextlib.contextmanager
def push_server(*, is_up: bool = True, **parts: Any) -> Iterator[PushServer]:
    one = PushServer(**parts)
    if is_up:
        one.up()
    try:
        yield one
    finally:
        one.down()


class Mailbox:
    """A real SMTP server; messages in the order that they came in.

    Args:
        tls: Its certificate: encrypted from the first byte, or with `starttls` once it is asked for.
        starttls: Whether it begins in the clear, and takes nothing before it is encrypted.
        login: User and password that it wants; it takes them over an encrypted connection only.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.messages: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.were_encrypted: list[bool] = []
        self._tls = tls
        self._starttls = starttls
        self._login = login
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._controller: Controller | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        self.messages.append(found)
        self.raw.append(envelope.content)
        self.were_encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 OK"

    def _authenticate(self, server: Any, session: Any, envelope: Any, how: str, data: Any) -> Any:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self._login, handled=False)

    def up(self) -> None:
        asked: dict[str, Any] = {"ssl_context": self._tls}
        if self._starttls:
            asked = {"tls_context": self._tls, "require_starttls": True}
        if self._login is not None:
            # Of TLS from the first byte aiosmtpd's own check knows nothing.
            asked |= {"authenticator": self._authenticate, "auth_require_tls": self._starttls}
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, ready_timeout=30.0, **asked
        )
        self._controller.start()

    def down(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None


@contextlib.contextmanager
def mailbox(*, is_up: bool = True, **parts: Any) -> Iterator[Mailbox]:
    one = Mailbox(**parts)
    if is_up:
        one.up()
    try:
        yield one
    finally:
        one.down()


def certificate(folder: Path, address: str) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS with a certificate of its own for this address, and that certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "helmr tests")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_path, key_path)
    return context, cert_path
