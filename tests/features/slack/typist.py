"""Someone who fills in the same form on the answer page and in Slack, by what is drawn there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from helmr.features.slack.entered import INCLUDE, VALUE, VARIANT, WAY, block_id
from helmr.features.slack.modal import answer_view, redrawn
from helmr.features.slack.press import SlackPress, press_of
from helmr.models import WaitInfo
from helmr.person.card import Card
from helmr.person.forms import Field, Kind
from helmr_runtime.http.answer_page.fields import JSON, TEXT, PageForm, Question
from tests.features.slack.bounds import too_long

NOW = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
WAIT = "wait_01m8arhek9e6sv8zcq3ksdjs3b"


def wait(**parts: Any) -> WaitInfo:
    """A wait in full, as the gateway gives it."""
    given = {
        "id": WAIT,
        "session_id": "ses_01m8arhek9e6sv8zcq3ksdjs3b",
        "run_id": "run_01m8arhek9e6sv8zcq3ksdjs3b",
        "task": "refund",
        "kind": "input",
        "stream": "approval",
        "subject": "Refund 120 EUR?",
        "status": "pending",
        "opened_at": NOW,
        **parts,
    }
    return WaitInfo.model_validate(given)


def checked(drawn: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message or view that Slack would take, as far as its SDK and our table of bounds know."""
    assert too_long(drawn) == []
    if "type" in drawn:
        view = View(**drawn)
        assert view.to_dict()["blocks"] == list(drawn["blocks"])
    blocks = Block.parse_all(list(drawn["blocks"]))
    assert None not in blocks
    assert [one.to_dict() for one in blocks] == list(drawn["blocks"])
    return drawn


@dataclass
class Typist:
    """Decides once what goes into each field; the same on both faces."""

    rng: random.Random
    wishes: dict[str, Any] = field(default_factory=dict)

    def decide(self, asked: Question) -> Iterator[tuple[str, list[str]]]:
        """Yield the page's values, and remember the wish for each block."""
        one, rng = asked.field, self.rng
        match asked.control:
            case "group":
                if one.may_be_left_out and not self._wish(one, INCLUDE, [0, 0, None]):
                    return
                if one.may_be_left_out:
                    yield asked.include_name, ["1"]
                for inner in asked.inner:
                    yield from self.decide(inner)
            case "union" if one.takes_anything:
                text, way = rng.choice(["", "5", '{"a": 1}', "hello"]), rng.randrange(2)
                self.wishes |= {block_id(one): text, block_id(one, WAY): way}
                yield asked.variant_name, [(TEXT, JSON)[way]]
                yield asked.inner[way].name, [text]
            case "union":
                place = self._wish(one, VARIANT, [*range(len(asked.inner)), None])
                if place is not None:
                    yield asked.variant_name, [str(place[0] if isinstance(place, list) else place)]
                    yield from self.decide(asked.inner[place])
            case "options" | "select" if one.kind is Kind.MULTI:
                places = sorted(
                    rng.sample(range(len(one.choices)), rng.randrange(3) % len(one.choices))
                )
                self.wishes[block_id(one)] = places
                yield asked.name, [one.choices[place].text for place in places]
            case "options" | "select":
                place = self._wish(one, VALUE, [*range(len(one.choices)), None])
                if place is not None:
                    yield asked.name, [one.choices[place].text]
            case "const" | "rows":
                return
            case _:
                text = self.wishes[block_id(one)] = written(one, rng)
                yield asked.name, [text]

    def _wish(self, one: Field, action: str, among: list[Any]) -> Any:
        found = self.wishes[block_id(one, action)] = self.rng.choice(among)
        return found if action != INCLUDE else found is not None


def written(one: Field, rng: random.Random) -> str:
    """A text for a field, in the spelling of Slack's picker if it has one."""
    match one.kind:
        case Kind.DATE:
            return rng.choice(["", "2026-03-04"])
        case Kind.TIME:
            return rng.choice(["", "14:30"])
        case Kind.DATETIME:
            return rng.choice(["", "2026-03-04T10:20:00Z"])
        case Kind.INTEGER:
            return rng.choice(["", "5", "-7", "100000"])
        case Kind.NUMBER:
            return rng.choice(["", "5", "-7.25", "1000.5"])
        case Kind.DURATION:
            return rng.choice(["", "1h30m", "soon"])
        case Kind.LINES:
            return rng.choice(["", "1\n2", "a\n\n b "])
        case Kind.JSON:
            return rng.choice(["", '{"a": [1, "<!channel>"]}', "not json"])
        case _:
            texts = ["", " ", "a", " spaced ", "two\nlines", "x@example.com", "<!channel> & <@U1>"]
            return rng.choice([text for text in texts if len(text) <= (one.length_max or 100)])


class Slack:
    """What someone sees of a view: blocks that hold what they entered, drawn again as Slack asks for it."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.view: Mapping[str, Any] = checked(answer_view(card, channel="C1", message_ts="1.1"))

    def fill(self, wishes: Mapping[str, Any]) -> None:
        """Enter what is wished into each block, until no further block appears."""
        for _ in range(12):
            ids = [one.get("block_id") for one in self.view["blocks"]]
            self.view = checked(redrawn(self.card, {**self.view, "state": self.state(wishes)}))
            if [one.get("block_id") for one in self.view["blocks"]] == ids:
                return
        raise AssertionError("the view never came to rest")

    def state(self, wishes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The state that Slack sends: what was entered, else what the view began with."""
        values: dict[str, Any] = {}
        for block in self.inputs():
            element, key = block["element"], block["block_id"]
            began = entered(element)
            wished = (
                began if wishes is None or key not in wishes else as_entered(element, wishes[key])
            )
            values[key] = {element["action_id"]: {"type": element["type"], **wished}}
        return {"values": values}

    def inputs(self) -> list[Mapping[str, Any]]:
        return [one for one in self.view["blocks"] if one["type"] == "input"]

    def press(self, wishes: Mapping[str, Any] | None = None) -> SlackPress:
        """Press the button that sends."""
        assert self.view["submit"]
        found = press_of(submission({**self.view, "state": self.state(wishes)}))
        assert found is not None
        return found


def submission(view: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The payload of a view that was sent."""
    return {
        "type": "view_submission",
        "api_app_id": "A1",
        "team": {"id": "T1", "domain": "acme"},
        "user": {"id": "U1", "team_id": "T1", "username": "ada"},
        "trigger_id": "1.2.3",
        "view": {"id": "V1", "hash": "1.abc", **view},
        **more,
    }


def pressed_button(button: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The payload of a button that was pressed on a message."""
    action = {"type": "button", "block_id": "helmr.actions", "action_ts": "1764000000.000001"}
    return {
        "type": "block_actions",
        "api_app_id": "A1",
        "team": {"id": "T1", "domain": "acme"},
        "user": {"id": "U1", "team_id": "T1", "username": "ada"},
        "container": {"type": "message", "message_ts": "1763999999.000100", "channel_id": "C1"},
        "trigger_id": "1.2.3",
        "actions": [{**action, "action_id": button["action_id"], "value": button.get("value")}],
        **more,
    }


_SELECTS = ("radio_buttons", "static_select")
_SEVERAL = ("checkboxes", "multi_static_select")


def options_of(element: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All options of an element, also those in groups."""
    groups = element.get("option_groups") or [{"options": element.get("options", [])}]
    return [option for group in groups for option in group["options"]]


def as_entered(element: Mapping[str, Any], wish: Any) -> dict[str, Any]:
    """The state of a control into which this was entered."""
    kind = element["type"]
    if kind in _SELECTS:
        return {"selected_option": None if wish is None else options_of(element)[wish]}
    if kind in _SEVERAL:
        places = [] if wish is None else wish if isinstance(wish, list) else [wish]
        return {"selected_options": [options_of(element)[place] for place in places]}
    if kind == "datetimepicker":
        at = datetime.fromisoformat(wish) if wish else None
        return {"selected_date_time": None if at is None else int(at.timestamp())}
    name = {"datepicker": "selected_date", "timepicker": "selected_time"}.get(kind, "value")
    return {name: wish or None}


def entered(element: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a control that no one has touched."""
    kind = element["type"]
    if kind in _SELECTS:
        return {"selected_option": element.get("initial_option")}
    if kind in _SEVERAL:
        return {"selected_options": element.get("initial_options", [])}
    if kind == "datetimepicker":
        return {"selected_date_time": element.get("initial_date_time")}
    if kind in ("datepicker", "timepicker"):
        name = kind.removesuffix("picker")
        return {f"selected_{name}": element.get(f"initial_{name}")}
    return {"value": element.get("initial_value")}


def is_empty(state: Mapping[str, Any]) -> bool:
    """True if a control holds nothing."""
    return all(not value for name, value in state.items() if name != "type")


def page_values(typist: Typist, form: PageForm) -> dict[str, list[str]]:
    """The values that the page's form sends."""
    return dict(typist.decide(form.root))
