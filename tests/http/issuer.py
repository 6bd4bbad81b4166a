"""A small issuer of OpenID Connect behind a real HTTP server: its keys, and tokens that tests sign with them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

CLIENT = "helmr"


class Issuer:
    """Its documents and keys; `requests` are the paths that it was asked for.

    `userinfo` is what stands there (an object, other bytes, or a status), None for an issuer without; `shown` are the
    access tokens that it was shown. An answer of no bytes waits for `holds_up`.

    Args:
        url: As its tokens name it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []
        self.is_away = False
        self.said_issuer = url
        self.key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})
        self.published = [self.key]
        self.userinfo: dict[str, Any] | bytes | int | None = None
        self.shown: list[str | None] = []
        self.holds_up = threading.Event()

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish no other."""
        self.key = ECKey.generate_key("P-256", {"kid": "k2", "use": "sig", "alg": "ES256"})
        self.published = [self.key]

    def document(self, path: str) -> dict[str, Any] | None:
        """What stands there."""
        self.requests.append(path)
        if self.is_away:
            return None
        if path == "/.well-known/openid-configuration":
            found = {"issuer": self.said_issuer, "jwks_uri": f"{self.url}/keys"}
            where = {"userinfo_endpoint": f"{self.url}/me"}
            return found if self.userinfo is None else {**found, **where}
        if path == "/keys":
            return {"keys": [one.as_dict(private=False) for one in self.published]}
        return None

    def redirect(self, path: str) -> str | None:
        """Where a browser is sent from there."""
        return None

    def told(self, authorization: str | None) -> tuple[int, bytes]:
        """What userinfo answers."""
        self.shown.append(authorization)
        match self.userinfo:
            case int(status):
                return status, b"{}"
            case b"":
                self.holds_up.wait(20)
                return 200, b"{}"
            case bytes(text):
                return 200, text
            case found:
                return 200, json.dumps(found).encode()

    def post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What a form gets there."""
        return 404, {}

    def token(self, now_s: float, *, key: Any = None, header: Any = None, **claims: Any) -> str:
        """A token that is good but for what is said; a claim that is None is left out."""
        said = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "u-1",
            "iat": now_s,
            "exp": now_s + 3600,
            "email": "ada@example.com",
            "email_verified": True,
            **claims,
        }
        key = key or self.key
        header = header or {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid}
        found = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(header, found, key, algorithms=["ES256", "RS256", "HS256"])

    def signed(self, token: str, old: str, new: str) -> str:
        """That token with other text in its claims, signed by the issuer all the same."""
        head, claims, _ = token.split(".")
        text = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).decode()
        assert old in text
        return jws.serialize_compact(
            json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))),
            text.replace(old, new),
            self.key,
            algorithms=["ES256"],
        )


Made = TypeVar("Made", bound=Issuer)


@contextmanager
def serving(make: Callable[[str], Made]) -> Iterator[Made]:
    """An issuer that answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            to = issuer.redirect(self.path)
            if to is not None:
                self.send_response(302)
                self.send_header("Location", to)
                self.end_headers()
                return
            if self.path == "/me":
                self._send(*issuer.told(self.headers.get("Authorization")))
                return
            found = issuer.document(self.path)
            self._answer(200 if found is not None else 503, found)

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(*issuer.post(self.path, dict(parse_qsl(text))))

        def _answer(self, status: int, found: Any) -> None:
            self._send(status, json.dumps(found).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked has not waited
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = make(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        issuer.holds_up.set()
        server.shutdown()
        thread.join()
        server.server_close()


OTHER_RSA = RSAKey.generate_key(2048, {"kid": "k1"})
"""Of someone else, under the name of a key of the issuer's."""
