"""A secret's text: told from a typing error without a lookup, stored as a hash."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_runtime.security.secrets import (
    SecretKind,
    is_same_secret,
    make_secret,
    parse_secret,
    secret_from_bytes,
    secret_hash,
)

RAW = st.binary(min_size=32, max_size=32)
KINDS = st.sampled_from(list(SecretKind))


@given(KINDS, RAW)
def test_every_secret_is_read_back_as_its_kind(kind, raw):
    text = secret_from_bytes(kind, raw)
    assert re.fullmatch(r"hlmr_(key|pat|cb|link|web)_[0-9A-Za-z]{49}", text)
    assert parse_secret(text) is kind


@given(KINDS, RAW, RAW)
def test_two_secrets_have_two_texts(kind, one, other):
    assert (secret_from_bytes(kind, one) == secret_from_bytes(kind, other)) == (one == other)


@given(KINDS, RAW, st.data())
def test_one_changed_character_is_noticed(kind, raw, data):
    text = secret_from_bytes(kind, raw)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda char: char != text[place]))
    assert parse_secret(text[:place] + other + text[place + 1 :]) is None


@given(st.text())
def test_any_text_can_be_asked(text):
    assert parse_secret(text) is None


@pytest.mark.parametrize("change", ["{} ", " {}", "{}\n", "x{}", "{}0"])
def test_a_secret_with_something_around_it_is_none(change):
    assert parse_secret(change.format(make_secret("key"))) is None


def test_a_kind_of_nobody_is_refused():
    with pytest.raises(ValueError, match="root"):
        make_secret("root")


def test_a_secret_of_one_kind_is_not_taken_for_another():
    text = make_secret("key")
    assert parse_secret(text.replace("_key_", "_pat_")) is None


def test_fresh_secrets_differ():
    assert len({make_secret("pat") for _ in range(100)}) == 100


def test_the_hash_is_plain_sha256():
    assert secret_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_comparing_says_same_and_different():
    one, other = make_secret("cb"), make_secret("cb")
    assert is_same_secret(one, one)
    assert not is_same_secret(one, other)
    assert not is_same_secret("ä", "a")
