"""Sign-in of a person at a runtime's OpenID Connect issuer, with a browser on this or another device.

Each runtime's tokens are kept in a file of their own, readable only by this user (0600). A token is renewed after ten
minutes, because answers that depend on a group need a fresh one.

Source: RFC 8252 (a browser and a port of this machine), RFC 7636 (PKCE), RFC 8628 (another device), RFC 9207 (`iss`).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from helmr.errors import NotAllowed, Unavailable
from helmr.private_file import write_private

if TYPE_CHECKING:
    from helmr.models import SignInInfo

DISCOVERY = "/.well-known/openid-configuration"
FRESH_S = 600.0
"""Age in seconds below which a token is sent without renewal."""
SLACK_S = 60.0
BROWSER_WITHIN_S = 300.0
TIMEOUT_S = 10.0
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
FILE_BYTES_MAX = 64 * 1024
DONE = b"<!doctype html><title>Helmr</title><p>You are signed in. Close this page.</p>"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTokens:
    """An issuer's tokens for one runtime.

    Attributes:
        url: URL of the runtime.
        issuer, client_id: The issuer, and the id of the client there.
        id_token: Identifies the person; sent like a key.
        refresh_token: Gets the next token; None if the issuer gives none.
        taken_at_s: Time of receipt, by this machine's clock.
        expires_at_s: End of the token's validity.
        access_token: The runtime asks the issuer for groups with it; None if not needed.
    """

    url: str
    issuer: str
    client_id: str
    id_token: str
    refresh_token: str | None
    taken_at_s: float
    expires_at_s: float
    access_token: str | None = None

    def is_due(self, now_s: float) -> bool:
        """Return True when it must be renewed before it is sent."""
        return now_s - self.taken_at_s >= FRESH_S or now_s >= self.expires_at_s - SLACK_S


class KeptSignIn:
    """The stored sign-in for a runtime, renewed as it ages; safe for several threads and processes.

    Args:
        environ: Gives the state folder.
        url: The runtime's normalized URL.
        now_s: The wall clock.
    """

    def __init__(
        self, environ: Mapping[str, str], url: str, now_s: Callable[[], float] | None = None
    ) -> None:
        self.path = path_of(environ, url)
        self._now_s = now_s or _wall_s
        self._kept: KeptTokens | None = None

    @property
    def is_there(self) -> bool:
        """True when someone has signed in."""
        return self.path.is_file()

    def is_due(self) -> bool:
        """True when `token` will ask the issuer, or read the file."""
        return self._kept is None or self._kept.is_due(self._now_s())

    def token(self) -> str:
        """The ID token to send now.

        Raises:
            NotAllowed: No one is signed in, or the issuer refuses a new token: sign in again.
            Unavailable: The issuer can't be reached, and the stored token has expired.
        """
        if self._kept is not None and not self._kept.is_due(self._now_s()):
            return self._kept.id_token
        with _locked(self.path):
            kept = read(self.path)
            if kept is None:
                raise NotAllowed("no one is signed in here", hint="`helmr login` signs you in.")
            if kept.is_due(self._now_s()):
                kept = self._renewed(kept)
            self._kept = kept
            return kept.id_token

    def access_token(self) -> str | None:
        """Return the access token to send with the last ID token, if the runtime needs one."""
        return self._kept.access_token if self._kept is not None else None

    def _renewed(self, kept: KeptTokens) -> KeptTokens:
        is_over = self._now_s() >= kept.expires_at_s - SLACK_S
        if kept.refresh_token is None:
            if is_over:
                raise NotAllowed("your sign-in is over", hint="`helmr login` signs you in again.")
            return kept
        form = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token}
        try:
            with connection() as http:
                flow = IssuerFlow(
                    http,
                    kept.issuer,
                    kept.client_id,
                    (),
                    self._now_s,
                    keeps_access_token=kept.access_token is not None,
                )
                found = flow.tokens(form, url=kept.url, before=kept)
        except Unavailable:
            if is_over:
                raise
            return kept
        write(self.path, found)
        return found


class IssuerFlow:
    """A sign-in at an issuer.

    Args:
        http: HTTP client for the issuer.
        issuer: Its URL.
        client_id: Id of the client there.
        scopes: Scopes to request.
        now_s: The wall clock.
        keeps_access_token: True if the runtime needs the access token.

    Raises:
        Unavailable: The issuer does not answer.
        NotAllowed: The URL belongs to another issuer.
    """

    def __init__(
        self,
        http: httpx.Client,
        issuer: str,
        client_id: str,
        scopes: tuple[str, ...],
        now_s: Callable[[], float] | None = None,
        *,
        keeps_access_token: bool = False,
    ) -> None:
        self._http = http
        self._keeps_access_token = keeps_access_token
        self.issuer = issuer
        self.client_id = client_id
        self._scope = " ".join(scopes)
        self._now_s = now_s or _wall_s
        self._said = self._ask("GET", issuer.rstrip("/") + DISCOVERY)
        if self._said.get("issuer") != issuer:
            raise NotAllowed(f"{issuer} says that it is another issuer", hint="Check helmr.toml.")

    def by_browser(self, url: str, show: Callable[[str], None]) -> KeptTokens:
        """Sign in with a browser of this machine.

        Args:
            url: URL of the runtime.
            show: Opens a page in the browser.

        Raises:
            NotAllowed: The issuer refused, or its answer does not belong to this request.
        """
        verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
        digest = hashlib.sha256(verifier.encode()).digest()
        with _Redirect() as redirect:
            asked = {
                "response_type": "code",
                "client_id": self.client_id,
                "redirect_uri": redirect.uri,
                "scope": self._scope,
                "state": state,
                "nonce": nonce,
                "prompt": "consent",
                "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
                "code_challenge_method": "S256",
            }
            show(f"{self._endpoint('authorization_endpoint')}?{urlencode(asked)}")
            answer = redirect.answer(state)
        if answer.get("iss", self.issuer) != self.issuer:
            raise NotAllowed("another issuer has answered than was asked")
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": redirect.uri,
            "code_verifier": verifier,
        }
        kept = self.tokens(form, url=url)
        if claims_of(kept.id_token).get("nonce") != nonce:
            raise NotAllowed("the issuer's token answers another request than this one")
        return kept

    def by_device(
        self,
        url: str,
        tell: Callable[[str, str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> KeptTokens:
        """Sign in with a browser of any machine.

        Args:
            url: URL of the runtime.
            tell: Gets the page's URL and the code to type there.
            sleep: Waits.

        Raises:
            NotAllowed: The issuer refused, or no one signed in in time.
        """
        asked = {"client_id": self.client_id, "scope": self._scope}
        found = self._ask("POST", self._endpoint("device_authorization_endpoint"), asked)
        page = found.get("verification_uri_complete") or found["verification_uri"]
        tell(str(page), str(found["user_code"]))
        pause_s = float(found.get("interval", 5))
        form = {"grant_type": DEVICE_GRANT, "device_code": str(found["device_code"])}
        ends_at_s = self._now_s() + float(found.get("expires_in", 600))
        while self._now_s() < ends_at_s:
            sleep(pause_s)
            try:
                return self.tokens(form, url=url)
            except NotAllowed as error:
                reason = error.facts.get("reason")
                if reason == "slow_down":
                    pause_s += 5
                elif reason != "authorization_pending":
                    raise
        raise NotAllowed("no one has signed in in time", hint="`helmr login` asks again.")

    def tokens(
        self, form: Mapping[str, str], *, url: str, before: KeptTokens | None = None
    ) -> KeptTokens:
        """Request tokens from the issuer.

        Raises:
            NotAllowed: The issuer refused; the message has its reason.
        """
        asked = {**form, "client_id": self.client_id}
        found = self._ask("POST", self._endpoint("token_endpoint"), asked)
        token = found.get("id_token", before.id_token if before is not None else None)
        if not isinstance(token, str):
            raise NotAllowed("the issuer gave no ID token", hint="Its client needs scope openid.")
        expires_at = claims_of(token).get("exp")
        kept = KeptTokens(
            url=url,
            issuer=self.issuer,
            client_id=self.client_id,
            id_token=token,
            refresh_token=before.refresh_token if before is not None else None,
            taken_at_s=self._now_s(),
            expires_at_s=float(expires_at) if isinstance(expires_at, int | float) else 0.0,
        )
        fresh, access = found.get("refresh_token"), found.get("access_token")
        if isinstance(fresh, str):
            kept = replace(kept, refresh_token=fresh)
        is_kept = self._keeps_access_token and isinstance(access, str)
        return replace(kept, access_token=access) if is_kept else kept

    def revoke(self, refresh_token: str) -> None:
        """Revoke a refresh token at the issuer, if it supports that."""
        endpoint = self._said.get("revocation_endpoint")
        if isinstance(endpoint, str):
            form = {"token": refresh_token, "token_type_hint": "refresh_token"}
            self._http.post(endpoint, data={**form, "client_id": self.client_id})

    def _endpoint(self, name: str) -> str:
        found = self._said.get(name)
        if not isinstance(found, str):
            raise NotAllowed(f"the issuer {self.issuer} has no {name}")
        return found

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            response = self._http.request(method, url, data=form)
            if response.status_code >= 500:
                raise Unavailable(f"the issuer {self.issuer} answers {response.status_code}")
            found = response.json() if response.content else {}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unavailable(f"the issuer {self.issuer} does not answer: {error}") from error
        if not isinstance(found, dict):
            raise Unavailable(f"the issuer {self.issuer} answers no object")
        if response.status_code >= 400:
            code, why = str(found.get("error", "")), str(found.get("error_description", ""))
            raise _refused(code[:100] or f"status {response.status_code}", why[:200])
        return found


def _refused(reason: str, more: str = "") -> NotAllowed:
    return NotAllowed(
        f"the issuer refused: {reason} {more}".rstrip(),
        hint="`helmr login` asks again.",
        reason=reason,
    )


class _Redirect:
    """A local port to which the browser returns, once."""

    def __enter__(self) -> _Redirect:
        found: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                is_ours = parts.path == "/callback"
                if is_ours:
                    found.append({name: one[0] for name, one in parse_qs(parts.query).items()})
                self.send_response(200 if is_ours else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(DONE if is_ours else b"")

            def log_message(self, *args: Any) -> None:
                pass

        self._found = found
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._server.timeout = BROWSER_WITHIN_S
        self.uri = f"http://127.0.0.1:{self._server.server_port}/callback"
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.server_close()

    def answer(self, state: str) -> Mapping[str, str]:
        """Wait for the browser and return its parameters; ignore requests with another state."""
        ends_at_s = time.monotonic() + BROWSER_WITHIN_S
        while time.monotonic() < ends_at_s:
            self._server.handle_request()
            for answer in self._found:
                if not secrets.compare_digest(answer.get("state", ""), state):
                    continue
                if "code" in answer:
                    return answer
                raise _refused(answer.get("error", "no code")[:100])
            self._found.clear()
        raise NotAllowed("no one has signed in in time", hint="`helmr login` asks again.")


def sign_in(
    environ: Mapping[str, str],
    url: str,
    info: SignInInfo,
    run: Callable[[IssuerFlow], KeptTokens],
) -> Path:
    """Sign in at a runtime, store the tokens, and return their file.

    Raises:
        NotAllowed: The runtime has no issuer, or the issuer refused.
    """
    if info.issuer is None or info.client_id is None:
        raise NotAllowed(
            f"{url} has no issuer to sign in at",
            hint="`issuer` in [people] of its helmr.toml names one; a personal key does without.",
        )
    with connection() as http:
        flow = IssuerFlow(
            http,
            info.issuer,
            info.client_id,
            tuple(info.scopes),
            keeps_access_token=info.needs_access_token,
        )
        kept = run(flow)
    path = path_of(environ, url)
    with _locked(path):
        write(path, kept)
    return path


def sign_out(environ: Mapping[str, str], url: str) -> bool:
    """Delete a sign-in and revoke its refresh token; return True if there was one."""
    path = path_of(environ, url)
    if not path.is_file():
        return False
    with _locked(path):
        kept = read(path)
        path.unlink(missing_ok=True)
    if kept is not None and kept.refresh_token is not None:
        try:
            with connection() as http:
                IssuerFlow(http, kept.issuer, kept.client_id, ()).revoke(kept.refresh_token)
        except (NotAllowed, Unavailable):
            pass  # it is gone here, which is what was asked for
    return True


# --- the file -------------------------------------------------------------------------------------


def path_of(environ: Mapping[str, str], url: str) -> Path:
    """Return the path of the file with the sign-in for a runtime."""
    state = environ.get("XDG_STATE_HOME")
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    base = Path(state) if state and Path(state).is_absolute() else home / ".local" / "state"
    return base / "helmr" / "sign-ins" / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.json"


def read(path: Path) -> KeptTokens | None:
    """Read stored tokens; None if there are none or they are unreadable.

    Raises:
        NotAllowed: Others could have written the file.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise NotAllowed(f"{path} is not yours alone", hint=f"chmod 600 {path}")
            return KeptTokens(**json.loads(file.read(FILE_BYTES_MAX)))
    except (OSError, ValueError, TypeError):
        return None


def write(path: Path, kept: KeptTokens) -> None:
    """Store the tokens, readable only by this user."""
    write_private(path, json.dumps(asdict(kept)))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock for renewals, since an issuer may accept each refresh token once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def claims_of(token: str) -> Mapping[str, Any]:
    """Return a token's claims, unverified: it came from the issuer directly, and the runtime verifies it."""
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def _wall_s() -> float:
    return time.time()  # noqa: TID251 - the runtime's clock is not installed where only a client is


def connection() -> httpx.Client:
    """Return an HTTP client for an issuer."""
    return httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)
