"""No secret in a log line: message, arguments, tracebacks and extras."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_runtime.security.payloads import MARK, RedactingFilter, find_secrets, install, redact
from helmr_runtime.security.secrets import SecretKind, make_secret, secret_from_bytes

RAW = st.binary(min_size=32, max_size=32)


@pytest.fixture
def log():
    stream = io.StringIO()
    logger = logging.getLogger("tests.redaction")
    logger.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    install(logger)
    yield logger, stream.getvalue
    logger.removeHandler(handler)


@given(st.sampled_from(list(SecretKind)), RAW, st.text(), st.text())
def test_a_secret_disappears_wherever_it_stands(kind, raw, before, after):
    secret = secret_from_bytes(kind, raw)
    cleaned = redact(f"{before}{secret}{after}")
    assert secret not in cleaned
    assert secret[10:40] not in cleaned
    assert list(find_secrets(cleaned)) == []


@given(st.text(st.characters(exclude_characters="_/")))
def test_a_text_without_one_stays(text):
    if "bearer" not in text.lower():
        assert redact(text) == text


def test_what_is_known_by_its_place_goes_too():
    assert redact("GET /v1/callbacks/anything?raw=1 200") == f"GET /v1/callbacks/{MARK}?raw=1 200"
    assert redact("Authorization: Bearer abcdef0123") == f"Authorization: Bearer {MARK}"
    assert redact("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") == f"whsec_{MARK}"
    assert redact("GET /v1/callbacks/{secret}") == f"GET /v1/callbacks/{MARK}"


def test_redacting_twice_changes_nothing():
    text = redact(f"Bearer {make_secret('key')} /callbacks/{make_secret('cb')}")
    assert redact(text) == text


def test_a_secret_that_was_cut_off_goes_too():
    secret = make_secret("key")
    assert secret[9:20] not in redact(f"{secret[:20]}…")


def test_message_arguments_and_extras_are_redacted(log):
    logger, written = log
    secret = make_secret("key")
    logger.warning("a %s and %r in %s", secret, {"key": secret}, b"x" + secret.encode())
    logger.warning(f"/callbacks/{secret}", extra={"url": f"/callbacks/{secret}"})
    assert secret not in written()
    assert written().count(MARK) == 4


def test_tracebacks_and_stacks_are_redacted(log):
    logger, written = log
    secret = make_secret("pat")
    try:
        raise ValueError(f"bad {secret}")
    except ValueError:
        logger.exception("failed", stack_info=True)
    assert secret not in written()
    assert "ValueError: bad hlmr_pat_" in written()


def test_a_call_with_wrong_arguments_still_logs_no_secret(log, capsys):
    logger, written = log
    secret = make_secret("cb")
    logger.warning("one %d", secret)
    logger.handle(logging.LogRecord("n", logging.WARNING, "p", 1, "none", (secret,), None))
    assert secret not in written() + capsys.readouterr().err
    assert written().count("\n") == 2


def test_extras_keep_their_type_when_they_hold_no_secret():
    record = logging.makeLogRecord(
        {"msg": "m", "count": 3, "parts": ["a"], "bad": [make_secret("key")]}
    )
    assert RedactingFilter().filter(record)
    assert record.__dict__["count"] == 3
    assert record.__dict__["parts"] == ["a"]
    assert MARK in record.__dict__["bad"]


def test_installing_twice_filters_once(log):
    logger, _ = log
    install(logger)
    assert len(logger.handlers[0].filters) == 1


def test_a_search_finds_well_formed_secrets_only():
    one, other = make_secret("key"), make_secret("pat")
    damaged = one[:-1] + ("0" if one[-1] != "0" else "1")
    assert list(find_secrets(f"x{one}, {other}!\n{damaged} hlmr_key_short")) == [one, other]
