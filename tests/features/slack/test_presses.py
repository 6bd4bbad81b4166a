"""A press is read from what Slack sends, and is one operation however often it is sent."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from helmr.features.slack.entered import INCLUDE
from helmr.features.slack.message import ANSWER, CHOICE, PAGE, message
from helmr.features.slack.press import PressKind, operation_id, press_of
from helmr.features.slack.reading import answer_of, errors_response
from helmr.person.card import card_of, form_for
from helmr.wire import ids
from tests.features.slack.typist import NOW, WAIT, Slack, pressed_button, submission, wait

SCHEMA = {"enum": ["approve", "reject"]}
OBJECT = {
    "type": "object",
    "properties": {"amount": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["amount"],
}


def button(place: int = 0) -> dict[str, Any]:
    drawn = message(card_of(wait(schema=SCHEMA), NOW), page="https://helmr.example.com")
    found: dict[str, Any] = drawn["blocks"][-1]["elements"][place]
    return found


def test_the_same_press_is_the_same_operation() -> None:
    press = press_of(pressed_button(button()))
    again = press_of(pressed_button(button(), trigger_id="9.9.9"))
    assert press is not None
    assert again is not None
    assert operation_id(press) == operation_id(again)
    assert ids.check_id(operation_id(press), ids.OPERATION)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"api_app_id": "A2"}, id="app"),
        pytest.param({"team": {"id": "T2"}}, id="workspace"),
        pytest.param({"user": {"id": "U2", "team_id": "T1"}}, id="user"),
        pytest.param({"user": {"id": "U1", "team_id": "T2"}}, id="user-workspace"),
        pytest.param({"container": {"message_ts": "2.2", "channel_id": "C1"}}, id="message"),
        pytest.param(
            {"container": {"message_ts": "1763999999.000100", "channel_id": "C2"}}, id="channel"
        ),
        pytest.param(
            {"actions": [{**pressed_button(button())["actions"][0], "action_ts": "1.5"}]}, id="time"
        ),
    ],
)
def test_another_press_is_another_operation(change: dict[str, Any]) -> None:
    press, other = press_of(pressed_button(button())), press_of(pressed_button(button(), **change))
    assert press is not None
    assert other is not None
    assert operation_id(press) != operation_id(other)


def test_a_view_is_sent_once_whatever_was_entered() -> None:
    slack = Slack(card_of(wait(schema=OBJECT), NOW))
    first = press_of(submission({**slack.view, "state": slack.state()}))
    other = press_of(submission({**slack.view, "id": "V2", "state": slack.state()}))
    again = press_of(submission({**slack.view, "hash": "2.def", "state": {"values": {}}}))
    assert first is not None
    assert other is not None
    assert again is not None
    assert operation_id(first) == operation_id(again) != operation_id(other)
    assert (first.channel, first.message_ts) == ("C1", "1.1")


def test_a_form_that_has_changed_is_asked_again() -> None:
    press = press_of(pressed_button(button()))
    assert press is not None
    assert answer_of(press, form_for(wait(schema={"enum": ["reject", "approve"]}))).is_stale
    assert not answer_of(press, form_for(wait(schema=SCHEMA))).is_stale


def test_a_choice_that_was_never_offered_answers_nothing() -> None:
    value = button()["value"].replace('"choice": 0', '"choice": 7')
    press = press_of(pressed_button({"action_id": f"{CHOICE}.7", "value": value}))
    assert press is not None
    found = answer_of(press, form_for(wait(schema=SCHEMA)))
    assert (found.is_stale, found.data) == (True, None)


def test_problems_stand_at_their_blocks() -> None:
    slack = Slack(card_of(wait(schema=OBJECT), NOW))
    found = answer_of(slack.press(), form_for(wait(schema=OBJECT)))
    amount = slack.inputs()[0]
    assert errors_response(found.errors) == {
        "response_action": "errors",
        "errors": {amount["block_id"]: "Please fill this in."},
    }
    assert amount["label"]["text"] == "Amount"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({}, id="empty"),
        pytest.param({"type": "shortcut"}, id="shortcut"),
        pytest.param(pressed_button({"action_id": PAGE, "value": PAGE}), id="page"),
        pytest.param(pressed_button({"action_id": "other", "value": "{}"}), id="foreign"),
        pytest.param(pressed_button({"action_id": ANSWER, "value": "not json"}), id="no-json"),
        pytest.param(pressed_button({"action_id": ANSWER, "value": "[" * 2_000}), id="nested"),
        pytest.param(pressed_button({"action_id": ANSWER, "value": '{"wait": 5}'}), id="no-text"),
        pytest.param(
            pressed_button({"action_id": f"{CHOICE}.1", "value": button()["value"]}), id="swapped"
        ),
        pytest.param(pressed_button(button(), user={}), id="no-user"),
        pytest.param(pressed_button(button(), team=None), id="no-team"),
        pytest.param(pressed_button(button(), actions=[]), id="no-action"),
        pytest.param(pressed_button({"action_id": INCLUDE, "value": "0"}), id="no-view"),
        pytest.param(
            submission({"callback_id": "other", "private_metadata": "{}"}), id="other-view"
        ),
    ],
)
def test_what_helmr_did_not_draw_is_no_press(payload: dict[str, Any]) -> None:
    assert press_of(payload) is None


def test_an_app_of_a_whole_organization_has_no_team() -> None:
    press = press_of(pressed_button(button(), team=None, enterprise={"id": "E1"}))
    assert press is not None
    assert (press.workspace, press.user_workspace) == ("E1", "T1")


def test_a_button_opens_the_form() -> None:
    drawn = message(card_of(wait(schema=OBJECT), NOW))
    press = press_of(pressed_button(drawn["blocks"][-1]["elements"][0]))
    assert press is not None
    assert (press.kind, press.wait_id, press.trigger_id) == (PressKind.OPEN, WAIT, "1.2.3")


def test_damaged_payloads_are_read_or_refused_and_raise_nothing() -> None:
    rng = random.Random(7)
    slack = Slack(card_of(wait(schema=OBJECT), NOW))
    whole = [
        submission({**slack.view, "state": slack.state()}),
        pressed_button(button()),
    ]
    read = 0
    for _ in range(3_000):
        payload = copy.deepcopy(rng.choice(whole))
        for _ in range(rng.randint(1, 3)):
            damage(payload, rng)
        press = press_of(payload)
        if press is not None:
            read += 1
            answer_of(press, form_for(wait(schema=rng.choice([SCHEMA, OBJECT]))))
            assert ids.check_id(operation_id(press), ids.OPERATION)
    assert 100 < read < 2_900


def damage(payload: dict[str, Any], rng: random.Random) -> None:
    """Put something else in one place of it."""
    holder, key = rng.choice(list(places(payload)))
    holder[key] = rng.choice([None, 5, "", "x", [], {}, [None], {"value": 3}, True, "9" * 5_000])


def places(one: Any) -> Iterator[tuple[Any, Any]]:
    inside = (
        one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
    )
    for key, value in list(inside):
        yield one, key
        yield from places(value)
