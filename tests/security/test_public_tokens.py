"""A public token does one thing, so often, from there, until then (S-44, S-45, S-46)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadRequest, OriginDenied, ScopeDenied, TokenExhausted, Unauthenticated
from helmr.wire.roles import ScopeType
from helmr_runtime.core.public_tokens import (
    Scope,
    ScopedToken,
    check_complete,
    check_live,
    check_read,
    check_send,
    check_uses,
    revoke,
    spend,
    unauthenticated,
)
from helmr_runtime.security.origins import (
    answer_headers,
    check_allowed_origin,
    check_origin,
    preflight_headers,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SEND = Scope(type=ScopeType.SESSION_INPUT_SEND, session_id="ses_1", stream="approval")
KEYED = Scope(
    type=ScopeType.SESSION_INPUT_SEND, session_id="ses_1", stream="approval", correlation_id="x"
)
READ = Scope(type=ScopeType.SESSION_OUTPUT_READ, session_id="ses_1", stream="progress")
COMPLETE = Scope(type=ScopeType.TOKEN_COMPLETE, token_id="tok_1")


def make(scope: Scope = SEND, **changes: Any) -> ScopedToken:
    parts: dict[str, Any] = {
        "id": "pat_1",
        "secret_hash": "h",
        "created_at": NOW,
        "expires_at": NOW + timedelta(days=30),
    }
    return ScopedToken(scope=scope, **{**parts, **changes})


# --- who is let in --------------------------------------------------------------------------------


def test_unknown_revoked_and_expired_are_told_the_same():
    told = {(str(unauthenticated()), unauthenticated().hint)}
    for token, now in [
        (None, NOW),
        (revoke(make(), NOW), NOW),
        (make(), NOW + timedelta(days=30)),
    ]:
        with pytest.raises(Unauthenticated) as refused:
            check_live(token, now)
        told.add((str(refused.value), refused.value.hint))
        assert refused.value.facts == {}
    assert len(told) == 1


def test_a_live_token_is_let_in_until_the_last_microsecond():
    token = make()
    assert check_live(token, NOW + timedelta(days=30, microseconds=-1)) is token


def test_the_first_revocation_stays():
    token = revoke(make(), NOW)
    assert revoke(token, NOW + timedelta(days=1)).revoked_at == NOW


# --- scope ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "asked", "effective"),
    [
        (SEND, None, None),
        (SEND, "y", "y"),
        (SEND, " y ", "y"),
        (SEND, "  ", None),
        (KEYED, None, "x"),
        (KEYED, "", "x"),
        (KEYED, "x", "x"),
        (KEYED, " x ", "x"),
    ],
)
def test_a_send_takes_the_scopes_correlation_id(scope, asked, effective):
    assert check_send(make(scope), "ses_1", "approval", asked) == effective


@pytest.mark.parametrize("asked", ["y", "X", "x x"])
def test_another_correlation_id_is_denied(asked):
    with pytest.raises(ScopeDenied):
        check_send(make(KEYED), "ses_1", "approval", asked)


def test_every_other_place_is_denied_and_the_right_one_not_named():
    attempts: list[Callable[[], object]] = [
        lambda: check_send(make(SEND), "ses_2", "approval", None),
        lambda: check_send(make(SEND), "ses_1", "other", None),
        lambda: check_send(make(READ), "ses_1", "progress", None),
        lambda: check_send(make(COMPLETE), "ses_1", "approval", None),
        lambda: check_read(make(READ), "ses_2", "progress"),
        lambda: check_read(make(READ), "ses_1", "approval"),
        lambda: check_read(make(SEND), "ses_1", "approval"),
        lambda: check_complete(make(COMPLETE), "tok_2"),
        lambda: check_complete(make(SEND), "tok_1"),
    ]
    for attempt in attempts:
        with pytest.raises(ScopeDenied) as denied:
            attempt()
        for hidden in ("ses_1", "approval", "progress", "tok_1"):
            assert hidden not in str(denied.value)
    check_read(make(READ), "ses_1", "progress")
    check_complete(make(COMPLETE), "tok_1")


@pytest.mark.parametrize(
    "parts",
    [
        {"type": ScopeType.TOKEN_COMPLETE},
        {"type": ScopeType.TOKEN_COMPLETE, "token_id": "t", "session_id": "s"},
        {"type": ScopeType.TOKEN_COMPLETE, "token_id": "t", "correlation_id": "c"},
        {"type": ScopeType.SESSION_INPUT_SEND, "session_id": "s"},
        {"type": ScopeType.SESSION_INPUT_SEND, "stream": "s"},
        {"type": ScopeType.SESSION_INPUT_SEND, "session_id": "s", "stream": "s", "token_id": "t"},
        {"type": ScopeType.SESSION_OUTPUT_READ, "session_id": "s", "stream": "s", "correlation_id": "c"},
        {"type": ScopeType.SESSION_INPUT_SEND, "session_id": "s", "stream": "s", "correlation_id": "c" * 513},
    ],
    ids=range(8),
)  # fmt: skip
def test_a_scope_names_exactly_one_place(parts):
    with pytest.raises(BadRequest):
        Scope(**parts)


@pytest.mark.parametrize(
    "changes", [{"max_uses": 0}, {"max_uses": -1}, {"scope": READ, "max_uses": 1}, {"allowed_origins": ("x",) * 51}]
)  # fmt: skip
def test_a_token_that_makes_no_sense_is_refused(changes):
    with pytest.raises(BadRequest):
        make(**changes)


# --- uses -----------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=60))
def test_accepted_uses_never_exceed_the_maximum(max_uses, attempts):
    """`attempts`: whether everything else about the request is fine."""
    token, accepted = make(max_uses=max_uses), 0
    for is_fine in attempts:
        if accepted == max_uses:
            with pytest.raises(TokenExhausted, match="pat_1"):
                check_uses(token)
            with pytest.raises(TokenExhausted):
                spend(token, NOW)
            continue
        check_uses(token)
        if is_fine:
            token, accepted = spend(token, NOW), accepted + 1
    assert token.uses == accepted <= max_uses
    assert token.uses_left == max_uses - accepted
    assert token.last_used_at == (NOW if accepted else None)


def test_without_a_maximum_uses_are_counted_and_never_spent_up():
    token = make()
    for _ in range(100):
        token = spend(token, NOW)
    assert (token.uses, token.uses_left) == (100, None)


@pytest.mark.parametrize("scope", [SEND, KEYED, READ, COMPLETE])
def test_state_survives_a_checkpoint(scope):
    token = make(scope, allowed_origins=("https://a.example",), key_id="k1")
    assert ScopedToken.from_json(token.to_json()) == token
    spent = revoke(spend(make(max_uses=2), NOW), NOW)
    assert ScopedToken.from_json(spent.to_json()) == spent


# --- origins --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        (" HTTPS://App.Example.com:443 ", "https://app.example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://a.example:80", "http://a.example"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(text, origin):
    assert check_allowed_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["", "*", "null", "app.example.com", "https://*.example.com", "https://app.example.com/", "ftp://a",
     "https://a.example?x", "https://u@a.example", "https://a.example:x", "https://a.example:0",
     "https://a .example", "https://ä.example", "https://", "file:///x", "https://[::1", "https://-a"],
    ids=range(17),
)  # fmt: skip
def test_anything_else_is_no_origin(text):
    with pytest.raises(BadRequest, match="allowed_origins"):
        check_allowed_origin(text)


ALLOWED = make(allowed_origins=("https://app.example.com",))


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:8443",
     "https://APP.example.com", "https://evil.example", "null", "", "https://app.example.com/"],
    ids=range(8),
)  # fmt: skip
def test_a_page_of_another_origin_is_refused_and_can_not_read_the_answer(origin):
    with pytest.raises(OriginDenied):
        check_origin(ALLOWED, origin)
    assert "Access-Control-Allow-Origin" not in answer_headers(ALLOWED, origin)


def test_an_allowed_page_and_a_program_are_let_in():
    check_origin(ALLOWED, "https://app.example.com")
    check_origin(ALLOWED, None)
    headers = answer_headers(ALLOWED, "https://app.example.com")
    assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in headers
    assert answer_headers(None, "https://app.example.com") == {"Vary": "Origin"}


def test_without_allowed_origins_no_page_is_let_in_and_the_refusal_says_what_to_add():
    page = "https://app.example.com"
    with pytest.raises(OriginDenied) as caught:
        check_origin(make(), page)
    assert f'allowed_origins=["{page}"]: without it, only programs' in str(caught.value.hint)
    with pytest.raises(OriginDenied) as caught:
        check_origin(ALLOWED, "http://app.example.com")
    assert 'allowed_origins=["http://app.example.com"]; this one is for https://' in str(
        caught.value.hint
    )
    with pytest.raises(OriginDenied, match="null") as caught:
        check_origin(make(allowed_origins=("null",)), "null")
    assert "Serve the page over HTTP" in str(caught.value.hint)


def test_a_preflight_is_answered_for_any_origin_and_the_routes_methods_only():
    headers = preflight_headers("https://any.example", "POST", ("POST",))
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "POST"
    assert "Authorization" in headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in headers
    assert preflight_headers("https://any.example", "DELETE", ("POST",)) == {}
    assert preflight_headers(None, "POST", ("POST",)) == {}
    assert preflight_headers("https://any.example", None, ("POST",)) == {}
