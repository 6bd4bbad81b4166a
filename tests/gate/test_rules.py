"""The rules of the gate: which call each decides, and what can't be read."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.errors import UsageError
from helmr.gate import GateAction, GatedCall, agent_tag, call_of
from helmr.matching import STARTER_RULES, DeclaredRule, DeclaredRules, read_rules, rules_toml
from tests.budget import examples


def call(tool: str = "Bash", folder: str = "/srv/ada/shop", **given: Any) -> GatedCall:
    return GatedCall("claude-code", "s1", tool, given, call_id="toolu_1", folder=folder)


def starter(one: GatedCall) -> str:
    found = DeclaredRules(STARTER_RULES).first(one)
    return found.action.value if found is not None else "none"


def test_the_same_call_has_one_name_and_another_another() -> None:
    one = call(command="ls", limit=1)
    assert one.external_id() == call(limit=1.0, command="ls").external_id()
    others = {
        one.external_id(),
        one.external_id(1),
        call(command="ls -l", limit=1).external_id(),
        GatedCall("codex", "s1", "Bash", one.input, "toolu_1").external_id(),
        GatedCall("claude-code", "s2", "Bash", one.input, "toolu_1").external_id(),
        GatedCall("claude-code", "s1", "Bash", one.input, "toolu_2").external_id(),
        GatedCall("claude-code", "s1", "Read", one.input, "toolu_1").external_id(),
    }
    assert len(others) == 7
    assert call_of(one.to_json()) == one


def test_an_agents_tag_is_short_and_printable_whatever_its_session_is_called() -> None:
    assert agent_tag("claude-code", "ec1dedd8") == "claude-code:ec1dedd8"
    for odd in ("x" * 500, "a\nb"):
        tag = agent_tag("claude-code", odd)
        assert len(tag) <= 128
        assert tag.isprintable()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("git push origin main", "ask"),
        ("cd x && git push", "ask"),
        ("rm -rf build", "ask"),
        ("ls", "allow"),
        ("ls -la src", "allow"),
        ("git status", "allow"),
        ("make test", "none"),
        ("ls; touch x", "none"),
        ("ls && touch x", "none"),
        ("ls $(touch x)", "none"),
        ("ls `touch x`", "none"),
        ("ls > x", "none"),
        ("ls\ntouch x", "none"),
        ("ls & touch x", "none"),
        ("git log --output=x", "none"),
    ],
)
def test_the_starter_rules_ask_for_what_leaves_the_machine_and_allow_what_only_looks(
    command: str, says: str
) -> None:
    assert starter(call(command=command)) == says


@pytest.mark.parametrize(
    ("tool", "given", "says"),
    [
        ("Read", {"file_path": "/srv/ada/shop/a.py"}, "allow"),
        ("Read", {"file_path": "/srv/ada/.ssh/id_ed25519"}, "none"),
        ("Read", {"file_path": "/srv/ada/shop/../.ssh/id_ed25519"}, "none"),
        ("Read", {"file_path": "/srv/ada/shopping/a"}, "none"),
        ("Grep", {"pattern": "x"}, "allow"),
        ("Grep", {"pattern": "x", "path": "/srv/ada/shop/src"}, "allow"),
        ("Grep", {"pattern": "x", "path": "/etc"}, "none"),
        ("Write", {"file_path": "/srv/ada/shop/a.py", "content": ""}, "none"),
        ("WebFetch", {"url": "https://example.com"}, "none"),
    ],
)
def test_the_starter_rules_read_in_the_agents_folder_only(
    tool: str, given: dict[str, Any], says: str
) -> None:
    assert starter(call(tool, **given)) == says


def test_nothing_is_inside_a_folder_that_the_client_did_not_say() -> None:
    assert starter(call("Read", folder="", file_path="/etc/passwd")) == "none"
    odd = call("Read", folder="/srv/[a]", file_path="/srv/a/x")
    assert starter(odd) == "none"


def test_the_first_rule_that_matches_decides() -> None:
    rules = DeclaredRules(
        (
            DeclaredRule("denied", GateAction.DENY, matches={"command": ("git push --force*",)}),
            DeclaredRule("shop", GateAction.ALLOW, ("Bash",), folder="/srv/ada/shop"),
            DeclaredRule("rest", GateAction.ASK),
        )
    )
    assert [
        getattr(rules.first(one), "name", None)
        for one in (
            call(command="git push --force"),
            call(command="make"),
            call(command="make", folder="/srv/ada/shop/src"),
            call(command="make", folder="/srv/ada/shopping"),
            call("Read"),
        )
    ] == ["denied", "shop", "shop", "rest", "rest"]


def test_a_client_and_an_argument_that_is_no_text_are_matched_too() -> None:
    rule = DeclaredRule(
        "x", GateAction.DENY, ("mcp__*",), client="claude*", matches={"count": ("1?",)}
    )
    assert rule.matches_call(call("mcp__shop__buy", count=12))
    assert not rule.matches_call(call("mcp__shop__buy", count=1))
    assert not rule.matches_call(call("mcp__shop__buy"))
    assert not rule.matches_call(GatedCall("codex", "s", "mcp__shop__buy", {"count": 12}))


def test_rules_are_written_as_they_are_read() -> None:
    rules = (
        *STARTER_RULES,
        DeclaredRule(
            "all", GateAction.DENY, ("a", "b"), "c*", "/x", {"k y": ('a"b',)}, 'no, "never"'
        ),
        DeclaredRule(
            "two", GateAction.ASK, restriction={"answerers": ["group:ops"], "approvals": 2}
        ),
    )
    found = read_rules(tomllib.loads(rules_toml(rules))["gate"], "helmr.toml")
    assert found.rules == rules
    assert len(found.hash) == 16
    assert found.hash != read_rules(tomllib.loads(rules_toml(rules[1:]))["gate"], "x").hash


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules = 1", "has 'rules'"),
        ("rule = 1", "are tables"),
        ("rule = [1]", "are tables"),
        ("[[rule]]\ntool = 'x'", "rule 1 of the gate needs an action"),
        ("[[rule]]\naction = 'permit'", "needs an action"),
        ("[[rule]]\naction = 'ask'\ntools = 'x'", "has 'tools'"),
        ("[[rule]]\naction = 'ask'\ntool = []", "tool is a text"),
        ("[[rule]]\naction = 'ask'\ntool = [1]", "tool is a text"),
        ("[[rule]]\naction = 'ask'\nmatches = 'x'", "matches is a table"),
        ("[[rule]]\naction = 'ask'\nmatches = {a = [1]}", "matches.a is a text"),
        ("[[rule]]\naction = 'ask'\nfolder = 1", "folder is a text"),
        ("[[rule]]\naction = 'allow'\napprovals = 2", "asks no one"),
        ("[[rule]]\naction = 'ask'\nanswerers = 'ada'", "answerers is a list"),
        ("[[rule]]\naction = 'ask'\nnot_by = []", "not_by is a list"),
        ("[[rule]]\naction = 'ask'\nanswerers = [1]", "names what is no person"),
        ("[[rule]]\naction = 'ask'\nanswerers = ['group:']", "names what is no person"),
        ("[[rule]]\naction = 'ask'\napprovals = 21", "a number from 1 to 20"),
        ("[[rule]]\naction = 'ask'\napprovals = true", "a number from 1 to 20"),
        ("[[rule]]\naction = 'ask'\napprovals = 2\nanswerers = ['ada']", "answerers names 1"),
        ("[[rule]]\naction = 'ask'\nsigned = 1", "signed is true or false"),
        (
            "[[rule]]\naction = 'ask'\nname = 'a'\n[[rule]]\naction = 'ask'\nname = 'a'",
            "two rules of the gate are named 'a'",
        ),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_rules(tomllib.loads(text), "helmr.toml")


@given(
    command=st.text(alphabet="ls -a;|&$(`>\n x", max_size=20),
    glob=st.sampled_from(["ls*", "*", "ls -a", "l?"]),
)
@settings(max_examples=examples(200))
def test_an_allowed_command_is_a_single_one(command: str, glob: str) -> None:
    rule = DeclaredRule("x", GateAction.ALLOW, matches={"command": (glob,)})
    if rule.matches_call(call(command=command)):
        assert not set(command.strip()) & set(";|&`>\n")
        assert "$(" not in command


def test_what_a_server_claims_of_its_tool_is_matched_and_never_trusted_alone() -> None:
    text = """
[[gate.rule]]
tool = "files.*"
matches = {"@readOnlyHint" = "true"}
action = "allow"
"""
    rules = read_rules(tomllib.loads(text)["gate"], "helmr.toml")
    claims = {"readOnlyHint": True}
    plain = GatedCall("mcp", "a", "files.read", {"readOnlyHint": "true"})
    assert rules.first(plain) is None
    assert rules.first(replace(plain, annotations=claims)) is not None
    assert rules.first(replace(plain, tool="mail.read", annotations=claims)) is None
    assert replace(plain, annotations=claims).external_id() == plain.external_id()
    with pytest.raises(UsageError, match="harmless"):
        read_rules(tomllib.loads(text.replace('tool = "files.*"', ""))["gate"], "helmr.toml")
