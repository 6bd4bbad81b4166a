"""What a callback's body says, by content type (S-42)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import (
    BadJson,
    BadRequest,
    SchemaMismatch,
    TooLarge,
    UnsupportedMedia,
)
from helmr_runtime.security.callbacks import CallbackData, CallbackForm, read_callback

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def read(
    content_type: str | None, body: bytes, *, is_raw: bool = False, token_is_raw: bool = True
) -> CallbackData | CallbackForm:
    return read_callback(
        content_type=content_type, body=body, is_raw=is_raw, token_is_raw=token_is_raw
    )


@pytest.mark.parametrize(
    "content_type", [JSON, "Application/JSON; charset=UTF-8", f'{JSON};charset="utf8"']
)
def test_json_is_the_data_under_data(content_type):
    assert read(content_type, b'{"data": null}') == CallbackData(None)
    assert read(content_type, b' {"data": {"a": 1}}\n') == CallbackData({"a": 1})


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b'"x"', b'{"data": 1, "more": 2}', b'{"Data": 1}']
)
def test_other_json_is_refused(body):
    with pytest.raises(BadRequest, match="data"):
        read(JSON, body)


def test_json_is_read_strictly():
    for body in (b"{", b'{"data": NaN}', b'{"data": 1, "data": 2}', b"\xff", b"[" * 1000):
        with pytest.raises(BadJson):
            read(JSON, body)


def test_raw_takes_json_or_a_form_as_it_is():
    assert read(JSON, b'{"action": "opened"}', is_raw=True) == CallbackData({"action": "opened"})
    assert read(JSON, b"[1]", is_raw=True) == CallbackData([1])
    form = read(FORM, b"a=1&b=x+y&b=%C3%A4&nonce=n", is_raw=True)
    assert form == CallbackData({"a": "1", "b": ["x y", "ä"], "nonce": "n"})


@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_raw_is_for_tokens_made_for_it(content_type):
    with pytest.raises(BadRequest, match="raw"):
        read(content_type, b"a=1", is_raw=True, token_is_raw=False)


def test_a_form_is_the_pages_fields_and_nonce():
    form = read(FORM, b"nonce=n&f%2Fa=1&f%2Fb=&f%2Fb=2")
    assert form == CallbackForm("n", {"f/a": ["1"], "f/b": ["", "2"]})


@pytest.mark.parametrize("body", [b"f=1", b"nonce=a&nonce=b&f=1"])
def test_a_form_without_one_nonce_has_none(body):
    form = read(FORM, body)
    assert isinstance(form, CallbackForm)
    assert form.nonce is None


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "text/html", "multipart/form-data; boundary=x", "application/json5",
     "application/xml", f"{JSON}; charset=utf-16", f"{FORM}; charset=latin-1", f"{JSON},{FORM}"],
    ids=range(10),
)  # fmt: skip
def test_other_types_are_415(content_type):
    with pytest.raises(UnsupportedMedia):
        read(content_type, b'{"data": 1}')


@pytest.mark.parametrize("content_type", [JSON, FORM])
@pytest.mark.parametrize("body", [b"", b"  \n"])
@pytest.mark.parametrize("is_raw", [True, False])
def test_an_empty_body_is_422(content_type, body, is_raw):
    with pytest.raises(SchemaMismatch) as refused:
        read(content_type, body, is_raw=is_raw)
    assert refused.value.status == 422


@pytest.mark.parametrize("body", [b"a", b"a=%FF", "a=ä".encode(), b"&&"])
def test_a_form_that_can_not_be_read_is_refused(body):
    with pytest.raises(BadRequest):
        read(FORM, body)


def test_a_form_of_too_many_fields_is_refused_before_it_is_read():
    with pytest.raises(TooLarge):
        read(FORM, b"a=1&" * 5_000)


@given(st.sampled_from([JSON, FORM]), st.binary(), st.booleans())
def test_any_body_is_read_or_refused(content_type, body, is_raw):
    with contextlib.suppress(BadRequest, BadJson, SchemaMismatch, TooLarge, UnsupportedMedia):
        read(content_type, body, is_raw=is_raw)
