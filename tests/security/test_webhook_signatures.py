"""A provider's signature over the raw body: its own vectors are taken, one changed byte is not."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadRequest, PayloadDamaged, SignatureRefused
from helmr_runtime.security.keys import KeyRing, MasterKey
from helmr_runtime.security.payloads import PayloadCipher
from helmr_runtime.security.webhook_signatures import SignatureScheme, Verification
from tests.security.deliveries import DELIVERY, DELIVERY_HEADERS, DELIVERY_SECRET


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# docs.github.com, "Testing the webhook payload validation"
GITHUB = Verification(scheme=SignatureScheme.GITHUB, secret="It's a Secret to Everybody")
GITHUB_BODY = b"Hello, World!"
GITHUB_HEADERS = {
    "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
}

# api.slack.com, "Verifying requests from Slack"
SLACK = Verification(scheme=SignatureScheme.SLACK, secret="8f742231b10e8888abcd99yyyzzz85a5")
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGl"
    b"gcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_HEADERS = {
    "x-slack-request-timestamp": "1531420618",
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}

# The reference libraries of standardwebhooks.com
STANDARD = Verification(
    scheme=SignatureScheme.STANDARD_WEBHOOKS, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}

VECTORS = [
    (GITHUB, GITHUB_HEADERS, GITHUB_BODY, at(0)),
    (SLACK, SLACK_HEADERS, SLACK_BODY, at(1531420618)),
    (STANDARD, STANDARD_HEADERS, STANDARD_BODY, at(1614265330)),
]
each_provider = pytest.mark.parametrize(
    ("verification", "headers", "body", "now"), VECTORS, ids=["github", "slack", "standard"]
)


@each_provider
def test_the_providers_own_example_is_taken(verification, headers, body, now):
    verification.check(headers, body, now=now)


@each_provider
def test_one_changed_byte_of_the_body_is_refused(verification, headers, body, now):
    for place in range(0, len(body), 7):
        changed = bytearray(body)
        changed[place] ^= 1
        with pytest.raises(SignatureRefused):
            verification.check(headers, bytes(changed), now=now)
    for changed_length in (body[:-1], body + b"\n", b""):
        with pytest.raises(SignatureRefused):
            verification.check(headers, changed_length, now=now)


@each_provider
def test_a_missing_or_changed_header_is_refused_in_the_same_words(verification, headers, body, now):
    messages = set()
    for name in headers:
        for value in (
            None,
            "",
            headers[name][:-1],
            headers[name] + "0",
            "ü",
            "sha256=",
            "v1,",
            "v0=",
        ):
            changed = {key: each for key, each in headers.items() if key != name}
            if value is not None:
                changed[name] = value
            with pytest.raises(SignatureRefused) as refused:
                verification.check(changed, body, now=now)
            messages.add(refused.value.message)
    assert len(messages) == 1


@each_provider
def test_another_secret_is_refused(verification, headers, body, now):
    other = Verification(
        scheme=verification.scheme, secret="whsec_" + base64.b64encode(b"x" * 24).decode()
    )
    with pytest.raises(SignatureRefused):
        other.check(headers, body, now=now)


@pytest.mark.parametrize(
    ("verification", "headers", "body", "now"), VECTORS[1:], ids=["slack", "standard"]
)
def test_a_signed_time_may_lie_five_minutes_off_and_no_more(verification, headers, body, now):
    for offset_s in (-300, 300):
        verification.check(headers, body, now=now + timedelta(seconds=offset_s))
    for offset_s in (-301, 301, 10**9):
        with pytest.raises(SignatureRefused):
            verification.check(headers, body, now=now + timedelta(seconds=offset_s))


@pytest.mark.parametrize("time", ["", "-1", "1e9", "1614265330.0", " 1614265330", "9" * 12, "٣"])
def test_a_time_that_is_no_number_is_refused(time):
    headers = STANDARD_HEADERS | {"webhook-timestamp": time}
    with pytest.raises(SignatureRefused):
        STANDARD.check(headers, STANDARD_BODY, now=at(1614265330))


def test_one_of_several_signatures_is_enough_and_other_versions_are_ignored():
    good = STANDARD_HEADERS["webhook-signature"]
    now = at(1614265330)
    for header in (f"v1,AAAA {good}", f"v1a,xyz {good} v2,abc"):
        STANDARD.check(STANDARD_HEADERS | {"webhook-signature": header}, STANDARD_BODY, now=now)
    for header in (good.replace("v1,", "v1a,"), " ".join(["v1,AAAA"] * 8 + [good])):
        with pytest.raises(SignatureRefused):
            STANDARD.check(STANDARD_HEADERS | {"webhook-signature": header}, STANDARD_BODY, now=now)


def test_githubs_webhook_with_githubs_signature_is_taken_byte_for_byte():
    delivery = Verification(scheme=SignatureScheme.GITHUB, secret=DELIVERY_SECRET)
    delivery.check(DELIVERY_HEADERS, DELIVERY, now=at(0))
    for place in range(0, len(DELIVERY), 1_009):
        changed = bytearray(DELIVERY)
        changed[place] ^= 1
        with pytest.raises(SignatureRefused):
            delivery.check(DELIVERY_HEADERS, bytes(changed), now=at(0))


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(list(STANDARD_HEADERS)), st.text()))
def test_nothing_but_the_signature_is_taken(body, headers):
    with pytest.raises(SignatureRefused):
        STANDARD.check(headers, body, now=at(1614265330))


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"scheme": "github"},
        {"scheme": "gitlab", "secret": "x"},
        {"scheme": "github", "secret": ""},
        {"scheme": "github", "secret": 7},
        {"scheme": "github", "secret": "x" * 600},
        {"scheme": "github", "secret": "x", "more": 1},
        {"scheme": "slack", "secret": "x", "tolerance_s": 0},
        {"scheme": "slack", "secret": "x", "tolerance_s": 10**6},
        {"scheme": "slack", "secret": "x", "tolerance_s": "5"},
        {"scheme": "standard_webhooks", "secret": "whsec_!!!"},
        {"scheme": "standard_webhooks", "secret": "whsec_c2hvcnQ="},
        {"scheme": ["github"], "secret": "x"},
    ],
    ids=range(13),
)
def test_a_configuration_that_can_not_work_is_refused_at_once(parts):
    with pytest.raises(BadRequest, match="verify"):
        Verification.from_json(parts)


def test_the_providers_secret_is_stored_encrypted_and_for_its_token_only():
    cipher = PayloadCipher(KeyRing((MasterKey("k1", b"1" * 32),)).session_keys("ses_1"))
    verification = Verification.from_json({"scheme": "slack", "secret": "hush", "tolerance_s": 60})
    stored = verification.sealed(cipher, "tok_1")
    assert "hush" not in str(stored)
    assert "hush" not in repr(verification)
    assert Verification.unsealed(stored, cipher, "tok_1") == verification
    with pytest.raises(PayloadDamaged):
        Verification.unsealed(stored, cipher, "tok_2")
