"""A card as a message: what it shows, what it offers, and what sessions can't make it say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from helmr.features.slack import message
from helmr.features.slack.message import ANSWER, CHOICE, PAGE
from helmr.features.slack.press import PressKind, press_of
from helmr.features.slack.reading import answer_of
from helmr.features.slack.texts import MORE
from helmr.person.card import FULL, NONE, SUBJECT, Card, card_of, form_for
from helmr.person.forms.tool_call import call_schema
from tests.features.slack.bounds import MESSAGE_CHARS_MAX, chars, too_long
from tests.features.slack.typist import NOW, WAIT, checked, pressed_button, wait

CHOICES = {"enum": ["approve", "reject"]}
PAGE_URL = f"https://helmr.example.com/inbox/{WAIT}"
HOSTILE = "<!channel> <@U1> <#C1> <https://evil.example|https://bank.example> & *b* `c` \u202e"
ADA = {"type": "person", "id": "ada@example.com", "via": "oidc"}


def drawn(detail: str = FULL, **parts: Any) -> dict[str, Any]:
    """A message of a wait, checked."""
    return posted(card_of(wait(**{"schema": CHOICES, **parts}), NOW, detail=detail))


def posted(card: Card) -> dict[str, Any]:
    found = message.message(card, page=PAGE_URL)
    checked(found)
    return found


def buttons(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        one for block in found["blocks"] if block["type"] == "actions" for one in block["elements"]
    ]


def ids(found: dict[str, Any]) -> list[str]:
    return [one["action_id"] for one in buttons(found)]


def said(found: Any) -> str:
    """All texts, as a reader sees them."""
    return "\n".join(_texts(found["blocks"]))


def _texts(one: Any) -> Iterator[str]:
    if isinstance(one, dict):
        if isinstance(one.get("text"), str):
            yield one["text"]
        for value in one.values():
            yield from _texts(value)
    elif isinstance(one, list):
        for value in one:
            yield from _texts(value)


def test_a_single_choice_is_answered_by_one_press() -> None:
    found = drawn()
    assert ids(found) == [f"{CHOICE}.0", f"{CHOICE}.1", PAGE]
    press = press_of(pressed_button(buttons(found)[1]))
    assert press is not None
    assert (press.kind, press.wait_id, press.choice) == (PressKind.CHOICE, WAIT, 1)
    assert answer_of(press, form_for(wait(schema=CHOICES))).data == "reject"


def test_a_decision_with_a_reason_has_both_ways() -> None:
    schema = {
        "type": "object",
        "properties": {"decision": CHOICES, "reason": {"type": "string"}},
        "required": ["decision"],
    }
    found = drawn(schema=schema)
    assert ids(found) == [f"{CHOICE}.0", f"{CHOICE}.1", ANSWER, PAGE]
    press = press_of(pressed_button(buttons(found)[0]))
    assert press is not None
    assert answer_of(press, form_for(wait(schema=schema))).data == {"decision": "approve"}


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"initial": {"amount": 5}}, id="unseen-initial"),
        pytest.param({}, id="needed-amount"),
    ],
)
def test_a_press_sends_nothing_that_was_not_shown(parts: dict[str, Any]) -> None:
    schema = {
        "type": "object",
        "properties": {"decision": CHOICES, "amount": {"type": "integer"}},
        "required": ["decision"] if parts else ["decision", "amount"],
    }
    assert ids(drawn(schema=schema, **parts)) == [ANSWER, PAGE]


def call(arguments: dict[str, Any]) -> dict[str, Any]:
    """A wait about a tool's call, as `ask_approval` writes it."""
    schema = {
        "type": "object",
        "properties": {
            "decision": {"enum": ["approve", "decline"]},
            "arguments": {"anyOf": [{"type": "object"}, {"type": "null"}], "default": None},
            "reason": {"type": "string", "default": ""},
        },
        "required": ["decision"],
    }
    initial = {"arguments": arguments}
    return {"schema": call_schema(schema, "pay"), "initial": initial, "subject": "Call pay?"}


def test_a_call_is_shown_whole_and_approved_by_one_press() -> None:
    parts = call({"cents": 120, "command": "ls -l"})
    found = drawn(**parts)
    assert ids(found)[:2] == [f"{CHOICE}.0", f"{CHOICE}.1"]
    assert "ls -l" in said(found)
    assert {"type": "raw_text", "text": "120"} in found["blocks"][1]["rows"][1]
    press = press_of(pressed_button(buttons(found)[0]))
    assert press is not None
    answer = answer_of(press, form_for(wait(**parts))).data
    assert answer == {"decision": "approve", "arguments": {"cents": 120, "command": "ls -l"}}
    no = press_of(pressed_button(buttons(found)[1]))
    assert no is not None
    assert "arguments" not in answer_of(no, form_for(wait(**parts))).data


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"command": "x" * 4_000}, id="command"),
        pytest.param({f"a{n}": n for n in range(60)}, id="many"),
        pytest.param({"text": "x" * 4_000}, id="long"),
    ],
)
def test_a_call_that_is_cut_has_no_buttons_but_the_page(arguments: dict[str, Any]) -> None:
    found = drawn(**call(arguments))
    assert ids(found) == [PAGE]
    assert MORE in said(found)
    assert "Not all of what is asked fits here. Open the page to answer." in said(found)


def test_what_a_level_of_detail_leaves_out_is_not_approved_blind() -> None:
    parts = {"body": "the secret text", "facts": {}, "tags": ["emea"], "assignee": "ada"}
    for detail in (NONE, SUBJECT):
        found = drawn(detail, **parts)
        assert "secret" not in json.dumps(found)
        assert ids(found) == [ANSWER, PAGE]
    none = json.dumps(drawn(NONE, **parts))
    assert not [one for one in ("Refund", "approve", "emea", "ada") if one in none]
    assert ids(drawn(SUBJECT)) == [f"{CHOICE}.0", f"{CHOICE}.1", PAGE]


def test_a_level_of_detail_names_no_one_at_the_end_either() -> None:
    ended = {"status": "fulfilled", "resolved_by": ADA, "resolved_at": NOW, "answer": "approve"}
    assert "ada" not in json.dumps(drawn(NONE, **ended))
    subject = drawn(SUBJECT, **ended)
    assert "Answered by ada@example.com" in said(subject)
    assert "approve" not in said(subject)
    assert "approve" in said(drawn(FULL, **ended))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        pytest.param({"status": "fulfilled", "resolved_by": ADA}, "Answered by ada", id="answered"),
        pytest.param({"status": "timed_out"}, "Timed out", id="timed-out"),
        pytest.param(
            {"status": "cancelled", "resolved_by": ADA}, "Cancelled by ada", id="cancelled"
        ),
        pytest.param(
            {"mode": "default", "status": "fulfilled"}, "escalation's default", id="default"
        ),
        pytest.param({"resolving": "completed"}, "Its token is completed", id="resolving"),
        pytest.param({"deadline_at": NOW}, "The deadline has passed", id="passed"),
    ],
)
def test_an_end_says_what_became_of_it_and_takes_the_buttons(
    parts: dict[str, Any], words: str
) -> None:
    found = drawn(resolved_at=NOW, **parts)
    assert words in said(found)
    assert words in found["text"]
    assert buttons(found) == []


def test_an_amendment_says_so() -> None:
    ended = wait(schema=CHOICES, status="fulfilled", resolved_by=ADA, answer="reject")
    found = posted(card_of(ended, NOW, is_amended=True))
    assert "Answered again by ada@example.com: reject" in said(found).replace("\n", "")
    assert buttons(found) == []


def test_who_is_at_it_who_agrees_and_what_ends_it_stand_on_an_open_card() -> None:
    claim = {"principal": ADA, "since": NOW, "until": NOW + timedelta(minutes=5)}
    vote = {"person": "bo", "data": "approve", "proposal": "p", "voted_at": NOW}
    found = drawn(
        claim=claim,
        approvals=2,
        have=1,
        voters=["bo"],
        votes=[vote],
        answerers=["group:finance"],
        escalation=[{"do": "default", "after_s": 600, "value": "reject"}],
        default_at=NOW + timedelta(minutes=10),
    )
    text = said(found)
    assert "ada@example.com is working on it, until " in text
    assert "1 of 2 agree: bo stands for approve" in text.replace('"', "")
    assert "2 people: group finance" in text
    assert "If no one answers by " in text
    assert "the answer is: reject" in text
    dates = [one for one in json.dumps(found).split('"type": "date"')[1:] if "fallback" in one]
    assert len(dates) == 2
    assert found["text"].startswith("More people must agree: ")


def test_a_signed_wait_has_no_form() -> None:
    found = drawn(signed=True, answerers=["ada"])
    assert ids(found) == [PAGE]
    assert "signed with your key" in said(found)


def test_a_secret_opens_the_page() -> None:
    schema = {"type": "object", "properties": {"pin": {"type": "string", "format": "password"}}}
    found = drawn(schema=schema)
    assert ids(found) == [PAGE]
    assert "It asks for a secret" in said(found)


def test_nothing_that_a_session_says_is_markup() -> None:
    evidence = {
        "facts": {HOSTILE: HOSTILE},
        "links": [{"label": "https://bank.example", "url": "https://evil.example/?a=1&b=2"}],
        "diff": f"-a\n+{HOSTILE}",
    }
    found = drawn(
        subject=HOSTILE, body=HOSTILE, evidence=evidence, task="t<!here>", tags=[HOSTILE],
        assignee=HOSTILE, schema={"enum": [HOSTILE, "b"]},
    )  # fmt: skip
    text = json.dumps(found)
    assert '"mrkdwn"' not in text
    assert "<" not in found["text"]
    assert ">" not in found["text"]
    assert "\\u202e" not in text
    kinds = {one["type"] for one in _objects(found["blocks"])}
    assert not kinds & {"broadcast", "user", "usergroup", "channel", "markdown", "mrkdwn", "emoji"}
    links = [one for one in _objects(found["blocks"]) if one["type"] == "link"]
    assert links == [{"type": "link", "url": "https://evil.example/?a=1&b=2"}]


def _objects(one: Any) -> Iterator[dict[str, Any]]:
    if isinstance(one, dict):
        if "type" in one:
            yield one
        for value in one.values():
            yield from _objects(value)
    elif isinstance(one, list):
        for value in one:
            yield from _objects(value)


def test_the_longest_wait_fits_and_says_what_was_cut() -> None:
    evidence = {
        "facts": {f"{n}{'f' * 60}": "v" * 500 for n in range(50)},
        "links": [{"label": "l" * 100, "url": f"https://e.example/{'u' * 900}"}] * 20,
        "diff": "+" + "d" * 30_000,
    }
    found = drawn(
        subject="s" * 200, body="b" * 200_000, evidence=evidence, tags=["t" * 64] * 20,
        answerers=[f"group:{'g' * 100}{n}" for n in range(40)], assignee="a" * 128,
        schema={"enum": ["c" * 200, "d" * 200]},
    )  # fmt: skip
    assert chars(found["blocks"]) <= MESSAGE_CHARS_MAX
    assert said(found).count(MORE) >= 3
    assert ids(found) == [PAGE]


def test_a_long_body_alone_leaves_the_buttons() -> None:
    found = drawn(body="b" * 20_000)
    assert MORE in said(found)
    assert f"{CHOICE}.0" in ids(found)


def test_lists_of_cards() -> None:
    card = card_of(wait(schema=CHOICES, subject=HOSTILE), NOW)
    cards = [card_of(wait(schema=CHOICES, id=f"{WAIT[:-2]}{n:02}"), NOW) for n in range(40)]
    for some in ([], [card], cards):
        pages = {one.wait_id: PAGE_URL for one in some}
        checked(message.home(some, pages=pages))
        found = message.inbox(some, pages=pages)
        checked(found)
        assert "<" not in found["text"]
    assert "25 more wait for you" in said(message.inbox(cards, pages={}))


def test_a_card_that_no_one_knows_is_closed() -> None:
    found = message.closed(HOSTILE)
    checked(found)
    assert buttons(found) == []
    assert "<" not in found["text"]


def test_the_table_of_bounds_finds_each_excess() -> None:
    fine = drawn()
    assert too_long({**fine, "text": ""})
    assert too_long({**fine, "blocks": fine["blocks"] * 20})
    button = {**buttons(fine)[0], "value": "v" * 2_001}
    assert too_long({**fine, "blocks": [{"type": "actions", "elements": [button]}]})
    header = {"type": "header", "text": {"type": "plain_text", "text": "h" * 151}}
    assert too_long({**fine, "blocks": [header]})


def test_yes_and_no_are_words() -> None:
    found = drawn(schema={"type": "boolean"})
    assert [one["text"]["text"] for one in buttons(found)][:2] == ["Yes", "No"]
