"""What ties a sign-in to one browser: made and read without a memory (S-116)."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from helmr.wire.ids import WAIT, new_id
from helmr_runtime.security.browser_sign_in import (
    INBOX_PATH,
    PENDING_FOR,
    begun,
    own_page,
    read,
)
from helmr_runtime.security.secrets import make_secret

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LINK = "/v1/links/hlmr_link_SECRET"
WAIT_PAGE = "/inbox/WAIT"
# Drawn where a test runs: ids of tests are the same in each worker.
DRAWN = {"hlmr_link_SECRET": make_secret("link"), "WAIT": new_id(WAIT)}


def drawn(path: str) -> str:
    """The path with the secret and the id that it names."""
    for name, value in DRAWN.items():
        path = path.replace(name, value)
    return path


def test_a_cookie_gives_back_the_sign_in_that_it_was_made_for() -> None:
    pending = begun(KEY, drawn(LINK), NOW)
    assert read(KEY, pending.cookie, NOW) == pending
    assert pending.return_to == drawn(LINK)
    answers = (pending.state, None, begun(KEY, drawn(LINK), NOW).state)
    are_its = [pending.is_answered_by(one) for one in answers]
    assert are_its == [True, False, False]  # and a failure shows no link


def test_what_the_issuer_is_told_says_nothing_of_the_verifier() -> None:
    pending = begun(KEY, None, NOW)
    digest = hashlib.sha256(pending.verifier.encode()).digest()
    assert pending.challenge == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert 43 <= len(pending.verifier) <= 128  # RFC 7636, 4.1
    secrets = {pending.state, pending.nonce, pending.verifier, pending.challenge}
    assert len(secrets) == 4
    assert not any(secret in pending.cookie for secret in secrets)


def test_two_sign_ins_share_nothing() -> None:
    one, two = begun(KEY, None, NOW), begun(KEY, None, NOW)
    assert {one.state, one.nonce, one.verifier}.isdisjoint({two.state, two.nonce, two.verifier})


def test_a_cookie_that_we_did_not_write_or_too_long_ago_is_none() -> None:
    pending = begun(KEY, drawn(LINK), NOW)
    ends, id_, path, mac = pending.cookie.split(".")
    elsewhere = base64.urlsafe_b64encode(b"https://evil.example").decode().rstrip("=")
    wrong = [
        None,
        "",
        "a.b.c.d",
        "." * 3,
        "é.b.c.d",
        "x" * 5_000,
        f"{int(ends) + 9_000}.{id_}.{path}.{mac}",
        f"{ends}.{id_[::-1]}.{path}.{mac}",
        f"{ends}.{id_}.{elsewhere}.{mac}",
        f"{ends}.{id_}.{path}",
        f"{pending.cookie}.",
    ]
    for cookie in wrong:
        assert read(KEY, cookie, NOW) is None, cookie
    assert read(OTHER_KEY, pending.cookie, NOW) is None
    assert read(KEY, pending.cookie, NOW + PENDING_FOR - timedelta(seconds=1)) is not None
    assert read(KEY, pending.cookie, NOW + PENDING_FOR) is None


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        f"https://evil.example{LINK}",
        f"//evil.example{LINK}",
        f"{LINK}/../../..",
        f"{LINK}@evil.example",
        f"{LINK}\n",
        f"{LINK}?next=//evil.example",
        "/v1/links/x",
        "/v1/waits",
        "/sign-out",
        "/inboxes",
        "/inbox/events",
        "/inbox?a=//evil.example",
        f"{WAIT_PAGE}/..",
    ],
)
def test_no_link_leads_elsewhere(path: str | None) -> None:
    path = drawn(path) if path is not None else None
    assert own_page(path) == INBOX_PATH
    assert begun(KEY, path, NOW).return_to == INBOX_PATH


@pytest.mark.parametrize(
    "path",
    [LINK, "/inbox", "/inbox?show=mine&tag=a%20b", WAIT_PAGE],
)
def test_a_person_comes_back_to_a_page_of_theirs(path: str) -> None:
    path = drawn(path)
    assert own_page(path) == path
