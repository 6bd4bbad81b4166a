"""How a wait is asked of a client, and what its response means."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from helmr.models import TaskInfo, WaitInfo
from helmr.wire.roles import Owner
from helmr_runtime.features.mcp import runs
from helmr_runtime.features.mcp.runs import FormAnswer, Unanswered, form_schema, meaning_of
from helmr_runtime.features.mcp.tools import OWN_TOOLS, arguments_schema, payload_of, tool_name


def wait_for(shape: Any, **more: Any) -> WaitInfo:
    """A pending wait whose answer has that type."""
    return WaitInfo.model_validate(
        {
            "id": "wait_00000000000000000000000000",
            "session_id": "ses_1",
            "run_id": "run_1",
            "task": "t",
            "kind": "input",
            "stream": "s",
            "status": "pending",
            "opened_at": datetime.now(UTC),
            "schema": TypeAdapter(shape).json_schema(),
            **more,
        }
    )


class Everything(BaseModel):
    """All that a form shows."""

    text: Annotated[str, Field(max_length=20, description="A few words")]
    count: Annotated[int, Field(ge=1, le=5)] = 2
    share: float | None = None
    sure: bool = True
    day: date | None = None
    way: Literal["left", "right"] = "left"
    level: Literal[1, 2] = 1
    needed: str | None


def test_an_object_of_plain_values_is_a_form() -> None:
    schema = form_schema(wait_for(Everything, initial={"text": "hi", "level": 2}))
    assert schema is not None
    assert schema["type"] == "object"
    assert schema["required"] == ["text"]
    told = schema["properties"]
    assert told["text"]["type"] == "string"
    assert told["text"]["maxLength"] == 20
    assert told["text"]["description"] == "A few words"
    assert told["text"]["default"] == "hi"
    assert {told["count"][name] for name in ("minimum", "maximum", "default")} == {1, 2, 5}
    assert told["sure"]["default"] is True
    assert (told["day"]["type"], told["day"]["format"]) == ("string", "date")
    assert told["way"]["enum"] == ["left", "right"]
    assert (told["level"]["type"], told["level"]["enum"]) == ("string", ["1", "2"])
    assert told["level"]["default"] == "2"


@pytest.mark.parametrize(
    "restriction",
    [
        {"answerers": ["group:finance"]},
        {"not_by": ["ada"]},
        {"approvals": 2},
        {"refusals": [False]},
    ],
)
def test_a_wait_that_says_who_may_answer_is_no_form_and_no_response_answers_it(
    restriction: dict[str, Any],
) -> None:
    wait = wait_for(bool, can_decline=True, on_decline=False, **restriction)
    assert form_schema(wait) is None
    for action in ("accept", "decline"):
        response = {"action": action, "content": {"value": True}}
        assert isinstance(meaning_of(wait, response), Unanswered)


@pytest.mark.parametrize(
    ("shape", "content", "answer"),
    [
        (str, {"value": "x"}, "x"),
        (bool, {"value": False}, False),
        (int | None, {}, None),
        (int | None, {"value": None}, None),
        (int | None, {"value": 3}, 3),
        (Literal["a", "b"], {"value": "b"}, "b"),
        (Literal[1, 2], {"value": "2"}, 2),
        (Everything, {"text": "t"}, {"text": "t", "needed": None}),
        (
            Everything,
            {"text": "t", "level": "2", "share": None, "count": None, "needed": "n"},
            {"text": "t", "level": 2, "needed": "n", "share": None},
        ),
        (Everything, {"text": "t", "other": 1}, {"text": "t", "needed": None, "other": 1}),
    ],
)
def test_a_forms_content_is_the_answer(shape: Any, content: dict[str, Any], answer: Any) -> None:
    found = meaning_of(wait_for(shape), {"action": "accept", "content": content})
    assert found == FormAnswer(answer)


class Nested(BaseModel):
    """What no form shows."""

    inner: Everything


class Hidden(BaseModel):
    """What no client should see."""

    name: str
    key: SecretStr


@pytest.mark.parametrize("shape", [Nested, Hidden, list[int], dict[str, Any], Any, SecretStr])
def test_secrets_and_what_is_nested_are_no_form(shape: Any) -> None:
    wait = wait_for(shape)
    assert form_schema(wait) is None
    assert meaning_of(wait, {"action": "accept", "content": {"key": "x"}}) == Unanswered("")


def test_a_decline_answers_where_the_wait_says_with_what() -> None:
    declining = wait_for(bool, can_decline=True, on_decline=False)
    assert meaning_of(declining, {"action": "decline"}) == FormAnswer(False)
    assert meaning_of(wait_for(bool), {"action": "decline"}) == Unanswered("was declined")
    assert meaning_of(declining, {"action": "cancel"}) == Unanswered("was snoozed")
    for garbage in ({}, {"action": 1}, {"action": "no"}):
        assert isinstance(meaning_of(declining, garbage), Unanswered)


def test_to_open_the_page_is_no_answer() -> None:
    for shape in (str | None, Everything):
        assert meaning_of(wait_for(shape), {"action": "accept"}) == Unanswered("")


def test_a_long_question_is_cut() -> None:
    wait = wait_for(bool, subject="?", body="x" * 20_000)
    message = runs.message_of(wait)
    assert len(message) == runs.MESSAGE_CHARACTERS_MAX
    assert message.endswith("…")


# --- tools ------------------------------------------------------------------------------------------


class Node(BaseModel):
    """Refers to itself."""

    children: list[Node] = []


@pytest.mark.parametrize(
    ("shape", "payload"),
    [(Everything, {"text": "t"}), (Node, {"children": []}), (Any, {"a": 1}), (dict[str, int], {})],
)
def test_an_object_is_a_tools_arguments(shape: Any, payload: Any) -> None:
    schema = TypeAdapter(shape).json_schema()
    assert arguments_schema(schema or True)["type"] == "object"
    task = TaskInfo(id="t", module="m", payload_schema=schema or True)
    assert payload_of(task, payload) == payload


@pytest.mark.parametrize("shape", [str, list[Node], int | None, Everything | Node])
def test_what_is_no_object_is_one_argument(shape: Any) -> None:
    schema = TypeAdapter(shape).json_schema()
    told = arguments_schema(schema)
    assert list(told["properties"]) == ["payload"]
    if "$defs" in schema:
        assert told["$defs"] == schema["$defs"], "references point to the root"
    task = TaskInfo(id="t", module="m", payload_schema=schema)
    assert payload_of(task, {"payload": "x"}) == "x"


def test_every_task_has_a_name_that_clients_take_and_no_other_has() -> None:
    ids = ["review", "a.b", "a/b", "a b", "ä", "helmr_result", "x" * 100, "x" * 101]
    names = [tool_name(task_id) for task_id in ids]
    assert len(set(names)) == len(names)
    assert names[0] == "review"
    assert all(name.isascii() and len(name) <= 64 for name in names)
    assert not any(name.startswith("helmr_") for name in names)


def test_tools_reach_what_every_caller_with_the_role_reaches() -> None:
    assert {row.owner for tool in OWN_TOOLS for row in tool.rows} == {Owner.ALL}
