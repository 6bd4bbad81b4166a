"""What a wait may say is checked where the code says it (S-17, S-71, S-72, S-82)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from helmr import Attachment, escalation, streams
from helmr.errors import BadDuration, BadEscalation, SchemaMismatch, UsageError
from helmr.wait_details import UNSET, WaitOptions, asks, question_hash, recorded
from helmr.wait_options import details, property_names
from helmr.wire.schema import Codec, schema_digest


class Decision(BaseModel):
    ok: bool
    note: str = ""


CODEC: Codec[Any] = Codec(Decision, what="a wait")


def said(timeout_s: float | None = None, **options: Any) -> Any:
    return details(WaitOptions(**options), CODEC, timeout_s=timeout_s)  # type: ignore[typeddict-item]


def test_what_is_not_said_is_not_there():
    nothing = said()
    assert (nothing.priority, nothing.tags, nothing.escalation) == ("normal", (), ())
    assert nothing.on_decline is UNSET
    assert nothing.initial is None


def test_values_become_json():
    found = said(initial=Decision(ok=True), on_decline=Decision(ok=False), tags=["a", "b", "a"])
    assert found.initial == {"ok": True, "note": ""}
    assert found.on_decline == {"ok": False, "note": ""}
    assert found.tags == ("a", "b")


ONE_OF_EACH: dict[str, Any] = {
    "answerers": ["ada"],
    "not_by": ["ada"],
    "approvals": 2,
    "refusals": [{"ok": False}],
    "comments": ["note"],
    "signed": True,
    "deputies": False,
    "subject": "Ship?",
    "body": "It is green.",
    "initial": {"ok": True},
    "on_decline": Decision(ok=False),
    "priority": "high",
    "tags": ["a"],
    "assignee": "ada",
    "escalation": [escalation.remind("1h")],
    "facts": {"amount": 1},
    "links": ["https://example.com"],
    "diff": ("a", "b"),
    "attach": [Attachment(id="att_1", name="a", type="a/b", size=1, sha256="00")],
    "compare": False,
}


def test_no_option_is_taken_and_left_out() -> None:
    """What the code says of a wait is in its details, or is refused."""
    assert {*ONE_OF_EACH} == {*WaitOptions.__annotations__}
    plain = said()
    assert [name for name, one in ONE_OF_EACH.items() if said(**{name: one}) == plain] == []


@pytest.mark.parametrize(
    "options",
    [
        {"tags": "a"},
        {"tags": ["x" * 65]},
        {"tags": [str(n) for n in range(21)]},
        {"tags": ["two\nlines"]},
        {"priority": "soon"},
        {"assignee": "x" * 129},
        {"assignee": "two\nlines"},
    ],
)
def test_limits_are_kept(options: dict[str, Any]):
    with pytest.raises(UsageError):
        said(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"refusals": "no"}, "refusals is a list"),
        ({"refusals": {"decision": "no"}}, "refusals is a list"),
        ({"answerers": "ada"}, "answerers is a list"),
        ({"answerers": {"ada": 1}}, "answerers is a list"),
        ({"answerers": 7}, "answerers is a list"),
        ({"answerers": [7]}, "answerers lists int"),
        ({"not_by": "starter"}, "not_by is a list"),
        ({"answerers": ["groups:finance"]}, "'groups:finance' names no person or group"),
        ({"answerers": ["Group:finance"]}, "'Group:finance' names no person or group"),
        ({"not_by": ["team:x"]}, "'team:x' names no person or group"),
        ({"comments": "note"}, "comments is a list"),
        ({"comments": [1]}, "comments is a list"),
        ({"comments": ["reason"]}, "comments names 'reason', which the answer has not"),
        ({"approvals": "2"}, "approvals is a number"),
    ],
)
def test_natural_mistakes_about_who_answers_are_refused_with_what_to_do(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        said(**options)
    assert raised.value.hint or "number" in says
    with pytest.raises(UsageError, match=says):
        streams.input("checked", schema=Decision, **options)


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (Decision.model_json_schema(), {"ok", "note"}),
        ({"type": "boolean"}, set()),
        ({"anyOf": [Decision.model_json_schema(), {"type": "null"}]}, {"ok", "note"}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {}}}}}, {"a"}),
        ({"$ref": "#/$defs/no"}, None),
        ({"type": "object"}, None),
        ({"properties": {"a": {}}, "additionalProperties": True}, None),
        ({}, None),
        (True, None),
    ],
)
def test_the_fields_that_an_answer_may_have_are_those_of_its_schema(
    schema: Any, names: set[str] | None
) -> None:
    assert property_names(schema) == names


def test_comments_are_fields_of_the_answer_and_of_a_wait_of_its_own_those_it_has() -> None:
    assert said(comments=("note",)).comments == ("note",)
    stream = streams.input("with-comments", schema=Decision, comments=["note"])
    other: Codec[Any] = Codec(bool, what="a wait")
    assert list(stream._options(WaitOptions(), other)["comments"]) == []
    assert list(stream._options(WaitOptions(), stream.codec)["comments"]) == ["note"]


def test_a_decline_must_be_an_answer():
    with pytest.raises(SchemaMismatch):
        said(on_decline={"ok": "perhaps"})


def test_an_escalation_is_data():
    escalation_steps = [
        escalation.remind("1h"),
        escalation.assign("2h", to="grace", from_="assigned"),
        escalation.default("3h", {"ok": False}),
    ]
    assert said(escalation=escalation_steps, timeout_s=86_400).escalation == (
        {"do": "remind", "after_s": 3600.0, "from": "opened"},
        {"do": "assign", "after_s": 7200.0, "from": "assigned", "to": "grace"},
        {
            "do": "default",
            "after_s": 10_800.0,
            "from": "opened",
            "value": {"ok": False, "note": ""},
        },
    )


def test_an_escalation_that_can_not_be_run_is_refused():
    late = [escalation.default("2h", {"ok": True})]
    with pytest.raises(BadEscalation, match="timeout"):
        said(escalation=late, timeout_s=7200)
    with pytest.raises(BadEscalation, match="one default"):
        said(escalation=late * 2)
    with pytest.raises(BadEscalation, match="at most 20"):
        said(escalation=[escalation.remind("1h")] * 21)
    with pytest.raises(BadEscalation):
        escalation.assign("1h", to="")
    with pytest.raises(BadDuration):
        escalation.remind("0s")
    with pytest.raises(SchemaMismatch):
        said(escalation=[escalation.default("1h", "no")])


def test_a_wait_for_signed_answers_records_the_schema_that_they_fit() -> None:
    assert said(signed=True).schema == CODEC.json_schema()
    assert said().schema is None
    assert details(WaitOptions(signed=True), CODEC, schema={"const": 1}).schema == {"const": 1}
    with pytest.raises(UsageError):
        said(signed="yes")


def test_a_question_is_known_by_what_its_hash_names_and_by_nothing_else() -> None:
    asked = said(signed=True, subject="Refund?", body="A lens.", not_by=["starter", "eve"])
    digest = schema_digest(asked.schema)
    hashed = question_hash("refund", "refunds", "c-1", asked, digest)
    opened = {**recorded(asked), "task": "refund", "stream": "refunds", "correlation_id": "c-1"}
    opened["kind"] = "input"
    assert asks(opened, hashed)
    assert asks({**opened, "not_by": ["starter", "eve", "ada"]}, hashed), "who starter was"
    for changed in (
        {"task": "other"},
        {"stream": "others"},
        {"correlation_id": None},
        {"subject": "Refund all?"},
        {"body": None},
        {"schema": True},
        {"not_by": ["starter"]},
        {"not_by": ["eve", "starter"]},
        {"answerers": ["ada"]},
        {"approvals": 2},
        {"refusals": [False]},
        {"signed": False},
    ):
        assert not asks({**opened, **changed}, hashed), changed
