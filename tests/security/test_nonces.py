"""The answer page's nonce: of this page, of this token, of this form, for a day (S-42)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_runtime.security.callbacks import (
    NONCE_LIFETIME,
    Nonce,
    NonceState,
    make_nonce,
    read_nonce,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = b"k" * 32


def read(
    nonce: str | None,
    *,
    key: bytes = KEY,
    token_id: str = "tok_1",
    binding: str = "b",
    now: datetime = NOW,
) -> Nonce:
    return read_nonce(key, nonce, token_id=token_id, binding=binding, now=now)


@pytest.fixture
def nonce():
    return make_nonce(KEY, token_id="tok_1", binding="b", now=NOW)


def test_a_nonce_is_worth_something_on_its_page(nonce):
    found = read(nonce)
    assert found.state is NonceState.VALID
    assert found.id == nonce.split(".")[1]
    assert read(nonce, now=NOW + NONCE_LIFETIME - timedelta(seconds=1)).state is NonceState.VALID


def test_two_views_have_two_nonces(nonce):
    assert make_nonce(KEY, token_id="tok_1", binding="b", now=NOW) != nonce


def test_it_is_nothing_on_another_tokens_page_or_after_the_key_changed(nonce):
    assert read(nonce, token_id="tok_2") == Nonce(NonceState.UNKNOWN)
    assert read(nonce, key=b"x" * 32) == Nonce(NonceState.UNKNOWN)


def test_it_is_stale_after_a_day_and_when_the_form_changed(nonce):
    assert read(nonce, now=NOW + NONCE_LIFETIME).state is NonceState.STALE
    assert read(nonce, binding="c").state is NonceState.STALE


@given(st.data())
def test_a_changed_character_makes_it_worthless(data):
    nonce = make_nonce(KEY, token_id="tok_1", binding="b", now=NOW)
    place = data.draw(st.integers(0, len(nonce) - 1))
    other = data.draw(st.characters().filter(lambda char: char != nonce[place]))
    assert read(nonce[:place] + other + nonce[place + 1 :]).state is not NonceState.VALID


@given(st.one_of(st.none(), st.text(), st.text(".0aA-_", max_size=120)))
def test_any_text_is_worthless(text):
    assert read(text) == Nonce(NonceState.UNKNOWN)
