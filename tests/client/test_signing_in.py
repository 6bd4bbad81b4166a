"""Signing in from the command line: by a browser, by another device, kept for one user, renewed, forgotten (S-111)."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from helmr.client.discovery import find_runtime
from helmr.client.sign_in import (
    FRESH_S,
    IssuerFlow,
    KeptSignIn,
    claims_of,
    connection,
    path_of,
    read,
    sign_in,
    sign_out,
)
from helmr.errors import NotAllowed, Unavailable
from helmr.models import SignInInfo
from tests.http.issuer import CLIENT, Issuer, serving

URL = "http://127.0.0.1:4356"


class Provider(Issuer):
    """An issuer where someone is signed in already; `twist` changes what it answers."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: dict[str, str] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.refreshes: list[str] = []
        self.pending = 1
        self.interval = 5
        self.revoked: list[str] = []
        self.twist: dict[str, Any] = {}
        self.access_token = "a"

    def document(self, path: str) -> dict[str, Any] | None:
        found = super().document(path)
        if found is None or "jwks_uri" not in found:
            return found
        names = ("authorization", "token", "device_authorization", "revocation")
        return {**found, **{f"{name}_endpoint": f"{self.url}/{name}" for name in names}}

    def redirect(self, path: str) -> str | None:
        """Where the authorization endpoint sends the browser."""
        parts = urlsplit(path)
        if parts.path != "/authorization":
            return None
        self.asked = {name: one[0] for name, one in parse_qs(parts.query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = dict(self.asked)
        back = {"code": code, "state": self.asked["state"], "iss": self.url, **self.twist}
        return f"{self.asked['redirect_uri']}?{urlencode(back)}"

    def post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What a form gets."""
        assert form["client_id"] == CLIENT
        if path == "/device_authorization":
            page = f"{self.url}/device"
            found = {"device_code": "d", "user_code": "AB-CD", "verification_uri": page}
            return 200, {**found, "interval": self.interval}
        if path == "/revocation":
            self.revoked.append(form["token"])
            return 200, {}
        if path != "/token" or self.is_away:
            return 503, {}
        kind = form["grant_type"]
        if kind == "authorization_code":
            asked = self.codes.pop(form["code"], None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            given = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if asked is None or asked["code_challenge"] != given:
                return 400, {"error": "invalid_grant"}
            return 200, self._tokens(nonce=self.twist.get("nonce", asked["nonce"]))
        if kind == "refresh_token":
            if form["refresh_token"] != self.refreshes[-1]:
                return 400, {"error": "invalid_grant", "error_description": "used before"}
            return 200, self._tokens()
        if self.pending:
            self.pending -= 1
            return 400, {"error": "authorization_pending"}
        return 200, self._tokens()

    def _tokens(self, **claims: Any) -> dict[str, Any]:
        self.refreshes.append(f"refresh-{len(self.refreshes)}")
        token = self.token(time.time(), jti=self.refreshes[-1], **claims)
        return {
            "id_token": token,
            "access_token": self.access_token,
            "refresh_token": self.refreshes[-1],
        }


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(Provider) as found:
        yield found


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


class Browser:
    """Opens pages as a person's browser does, redirects too."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.threads: list[threading.Thread] = []

    def show(self, page: str) -> None:
        self.pages.append(page)
        thread = threading.Thread(target=lambda: httpx.get(page, follow_redirects=True, timeout=20))
        self.threads.append(thread)
        thread.start()

    def close(self) -> None:
        for thread in self.threads:
            thread.join()


@pytest.fixture
def browser() -> Iterator[Browser]:
    found = Browser()
    yield found
    found.close()


def info(provider: Provider) -> SignInInfo:
    return SignInInfo(issuer=provider.url, client_id=CLIENT, scopes=["openid", "offline_access"])


def signed_in(environ: dict[str, str], provider: Provider, browser: Browser) -> Path:
    return sign_in(environ, URL, info(provider), lambda flow: flow.by_browser(URL, browser.show))


def test_a_browser_brings_a_code_that_only_this_request_can_use(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    path = signed_in(environ, provider, browser)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    asked = provider.asked
    assert (asked["code_challenge_method"], asked["scope"]) == ("S256", "openid offline_access")
    assert urlsplit(asked["redirect_uri"]).hostname == "127.0.0.1"
    kept = read(path)
    assert kept is not None
    assert claims_of(kept.id_token)["nonce"] == asked["nonce"]
    assert (kept.refresh_token, provider.codes) == ("refresh-0", {})


@pytest.mark.parametrize(
    ("twist", "said"),
    [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"nonce": "replayed"}, "answers another request"),
        ({"code": "code-of-another"}, "invalid_grant"),
    ],
)
def test_what_is_no_answer_to_this_request_is_refused_and_nothing_kept(
    environ: dict[str, str],
    provider: Provider,
    browser: Browser,
    twist: dict[str, Any],
    said: str,
) -> None:
    provider.twist = twist
    with pytest.raises(NotAllowed, match=said):
        signed_in(environ, provider, browser)
    assert not path_of(environ, URL).exists()


def test_an_answer_with_another_state_is_not_believed_and_the_right_one_still_is(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    def show(page: str) -> None:
        asked = parse_qs(urlsplit(page).query)
        forged = urlencode({"code": "stolen", "state": "x" * 64})

        def visit() -> None:
            httpx.get(f"{asked['redirect_uri'][0]}?{forged}", timeout=20)
            httpx.get(page, follow_redirects=True, timeout=20)

        browser.threads.append(threading.Thread(target=visit))
        browser.threads[-1].start()

    sign_in(environ, URL, info(provider), lambda flow: flow.by_browser(URL, show))
    assert provider.refreshes == ["refresh-0"]


def test_another_device_signs_in_while_this_one_asks_again(
    environ: dict[str, str], provider: Provider
) -> None:
    told: list[tuple[str, str]] = []
    pauses: list[float] = []
    sign_in(
        environ,
        URL,
        info(provider),
        lambda flow: flow.by_device(
            URL, lambda page, code: told.append((page, code)), pauses.append
        ),
    )
    assert told == [(f"{provider.url}/device", "AB-CD")]
    assert pauses == [5.0, 5.0]


def test_an_issuer_that_says_it_is_another_is_refused(provider: Provider) -> None:
    provider.said_issuer = "https://evil.example"
    with connection() as http, pytest.raises(NotAllowed, match="another issuer"):
        IssuerFlow(http, provider.url, CLIENT, ())


def test_a_token_is_renewed_when_it_is_old_once_for_all_who_ask(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    path = signed_in(environ, provider, browser)
    kept = read(path)
    assert kept is not None
    first = KeptSignIn(environ, URL)
    assert first.token() == kept.id_token
    later = [kept.taken_at_s + FRESH_S]
    several = [KeptSignIn(environ, URL, lambda: later[0]) for _ in range(3)]
    assert all(one.is_due() for one in several)
    found = {one.token() for one in several}
    assert len(found) == 1
    assert found != {kept.id_token}
    assert provider.refreshes == ["refresh-0", "refresh-1"]


def test_an_access_token_is_kept_and_renewed_only_for_a_runtime_that_needs_it(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    kept = read(signed_in(environ, provider, browser))
    assert kept is not None
    assert kept.access_token is None
    needing = info(provider).model_copy(update={"needs_access_token": True})
    sign_in(environ, URL, needing, lambda flow: flow.by_browser(URL, browser.show))
    provider.access_token = "b"
    first = KeptSignIn(environ, URL)
    assert (first.access_token(), first.token() and first.access_token()) == (None, "a")
    later = KeptSignIn(environ, URL, lambda: kept.taken_at_s + 2 * FRESH_S)
    assert (later.token() and later.access_token()) == "b"


def test_while_the_issuer_is_away_a_token_is_sent_until_it_is_over(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    kept = read(signed_in(environ, provider, browser))
    assert kept is not None
    provider.is_away = True
    old = KeptSignIn(environ, URL, lambda: kept.taken_at_s + FRESH_S)
    assert old.token() == kept.id_token
    with pytest.raises(Unavailable, match="answers 503"):
        KeptSignIn(environ, URL, lambda: kept.expires_at_s).token()


def test_a_refresh_that_was_used_before_asks_to_sign_in_again(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    kept = read(signed_in(environ, provider, browser))
    assert kept is not None
    provider.refreshes.append("of another thief")
    late = KeptSignIn(environ, URL, lambda: kept.taken_at_s + FRESH_S)
    with pytest.raises(NotAllowed, match="used before") as raised:
        late.token()
    assert "helmr login" in str(raised.value.hint)


def test_signing_out_forgets_here_and_at_the_issuer(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    path = signed_in(environ, provider, browser)
    assert find_runtime(url=URL, environ=environ).signed_in is not None
    assert sign_out(environ, URL)
    assert (provider.revoked, path.exists()) == (["refresh-0"], False)
    assert not sign_out(environ, URL)
    assert find_runtime(url=URL, environ=environ).signed_in is None


def test_a_key_that_was_given_goes_before_a_sign_in(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    signed_in(environ, provider, browser)
    assert find_runtime(url=f"{URL}/", environ=environ).signed_in is not None
    assert find_runtime(url=URL, key="k", environ=environ).signed_in is None
    named = find_runtime(url=URL, environ={**environ, "HELMR_API_KEY": "k"})
    assert (named.key, named.signed_in) == ("k", None)
    assert find_runtime(url="http://127.0.0.1:1", environ=environ).signed_in is None


def test_a_file_that_others_could_have_written_is_refused(
    environ: dict[str, str], provider: Provider, browser: Browser
) -> None:
    path = signed_in(environ, provider, browser)
    path.chmod(0o644)
    with pytest.raises(NotAllowed, match="not yours alone"):
        KeptSignIn(environ, URL).token()
    path.chmod(0o600)
    path.write_text(json.dumps({"url": 1}))
    with pytest.raises(NotAllowed, match="no one is signed in"):
        KeptSignIn(environ, URL).token()


def test_a_runtime_without_an_issuer_says_so(environ: dict[str, str]) -> None:
    with pytest.raises(NotAllowed, match="no issuer"):
        sign_in(environ, URL, SignInInfo(), lambda flow: pytest.fail("it has no flow"))
