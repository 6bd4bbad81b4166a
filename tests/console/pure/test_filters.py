"""The filter grammar says what it does not understand, and how ids from tickets are searched for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadFilter
from helmr.models import SessionInfo
from helmr.person.filters import SESSION_FIELDS, WAIT_FIELDS, parse, session_facts

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
FACTS = {
    "id": "wait_1",
    "session": "ses_1",
    "task": "publish-review",
    "kind": "input",
    "stream": "approval",
    "correlation": "github:acme/api#2204",
    "subject": "Publish the review of acme/api#2204?",
    "ends_at": NOW + timedelta(minutes=5),
    "opened_at": NOW - timedelta(hours=2),
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "approval",
        "stream:approval",
        "stream:chat,approval",
        "task:pub*",
        "-stream:chat",
        "due<10m age>1h",
        '"github:acme/api#2204"',
        '"api#2204"',
        "correlation:github:acme/api#2204",
        'subject:"publish the review of acme/api#2204?"',
        '"review of"',
        "APPROVAL",
    ],
)
def test_passes(text: str) -> None:
    assert parse(text, WAIT_FIELDS).matches(FACTS, NOW)


@pytest.mark.parametrize(
    "text", ["chat", "stream:app", "task:x*", "-approval", "due>10m", "due:none", "kind:token"]
)
def test_holds_back(text: str) -> None:
    assert not parse(text, WAIT_FIELDS).matches(FACTS, NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("strem:approval", "stream"),
        ("due:soon", "due<10m"),
        ("due<soon", "30m"),
        ("stream<5", "stream:value"),
        ('"open', "quote"),
        ("stream:", "value"),
    ],
)
def test_refusal_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(BadFilter) as caught:
        parse(text, WAIT_FIELDS)
    assert says in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "text", ["label:vip", "nosuch:1", "-owner:ana", "urgency<3", "Tags:vip", "my_tag:x"]
)
def test_a_field_that_there_is_not_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(BadFilter) as caught:
        parse(text, WAIT_FIELDS)
    assert "is not a field of a wait" in caught.value.message
    assert all(name in (caught.value.hint or "") for name in WAIT_FIELDS.names)


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_pasted_correlation_id_is_refused_with_the_form_that_finds_it(sign: str) -> None:
    with pytest.raises(BadFilter) as caught:
        parse(f"{sign}github:acme/api#2204", WAIT_FIELDS)
    assert '"github:acme/api#2204"' in (caught.value.hint or "")
    found = parse(sign + '"github:acme/api#2204"', WAIT_FIELDS)
    assert found.matches(FACTS, NOW) != bool(sign)
    assert found.spell() == sign + '"github:acme/api#2204"'


def test_equalities_are_pushed_to_the_gateway_and_the_rest_is_not() -> None:
    found = parse("status:open tag:vip -task:chat quiet>1h activity:idle,queued", SESSION_FIELDS)
    assert found.pushed() == {"status": "open", "tag": "vip"}


@pytest.mark.parametrize(
    ("text", "run_status", "status", "passes"),
    [
        ("is:failed", "failed", "open", True),
        ("is:failed", "failed", "closed", False),
        ("run:failed", "failed", "closed", True),
        ("is:failed,blocked", "blocked", "open", True),
        ("is:blocked", "failed", "open", False),
        ("-is:failed", "succeeded", "open", True),
        ("is:failed", None, "open", False),
    ],
)
def test_failed_is_an_open_session_whose_newest_run_failed(
    text: str, run_status: str | None, status: str, passes: bool
) -> None:
    session = SessionInfo.model_validate(
        {
            "id": "ses_1",
            "task": "pay",
            "status": status,
            "activity": "blocked" if run_status == "blocked" else "idle",
            "run_status": run_status,
            "created_at": NOW,
            "updated_at": NOW,
            "last_seq": 3,
        }
    )
    assert parse(text, SESSION_FIELDS).matches(session_facts(session), NOW) is passes


def test_what_failed_is_asked_of_the_gateway_and_found_by_no_search_of_every_text() -> None:
    assert parse("is:failed task:pay", SESSION_FIELDS).pushed() == {
        "run_status": "failed",
        "status": "open",
        "task": "pay",
    }
    assert parse("status:OPEN run:Failed", SESSION_FIELDS).pushed() == {
        "status": "open",
        "run_status": "failed",
    }
    assert parse("is:blocked run:blocked", SESSION_FIELDS).pushed() == {
        "activity": "blocked",
        "run_status": "blocked",
    }
    assert not parse("failed", SESSION_FIELDS).matches({"is": ("failed",), "run": "failed"}, NOW)
    with pytest.raises(BadFilter, match="'mine' is not a value of 'is'"):
        parse("is:mine", SESSION_FIELDS)


@pytest.mark.parametrize(
    "text",
    ['tag:"a,b"', 'tag:a,"b c"', 'sub"two words"', '-"due<5m"', '"-a"', '""a""', 'tag:"a, b"c'],
)
def test_a_filter_is_spelt_as_it_is_read(text: str) -> None:
    found = parse(text, WAIT_FIELDS)
    assert parse(found.spell(), WAIT_FIELDS) == found


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_reads_again_as_spelt(text: str) -> None:
    try:
        found = parse(text, WAIT_FIELDS)
    except BadFilter:
        return
    again = parse(found.spell(), WAIT_FIELDS)
    assert again.matches(FACTS, NOW) == found.matches(FACTS, NOW)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("tag:fiveis:draft", "tag:five is:draft"),
        ("assignee:adapriority:high", "assignee:ada priority:high"),
        ("stream:approvalkind:token", "stream:approval kind:token"),
    ],
)
def test_a_filter_that_is_glued_to_a_value_is_told(typed: str, wanted: str) -> None:
    with pytest.raises(BadFilter) as refused:
        parse(typed, WAIT_FIELDS)
    assert wanted in (refused.value.hint or "")


@pytest.mark.parametrize(
    "typed",
    [
        "tag:client:claude-code",
        "tag:stage:prod",
        "correlation:oasis:draft",
        'tag:"fiveis:draft"',
        "tag:is:draft",
    ],
)
def test_a_value_with_a_colon_of_its_own_is_a_value(typed: str) -> None:
    assert parse(typed, WAIT_FIELDS)
