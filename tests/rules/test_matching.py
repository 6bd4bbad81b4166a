"""One matcher and one form of file for the gate's rules and for those that are held against the past."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr import rules
from helmr.approvals import approval_schema
from helmr.client.profiles import parse_toml
from helmr.errors import UsageError
from helmr.gate import CALL_TASK, FLOOD, GatedCall
from helmr.gate.claude_code import answer_key
from helmr.gate.tasks import asked, asked_of_flood
from helmr.matching import DeclaredRules, read_rules, rules_of
from helmr.models import WaitInfo
from tests.budget import examples
from tests.rules.test_judging import NOON, wait

GATE = """
[[gate.rule]]
name = "looks"
tool = "Bash"
matches = {command = ["ls", "ls *"]}
action = "allow"

[[gate.rule]]
name = "pushes"
client = "codex"
matches = {command = "git push*"}
action = "ask"

[[gate.rule]]
name = "shop"
folder = "/srv/shop"
action = "deny"
"""
APPROVED, DECLINED = {"decision": "approve"}, {"decision": "decline"}


def call(command: str, *, client: str = "claude-code", folder: str = "/srv/shop/src") -> GatedCall:
    return GatedCall(client, "a", "Bash", {"command": command}, "toolu_1", folder)


def about(one: GatedCall, answer: Any, **parts: Any) -> WaitInfo:
    """The wait about an agent's call, as the gate asks it, that a person has answered."""
    shown = asked(one)
    facts = {
        "task": CALL_TASK,
        "stream": "decisions",
        "subject": shown.subject,
        "schema": shown.schema,
        "initial": shown.initial,
        "tags": ["gate"],
    }
    return wait(answer, **{**facts, **parts})


def held(rule: rules.Rule, *answered: tuple[GatedCall, Any]) -> rules.BackTest:
    """The rule held against what people have said to these calls."""
    waits = [about(one, answer) for one, answer in answered]
    calls = {found.id: one for found, (one, _) in zip(waits, answered, strict=True)}
    return rules.judge(rule, waits, since=NOON, calls=calls)


def declared(**parts: Any) -> rules.Rule:
    return rules.read_rule(json.dumps(parts))


def test_the_gate_and_the_test_read_the_same_file_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "helmr.toml").write_text('[retention]\nclosed_after = "90d"\n' + GATE)
    read = rules.read_rule("helmr.toml", folder=tmp_path)
    assert read.answer == read_rules(parse_toml(GATE.encode(), "x")["gate"], "helmr.toml")
    several = GATE.replace("gate.rule", "rule")
    (tmp_path / "own.toml").write_text(several)
    own = rules.read_rule("own.toml", folder=tmp_path)
    assert own.answer == read.answer


def test_actions_are_held_against_the_decisions_that_agents_have_got(tmp_path: Path) -> None:
    (tmp_path / "helmr.toml").write_text(GATE)
    rule = rules.read_rule("helmr.toml", folder=tmp_path)
    tried = held(
        rule,
        (call("ls"), APPROVED),
        (call("ls -l"), {**APPROVED, "arguments": {"command": "ls"}}),
        (call("ls x"), {**DECLINED, "reason": "no"}),
        (call("git push", client="codex"), APPROVED),  # it asks
        (call("git push"), DECLINED),
        (call("make"), APPROVED),
        (call("make", folder="/srv/ada"), APPROVED),  # none matches
    )
    assert (tried.same, tried.left_alone, tried.failures) == (3, 2, [])
    assert {(one.rule, one.rule_says, one.said["decision"]) for one in tried.differences} == {
        ("looks", "allow", "decline"),
        ("shop", "deny", "approve"),
    }


def test_what_an_agent_asks_by_itself_counts_as_it_was_decided() -> None:
    question = {"question": "Which?", "options": [{"label": "one"}, {"label": "two"}]}
    one = GatedCall("claude-code", "a", "AskUserQuestion", {"questions": [question]}, "toolu_1")
    rule = declared(tool="AskUserQuestion", action="allow")
    tried = held(rule, (one, {answer_key(0): "two"}), (one, {"reason": "neither"}))
    assert (tried.same, tried.differences[0].said) == (1, {"reason": "neither"})


def test_an_action_says_nothing_of_what_is_no_agents_call() -> None:
    flood = asked_of_flood({FLOOD: {"key": "k", "per_minute": 120}})
    line = wait({"seen": True}, task=CALL_TASK, schema=flood.schema, initial=flood.initial)
    refund = wait(APPROVED)
    tried = rules.judge(declared(action="deny"), [line, refund], since=NOON)
    assert (tried.left_alone, tried.answered, tried.failures) == (2, 0, [])


def test_an_answer_can_be_for_a_tool_a_task_asks_leave_for_and_for_values_of_a_form() -> None:
    tool = wait(
        APPROVED,
        schema=approval_schema("refund"),
        initial={"arguments": {"cents": 900, "to": "ada"}},
    )
    other = wait(
        APPROVED,
        schema=approval_schema("publish"),
        initial={"arguments": {"cents": 900, "to": "ada"}},
    )
    form = wait(APPROVED, schema={"type": "object"}, initial={"cents": 900})
    bare = wait(APPROVED)
    waits = [tool, other, form, bare]

    def same(**parts: Any) -> int:
        return rules.judge(declared(answer=APPROVED, **parts), waits, since=NOON).same

    assert same(tool="refund") == 1
    assert same(matches={"cents": "9??"}) == 3
    assert same(matches={"cents": "9??"}, tool="?*") == 2
    assert same(matches={"cents": "9??"}, tool="refund", filter="-stream:refund") == 0
    assert same(filter="stream:refund") == 4
    assert same(client="claude-code") == 0


def test_filter_and_call_must_both_hold() -> None:
    rule = declared(tool="Bash", client="claude*", filter="tag:gate", answer=APPROVED)
    one = call("make")
    tagged, plain = about(one, APPROVED), about(one, APPROVED, tags=[])
    tried = rules.judge(rule, [tagged, plain], since=NOON, calls={tagged.id: one, plain.id: one})
    assert (tried.same, tried.left_alone) == (1, 1)


def test_an_answer_takes_a_single_command_as_allow_does() -> None:
    rule = declared(matches={"command": "git status*"}, answer=APPROVED)
    tried = held(rule, (call("git status"), APPROVED), (call("git status; rm -r ."), DECLINED))
    assert (tried.same, tried.left_alone) == (1, 1)


COMMANDS = st.sampled_from(["ls", "ls -l", "ls; rm x", "git push", "make && git push", ""])
FOLDERS = st.sampled_from(["", "/srv/shop", "/srv/shop/src", "/srv/shopping"])


@given(
    command=COMMANDS,
    folder=FOLDERS,
    client=st.sampled_from(["claude-code", "codex", "mcp"]),
    answer=st.sampled_from([APPROVED, DECLINED]),
)
@settings(max_examples=examples(60))
def test_the_test_says_what_the_gate_would_have_done(
    command: str, folder: str, client: str, answer: Any
) -> None:
    gate = read_rules(parse_toml(GATE.encode(), "x")["gate"], "helmr.toml")
    one = call(command, client=client, folder=folder)
    decides = gate.first(one)
    tried = held(rules.Rule("gate", gate), (one, answer))
    if decides is None or decides.action.value == "ask":
        assert tried.left_alone == 1
    else:
        agrees = (decides.action.value == "allow") == (answer is APPROVED)
        assert (tried.same, len(tried.differences)) == ((1, 0) if agrees else (0, 1))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"action": "allow", "answer": 1, "tool": "x"}, "an action and an answer"),
        ({"answer": 1}, "needs a filter, or another of tool"),
        ({"filter": "x", "answer": 1, "reason": "no"}, "reason goes with an action"),
        ({"filter": "x", "answer": 1, "approvals": 2}, "approvals goes with an action"),
        ({"tool": "x", "action": "allow", "compare": ["a"]}, "compare goes with an answer"),
        ({"tool": "x", "action": "permit"}, "needs an action"),
        ({"rule": [], "filter": "x"}, "'filter' beside its rules"),
        ({"rule": {}}, "are tables"),
        ({"rule": [{"tool": "x"}]}, "rule 1 needs an answer other than null, or an action"),
        ({"gate": {"rule": [{"tool": "x", "action": "ask", "filter": "y"}]}}, "has 'filter'"),
        ({"gate": {"rule": [{"tool": "x", "answer": 1}]}}, "has 'answer'"),
    ],
)
def test_what_is_no_rule_of_either_kind_says_why(parts: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rules.read_rule(json.dumps(parts))


def test_a_rule_is_called_by_its_name_or_by_what_it_says() -> None:
    named = {"name": "small", "filter": "tag:small", "answer": APPROVED}
    assert declared(**named).name == "small"
    assert declared(tool="Bash", action="deny").name == '{"tool": "Bash"} → deny'
    several = rules_of({"rule": [named, {"tool": "Bash", "action": "deny"}]}, "x")
    assert [one.name for one in several.rules] == ["small", "rule 2"]
    assert isinstance(several, DeclaredRules)
