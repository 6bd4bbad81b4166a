"""The copy of the rules that an agent's machine keeps: whole, and good for no more than a question."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helmr.gate import GateAction
from helmr.gate.claude_code import GateVerdict
from helmr.gate.rules_copy import by_copy, decode_rules, encode_rules
from helmr.matching import STARTER_RULES, DeclaredRule, DeclaredRules

EVERY_KEY = DeclaredRule(
    "every key",
    GateAction.ASK,
    ("Bash", "mcp__*"),
    client="claude*",
    folder="/srv/shop",
    matches={"command": ("git push*", ""), "@readOnlyHint": ("true",)},
    reason="ü 🙂",
    restriction={
        "answerers": ["person:ada", "group:ops"],
        "not_by": ["person:grace"],
        "approvals": 2,
        "signed": True,
    },
)


@pytest.mark.parametrize("rules", [STARTER_RULES, (EVERY_KEY,), ()], ids=["starter", "all", "none"])
def test_a_copy_has_each_rule_whole(rules: tuple[DeclaredRule, ...]) -> None:
    sent = json.loads(json.dumps(encode_rules(DeclaredRules(rules, "abc"))))
    assert sent["hash"] == "abc"
    assert decode_rules(sent).rules == rules


def event(command: str) -> dict[str, Any]:
    return {"session_id": "s", "tool_name": "Bash", "tool_input": {"command": command}}


@pytest.mark.parametrize(
    ("command", "verdict"),
    [("rm -rf build", "ask"), ("ls", "none"), ("make", "none"), ("ls && git push", "ask")],
)
def test_what_it_names_is_asked_and_of_the_rest_it_says_nothing(command: str, verdict: str) -> None:
    copy = encode_rules(DeclaredRules(STARTER_RULES, "abc"))
    assert by_copy(copy, event(command), "claude-code", "away").verdict == verdict


@pytest.mark.parametrize("copy", [None, [], {}, {"rule": 1}, {"rule": [{"action": "maybe"}]}])
def test_what_is_no_copy_has_all_asked(copy: Any) -> None:
    decision = by_copy(copy, event("ls"), "claude-code", "the runtime is away")
    assert decision.verdict is GateVerdict.ASK
    assert "the runtime is away" in decision.reason


def test_what_is_no_call_is_asked() -> None:
    copy = encode_rules(DeclaredRules(STARTER_RULES, "abc"))
    assert by_copy(copy, {}, "claude-code", "away").verdict is GateVerdict.ASK


def test_a_denial_of_the_copy_is_a_question_since_none_is_recorded() -> None:
    never = DeclaredRule("never", GateAction.DENY, ("Bash",))
    copy = encode_rules(DeclaredRules((never,), "abc"))
    assert by_copy(copy, event("x"), "claude-code", "away").verdict is GateVerdict.ASK
