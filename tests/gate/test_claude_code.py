"""Claude Code's forms: what a decision is to it, and the settings that put our hooks there."""

from __future__ import annotations

import itertools
import json
import subprocess
from typing import Any

import pytest

from helmr.errors import BadRequest
from helmr.gate import GatedCall
from helmr.gate.claude_code import (
    TIMEOUT_S,
    GateDecision,
    GateVerdict,
    Mode,
    call_of_event,
    decision_of,
    hooks_block,
    installed,
    mode_of,
    reply,
    unasked,
    with_hooks,
    without_answer,
    without_hooks,
)
from helmr.gate.starts import is_out_of_date
from helmr.gate.tasks import asked
from tests.programs.gate import recorded

EVENT = {
    "session_id": "ec1dedd8-6977-4e1b-90e2-d7c1e6e071f2",
    "cwd": "/srv/shop",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": "touch one", "description": "x"},
    "tool_use_id": "toolu_1",
}
CALL = call_of_event(EVENT)
QUESTIONS: dict[str, Any] = {
    "questions": [
        {
            "question": "Which color?",
            "header": "Color",
            "options": [{"label": "Red", "description": "r"}, {"label": "Blue"}],
            "multiSelect": False,
        },
        {
            "question": "Which fruits?",
            "header": "Fruit",
            "options": [{"label": "Apple"}, {"label": "Pear"}],
            "multiSelect": True,
        },
    ]
}
ASKED = GatedCall("claude-code", "s", "AskUserQuestion", QUESTIONS)


def test_an_event_names_its_call() -> None:
    assert (CALL.client, CALL.tool, CALL.call_id) == ("claude-code", "Bash", "toolu_1")
    assert CALL.folder == "/srv/shop"
    assert call_of_event({**EVENT, "tool_use_id": None}).call_id == ""
    for name in ("session_id", "tool_name", "tool_input"):
        with pytest.raises(BadRequest):
            call_of_event({**EVENT, name: None})


def test_what_the_client_posts_names_its_calls() -> None:
    events = recorded.events_of("claude-code")
    with_call = {kind: one for kind, one in events.items() if "tool_name" in one}
    assert with_call.keys() == {
        "PermissionRequest",
        "PreToolUse",
        "PostToolUse",
        "PostToolUseFailure",
    }
    assert {"Stop", "SessionEnd"} <= events.keys()
    for kind, one in with_call.items():
        call = call_of_event(one)
        assert (call.tool, call.folder) == ("Bash", "/srv/ada/project")
        assert bool(call.call_id) == (kind != "PermissionRequest")
        assert call.tag == f"claude-code:{one['session_id']}"
    assert call_of_event(events["PreToolUse"]) == call_of_event(events["PostToolUse"])


def test_what_codex_posts_names_its_calls() -> None:
    events = recorded.events_of("codex")
    assert {"PermissionRequest", "PreToolUse", "PostToolUse", "Stop", "SessionEnd"} == events.keys()
    calls = {
        kind: call_of_event(one, "codex") for kind, one in events.items() if "tool_name" in one
    }
    assert {call.tool for call in calls.values()} == {"Bash"}
    assert [kind for kind, call in calls.items() if call.is_fixed] == ["PermissionRequest"]
    assert calls["PreToolUse"] == calls["PostToolUse"]


def test_an_approval_allows_and_a_denial_says_why() -> None:
    assert decision_of(CALL, {"decision": "approve"}) == GateDecision(GateVerdict.ALLOW)
    same = {"decision": "approve", "arguments": dict(CALL.input), "reason": None}
    assert decision_of(CALL, same) == GateDecision(GateVerdict.ALLOW)
    changed = decision_of(CALL, {"decision": "approve", "arguments": {"command": "ls"}})
    assert changed == GateDecision(GateVerdict.ALLOW, "", {"command": "ls"})
    denied = decision_of(CALL, {"decision": "decline", "reason": "not on Friday"})
    assert denied == GateDecision(GateVerdict.DENY, "not on Friday")


@pytest.mark.parametrize("answer", [None, {}, [], "approve", {"decision": "yes"}, True])
def test_what_is_no_approval_denies(answer: Any) -> None:
    assert decision_of(CALL, answer).verdict is GateVerdict.DENY


def test_the_clients_form_of_each_decision() -> None:
    def pre(decision: GateDecision) -> Any:
        return reply("PreToolUse", decision).get("hookSpecificOutput")

    def asked(decision: GateDecision) -> Any:
        return reply("PermissionRequest", decision).get("hookSpecificOutput", {}).get("decision")

    edited = GateDecision(GateVerdict.ALLOW, "", {"command": "ls"})
    assert pre(edited) == {
        "hookEventName": "PreToolUse",
        "permissionDecision": "allow",
        "updatedInput": {"command": "ls"},
    }
    assert asked(edited) == {"behavior": "allow", "updatedInput": {"command": "ls"}}
    assert asked(GateDecision(GateVerdict.ALLOW)) == {"behavior": "allow"}
    denied = GateDecision(GateVerdict.DENY, "no")
    assert pre(denied) == {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": "no",
    }
    assert asked(denied) == {"behavior": "deny", "message": "no"}
    assert pre(GateDecision(GateVerdict.DEFER))["permissionDecision"] == "defer"
    assert reply("PermissionRequest", GateDecision(GateVerdict.NONE)) == {}


def test_without_an_answer_only_an_interactive_client_decides_itself() -> None:
    assert without_answer(Mode.INTERACTIVE).verdict is GateVerdict.NONE
    assert without_answer(Mode.HEADLESS).verdict is GateVerdict.DEFER
    assert without_answer(Mode.HEADLESS, can_defer=False).verdict is GateVerdict.DENY
    assert unasked(Mode.INTERACTIVE, "x").verdict is GateVerdict.NONE
    assert unasked(Mode.HEADLESS, "x").verdict is GateVerdict.DENY


def test_questions_are_answered_by_their_text() -> None:
    chosen = decision_of(ASKED, {"q1": "Blue", "q2": ["Apple", "Pear"]})
    assert chosen.input is not None
    assert chosen.input["answers"] == {"Which color?": "Blue", "Which fruits?": "Apple, Pear"}
    assert chosen.input["questions"] == QUESTIONS["questions"]
    other = decision_of(ASKED, {"q1": None, "q1_other": "Green", "q2": []})
    assert other.input is not None
    assert other.input["answers"] == {"Which color?": "Green"}
    assert decision_of(ASKED, {"reason": "ask later"}) == GateDecision(
        GateVerdict.DENY, "ask later"
    )


WHERE = "--url http://h:1 --key-file /k"
MINE = {"matcher": "Edit", "hooks": [{"type": "command", "command": "./lint.sh"}]}
SETTINGS = {"permissions": {"deny": ["Read(.env)"]}, "hooks": {"PreToolUse": [MINE], "Stop": []}}


@pytest.mark.parametrize("mode", Mode)
def test_installing_keeps_what_is_there_and_uninstalling_leaves_it(mode: Mode) -> None:
    block = hooks_block(mode, "http://127.0.0.1:4356/", "/x/asker.key")
    put = with_hooks(SETTINGS, block)
    assert put["permissions"] == SETTINGS["permissions"]
    assert put["hooks"]["PreToolUse"][0] == MINE
    assert installed(put).keys() == block.keys()
    assert with_hooks(put, block) == put
    assert without_hooks(put)["hooks"]["PreToolUse"] == [MINE]
    assert installed(without_hooks(put)) == {}
    assert without_hooks(with_hooks({}, block)) == {}


def test_our_hook_is_taken_out_of_a_group_that_holds_another() -> None:
    ours = hooks_block(Mode.HEADLESS, "http://h:1", "/k")["PreToolUse"][0]["hooks"][0]
    shared = {"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [*MINE["hooks"], ours]}]}}
    left = without_hooks(shared)["hooks"]["PreToolUse"]
    assert left == [{"matcher": "*", "hooks": MINE["hooks"]}]


@pytest.mark.parametrize(
    ("mode", "asks", "also", "command"),
    [
        (
            Mode.HEADLESS,
            "PreToolUse",
            {"PostToolUse", "SessionEnd"},
            f"--timeout {TIMEOUT_S} {WHERE} || exit 2",
        ),
        (
            Mode.INTERACTIVE,
            "PermissionRequest",
            {"PreToolUse", "PostToolUse", "Stop", "SessionEnd"},
            f"--timeout {TIMEOUT_S} --mode interactive {WHERE}",
        ),
        (
            Mode.INTERACTIVE,
            "PreToolUse",
            {"PermissionRequest", "PostToolUse", "Stop", "SessionEnd"},
            f"--timeout {TIMEOUT_S} --mode rules {WHERE} || exit 2",
        ),
    ],
)
def test_the_hooks_of_codex_are_commands(
    mode: Mode, asks: str, also: set[str], command: str
) -> None:
    block = hooks_block(mode, "http://h:1", "/k", client="codex")
    assert block.keys() == {asks} | also
    (hook,) = block[asks][0]["hooks"]
    assert hook["command"] == f"helmr gate hook codex {command}"
    assert mode_of(hook) is mode
    assert without_hooks(with_hooks({}, block)) == {}


def test_a_call_at_the_prompt_of_codex_is_taken_as_it_is() -> None:
    posted = {**EVENT, "hook_event_name": "PermissionRequest", "tool_use_id": None}
    at_prompt = call_of_event(posted, "codex")
    made = {**EVENT, "tool_input": {"command": "touch one"}, "hook_event_name": "PostToolUse"}
    assert at_prompt.is_fixed
    assert at_prompt.input_hash == call_of_event(made, "codex").input_hash
    assert not call_of_event(EVENT, "codex").is_fixed
    assert not call_of_event(posted).is_fixed
    properties = asked(at_prompt).schema["properties"]
    assert properties.keys() == {"decision", "reason"}
    assert decision_of(at_prompt, {"decision": "approve"}) == GateDecision(GateVerdict.ALLOW)


def test_the_hooks_timeout_stands_where_the_gateway_reads_it() -> None:
    asks = hooks_block(Mode.INTERACTIVE, "http://h:1", "/k")["PermissionRequest"][0]["hooks"][0]
    assert asks["url"] == f"http://h:1/v1/gate/claude-code?timeout_s={TIMEOUT_S}"
    assert asks["timeout"] == TIMEOUT_S
    assert asks["allowedEnvVars"] == ["HELMR_GATE_KEY"]
    headless = hooks_block(Mode.HEADLESS, "http://h:1", "/k")["PreToolUse"][0]["hooks"][0]
    assert headless["type"] == "command"
    command = f"helmr gate hook claude-code --timeout {TIMEOUT_S} {WHERE} || exit 2"
    assert headless["command"] == command
    json.dumps(headless)


def test_the_hook_of_an_interactive_client_asks_the_rules_or_has_it_ask() -> None:
    """S-137: a program that is missing, crashes or is killed makes the client ask."""
    (hook,) = hooks_block(Mode.INTERACTIVE, "http://h:1", "/k", program="/gone/helmr")[
        "PreToolUse"
    ][0]["hooks"]
    assert hook["timeout"] >= 10
    assert mode_of(hook) is Mode.INTERACTIVE
    done = subprocess.run(
        ["sh", "-c", hook["command"]], capture_output=True, text=True, check=True, timeout=30
    )
    said = json.loads(done.stdout)["hookSpecificOutput"]
    assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "ask")


def test_hooks_of_an_earlier_version_are_out_of_date() -> None:
    for client, mode in itertools.product(("claude-code", "codex"), Mode):
        block = hooks_block(mode, "http://h:1", "/k", client=client)
        hooks = installed(with_hooks(SETTINGS, block))
        assert not is_out_of_date(client, mode, hooks)
        del hooks["PreToolUse"]
        assert is_out_of_date(client, mode, hooks)
