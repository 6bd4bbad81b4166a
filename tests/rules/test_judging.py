"""Rules held against waits: what counts as the same, what a rule may see, what it says when it fails."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import rules
from helmr.errors import BadFilter, UsageError
from helmr.models import WaitInfo
from helmr.wire import ids

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def wait(answer: Any, *, minutes: int = 5, **parts: Any) -> WaitInfo:
    """A wait for a refund that a person has answered."""
    facts = {
        "id": ids.new_id(ids.WAIT),
        "session_id": ids.new_id(ids.SESSION),
        "run_id": ids.new_id(ids.RUN),
        "task": "refund",
        "kind": "input",
        "stream": "refund",
        "subject": "Refund 12 EUR?",
        "status": "fulfilled",
        "opened_at": NOON,
        "resolved_at": NOON + timedelta(minutes=minutes),
        "resolved_by": {"type": "api_key", "on_behalf_of": "mia"},
        "mode": "person",
        "answer": answer,
    }
    return WaitInfo.model_validate({**facts, **parts})


def judged(rule: rules.Rule, *waits: WaitInfo) -> rules.BackTest:
    return rules.judge(rule, waits, since=NOON)


@pytest.mark.parametrize(
    ("said", "says", "same"),
    [
        ({"a": 1, "b": [1, {}]}, {"b": [1, {}], "a": 1}, True),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([True], [1], False),
        ("1", 1, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ("é", "e\u0301", False),
    ],
)
def test_answers_are_compared_as_json(said: Any, says: Any, same: bool) -> None:
    tried = judged(rules.rule("", says), wait(said))
    assert (tried.same, len(tried.differences)) == ((1, 0) if same else (0, 1))


def test_only_the_named_fields_count_where_some_are_named() -> None:
    held = rules.rule("", {"decision": "approve"}, compare=["decision"])
    tried = judged(
        held, wait({"decision": "approve", "note": "fine"}), wait({"note": "no"}), wait("yes")
    )
    assert (tried.same, len(tried.differences)) == (1, 2)


def test_a_rule_sees_a_wait_as_it_was_when_it_opened() -> None:
    seen: list[WaitInfo] = []

    def spy(one: WaitInfo) -> Any:
        seen.append(one)
        one.tags.append("changed")
        return one.answer

    asked = wait({"decision": "approve"}, batch_id="monday", tags=["small"])
    tried = judged(rules.Rule("spy", spy), asked)
    assert (tried.left_alone, tried.answered, tried.agreement) == (1, 0, None)
    assert tried.verdict() == "the rule answers none of these waits"
    (one,) = seen
    assert (one.status, one.mode, one.resolved_by, one.resolved_at) == ("pending", None, None, None)
    assert (one.answer, one.batch_id) == (None, None)
    assert asked.tags == ["small"]


def test_times_of_a_filter_count_from_the_opening() -> None:
    held = rules.rule("due<10m", True)
    soon = wait(True, deadline_at=NOON + timedelta(minutes=9))
    late = wait(True, deadline_at=NOON + timedelta(minutes=11))
    tried = judged(held, soon, late)
    assert (tried.same, tried.left_alone) == (1, 1)


def test_a_rule_that_fails_is_told_with_its_wait_and_the_others_go_on() -> None:
    class Verdict(BaseModel):
        decision: str

    def answers(one: WaitInfo) -> Any:
        match one.subject:
            case "raises":
                raise KeyError("amount")
            case "nan":
                return float("nan")
            case "odd":
                return object()
            case _:
                return Verdict(decision="approve")

    waits = [
        wait({"decision": "approve"}, subject=text) for text in ("raises", "nan", "odd", "fine")
    ]
    tried = judged(rules.Rule("answers", answers), *waits)
    assert tried.same == 1
    assert [one.wait_id for one in tried.failures] == [one.id for one in waits[:3]]
    assert tried.failures[0].error == "KeyError: 'amount'"
    assert all("not JSON" in one.error for one in tried.failures[1:])


def test_a_share_is_never_rounded_up_to_all() -> None:
    waits = [wait(True) for _ in range(2999)] + [wait(False, minutes=9)]
    tried = judged(rules.rule("", True), *waits)
    assert tried.verdict() == "2999 of 3000 answers as people gave them (99.9 %)"
    (one,) = tried.differences
    assert (one.wait_id, one.said, one.rule_says) == (waits[-1].id, False, True)
    assert one.said_by == "mia, said by key"
    assert one.wait_id in tried._repr_html_()


def test_what_cannot_be_read_is_counted_and_not_judged() -> None:
    tried = judged(rules.rule("", True), wait(None, problem="the key k1 is missing"))
    assert (tried.unreadable, tried.answered) == (1, 0)


# --- rules that are read --------------------------------------------------------------------------

PARTS = {"filter": "stream:refund", "answer": {"decision": "approve"}, "compare": ["decision"]}
TOML = 'filter = "stream:refund"\ncompare = ["decision"]\nanswer = {decision = "approve"}\n'
CODE = """
from pydantic import BaseModel

class Verdict(BaseModel):
    decision: "str"

def approve(wait):
    return Verdict(decision="approve") if wait.stream == "refund" else None

async def later(wait):
    return None
"""


@pytest.mark.parametrize(
    "given", [json.dumps(PARTS), "rule.json", "rule.toml", "own_rules:approve", "own.py:approve"]
)
def test_a_rule_is_read_from_text_file_or_function(tmp_path: Path, given: str) -> None:
    (tmp_path / "rule.json").write_text(json.dumps(PARTS))
    (tmp_path / "rule.toml").write_text(TOML)
    (tmp_path / "own_rules.py").write_text(CODE)
    (tmp_path / "own.py").write_text(CODE)
    held = rules.read_rule(
        given, folder=tmp_path, compare=() if ":a" not in given else ["decision"]
    )
    tried = judged(held, wait({"decision": "approve", "note": None}), wait(1, stream="other"))
    assert (tried.same, tried.left_alone, tried.differences) == (1, 1, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "not JSON"),
        ('{"filter": "", "filter": "x", "answer": 1}', "not JSON"),
        ("[1]", "is not a rule"),
        ('{"filter": "stream:a"}', "an answer other than null"),
        ('{"filter": 1, "answer": 1}', "needs a filter"),
        ('{"filter": "", "answer": 1, "then": 2}', "'then'"),
        ('{"filter": "", "answer": 1, "compare": "a"}', "list of field names"),
        ('{"filter": "is:mine", "answer": 1}', "can't use is:"),
        ("missing.json", "can't be read"),
        ("bad.toml", "can.t be read"),
        ("missing.py:f", "there is no file"),
        ("broken.py:f", "can't be imported: SyntaxError"),
        ("nowhere_at_all:f", "can't be imported: ModuleNotFoundError"),
        ("own.py:gone", "has no function gone"),
        ("own.py:later", "it is async"),
        ("own.py:", "is not a rule"),
        (":f", "is not a rule"),
        ("", "is not a rule"),
    ],
)
def test_what_is_no_rule_says_why(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text("= 1")
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("def f(:")
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        rules.read_rule(given, folder=tmp_path)


def test_a_filter_that_cannot_be_read_is_a_bad_filter() -> None:
    with pytest.raises(BadFilter):
        rules.rule("sream:refund", True)
