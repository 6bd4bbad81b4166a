"""A small issuer of OpenID Connect behind a real HTTP server: its keys, and tokens that tests sign with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

CLIENT = "helmr"


class Issuer:
    """Its documents and keys; `requests` are the paths that it was asked for.

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
            return {"issuer": self.said_issuer, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            return {"keys": [one.as_dict(private=False) for one in self.published]}
        return None

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


@contextmanager
def serving() -> Iterator[Issuer]:
    """An issuer that answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = issuer.document(self.path)
            body = json.dumps(found).encode()
            self.send_response(200 if found is not None else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


OTHER_RSA = RSAKey.generate_key(2048, {"kid": "k1"})
"""Of someone else, under the name of a key of the issuer's."""
