"""What `helmr gate` writes and takes out, and what it says about rules; the hook itself is in `test_gate_hook`."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helmr import rules
from helmr.cli.gate_status import settings_path
from helmr.features.gate.commands import FileChange
from helmr.features.gate.rules_commands import counted, past_calls
from helmr.gate import GateAction, GatedCall
from helmr.gate.claude_code import KEY_VARIABLE, Mode, hooks_block, settings_text, with_hooks
from helmr.gate.starts import unseen
from helmr.gate.tasks import gate_call
from helmr.matching import STARTER_RULES, DeclaredRule, DeclaredRules, read_rules
from helmr.testing import Harness

MINE: dict[str, Any] = {
    "permissions": {"deny": ["Read(.env)"]},
    "env": {"EDITOR": "vi"},
    "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "./bell.sh"}]}]},
}
URL = "http://127.0.0.1:9"


@pytest.fixture
def settings(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's settings, with what is theirs."""
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(nowhere / "claude"))
    path = nowhere / "claude" / "settings.json"
    path.parent.mkdir()
    path.write_text(settings_text(MINE))
    return path


def with_gate(mode: Mode) -> dict[str, Any]:
    found = with_hooks(MINE, hooks_block(mode, URL, "/nowhere"))
    if mode is Mode.INTERACTIVE:
        found["env"] = {**found["env"], KEY_VARIABLE: "hlmr_key_secret"}
    return found


def test_the_starter_rules_are_put_behind_what_the_file_says(helmr, nowhere: Path) -> None:
    path = nowhere / "helmr.toml"
    path.write_text("[retention]\nclosed_after = '90d'")
    path.chmod(0o640)
    said = helmr("gate", "init", "--yes")
    assert said.code == 0, said.err
    assert "+[[gate.rule]]" in said.out
    found = tomllib.loads(path.read_text())
    assert found["retention"] == {"closed_after": "90d"}
    assert read_rules(found["gate"], "helmr.toml").rules == STARTER_RULES
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    # Again it changes nothing, whatever the rules are now.
    before = path.read_text()
    said = helmr("gate", "init", "--yes")
    assert (said.code, said.out, path.read_text()) == (0, "", before)
    assert "already" in said.err


def test_nothing_is_written_where_no_one_can_be_asked(helmr, nowhere: Path) -> None:
    said = helmr("gate", "init")
    assert said.code == 2
    assert "+[[gate.rule]]" in said.out
    assert "--yes" in said.err
    assert not (nowhere / "helmr.toml").exists()


@pytest.mark.parametrize("mode", Mode)
def test_uninstalling_leaves_the_settings_as_they_were(helmr, settings: Path, mode: Mode) -> None:
    settings.write_text(settings_text(with_gate(mode)))
    said = helmr("gate", "uninstall", "claude-code", "--yes")
    assert said.code == 0, said.err
    assert json.loads(settings.read_text()) == MINE
    assert "hlmr_key_secret" not in said.out
    said = helmr("gate", "uninstall", "claude-code", "--yes")
    assert (said.code, "no hooks" in said.out) == (0, True)


@pytest.mark.parametrize("text", ["{", "[]", '{"hooks": 1}'])
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_settings_that_can_not_be_read_stay(helmr, settings: Path, command: str, text: str) -> None:
    settings.write_text(text)
    said = helmr("gate", command, "claude-code", "--yes")
    assert (said.code, settings.read_text()) == (2, text)
    assert str(settings) in said.err


@pytest.mark.parametrize("mode", Mode)
def test_the_status_says_who_is_asked_and_that_no_one_answers(
    helmr, settings: Path, mode: Mode
) -> None:
    settings.write_text(settings_text(with_gate(mode)))
    (found,) = json.loads(helmr("gate", "status", "--json").out)["items"]
    assert found == {
        "file": str(settings),
        "mode": mode.value,
        "timeout_s": 600,
        "url": URL,
        "state": "does not answer" if mode is Mode.INTERACTIVE else "has no key",
        "install": None,
        "client": "claude-code",
        "version": None,
        "is_tried": False,
        "starts_in": "auto" if mode is Mode.INTERACTIVE else None,
        "unseen": unseen(mode, "auto"),
    }


CLAUDE = """#!/bin/sh
echo '2.1.200 (Claude Code)'
"""


def test_the_status_says_how_the_client_starts_and_what_is_not_seen_there(
    helmr, settings: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = nowhere / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(CLAUDE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    settings.write_text(settings_text(with_gate(Mode.INTERACTIVE)))
    said = helmr("gate", "status").out
    assert "claude-code 2.1.200 (tried with 2.1.332); starts in default." in said
    local = nowhere / ".claude" / "settings.local.json"
    local.parent.mkdir()
    local.write_text('{"permissions": {"defaultMode": "bypassPermissions"}}')
    said = helmr("gate", "status").out
    assert "starts in bypassPermissions" in said
    assert "runs the rest unasked" in said


def test_an_earlier_installation_is_named_with_the_command_that_mends_it(
    helmr, settings: Path
) -> None:
    old = with_gate(Mode.INTERACTIVE)
    del old["hooks"]["PreToolUse"]
    settings.write_text(settings_text(old))
    (found,) = json.loads(helmr("gate", "status", "--json").out)["items"]
    assert (found["state"], found["install"]) == ("out of date", "helmr gate install claude-code")
    assert "Mend them: helmr gate install claude-code" in helmr("gate", "status").out
    (check,) = [
        one for one in json.loads(helmr("doctor", "--json").out)["checks"] if one["check"] == "gate"
    ]
    assert (check["result"], check["todo"]) == ("warn", "helmr gate install claude-code")


def test_a_file_is_replaced_where_a_link_points_and_its_key_is_not_shown(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "settings.json"
    real.parent.mkdir()
    real.write_text("old\n")
    link = tmp_path / "settings.json"
    link.symlink_to(real)
    change = FileChange(link, "old\n", "hlmr_key_x\n", is_secret=True, secret="hlmr_key_x")
    assert "hlmr_key_x" not in change.diff()
    assert "-old" in change.diff()
    change.write()
    assert link.is_symlink()
    assert real.read_text() == "hlmr_key_x\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_a_project_has_settings_that_are_not_checked_in(nowhere: Path) -> None:
    assert settings_path({}, project=True) == nowhere / ".claude" / "settings.local.json"
    assert settings_path({"CLAUDE_CONFIG_DIR": "/c"}, project=False) == Path("/c/settings.json")


@pytest.mark.parametrize(
    ("command", "rule", "action"),
    [
        ("git push origin", "leaves the machine", "ask"),
        ("ls -l", "only looks", "allow"),
        ("make", None, "ask"),
    ],
)
def test_a_call_is_tried_on_the_rules(
    helmr, nowhere: Path, command: str, rule: str | None, action: str
) -> None:
    helmr("gate", "init", "--yes")
    call = ("gate", "rules", "test", "Bash", json.dumps({"command": command}))
    said = helmr(*call, "--json")
    found = json.loads(said.out)
    assert (found["rule"], found["action"]) == (rule, action)
    decides = [line for line in helmr(*call).out.splitlines() if line.endswith("decides")]
    assert len(decides) == 1
    assert (rule or "(none matches)") in decides[0]


async def test_past_calls_are_held_against_the_rules_with_what_people_said() -> None:
    rules = DeclaredRules(
        (
            DeclaredRule("looks", GateAction.ALLOW, ("Bash",), matches={"command": ("ls*",)}),
            DeclaredRule("never", GateAction.DENY, ("Bash",), matches={"command": ("rm *",)}),
            DeclaredRule("pushes", GateAction.ASK, ("Bash",), matches={"command": ("git push*",)}),
        )
    )
    made = [
        ("ls", "approve"),
        ("ls -l", "decline"),
        ("rm x", "approve"),
        ("git push", "decline"),
        ("make", None),
    ]
    async with Harness(gate_call) as harness:
        for number, (command, decision) in enumerate(made):
            call = GatedCall("claude-code", "a", "Bash", {"command": command}, f"toolu_{number}")
            session = await harness.start(gate_call, call.to_json())
            if decision is not None:
                await session.answer({"decision": decision})
                await session.result()
        calls = await asyncio.to_thread(past_calls, harness.client(), 10)
    assert len(calls) == 5
    assert counted(rules, calls) == [
        ("looks", "allow", 2, 1),
        ("never", "deny", 1, 1),
        ("pushes", "ask", 1, 0),
        ("(none matches)", "ask", 1, 0),
    ]


async def test_rules_of_the_gate_are_held_against_its_history(tmp_path: Path) -> None:
    (tmp_path / "helmr.toml").write_text(
        '[[gate.rule]]\nname = "shop"\nclient = "claude*"\nfolder = "/srv/shop"\naction = "allow"\n'
        '[[gate.rule]]\nname = "reads"\ntool = "Read"\naction = "deny"\n'
    )
    made = [
        ("Bash", "/srv/shop", "approve"),
        ("Read", "/srv/shop/src", "decline"),
        ("Read", "/srv/ada", "decline"),
        ("Bash", "/srv/ada", "decline"),
    ]
    async with Harness(gate_call) as harness:
        began = harness.clock.now()
        mia = harness.async_client(on_behalf_of="mia")
        waits = []
        for number, (tool, folder, decision) in enumerate(made):
            call = GatedCall("claude-code", "a", tool, {}, f"toolu_{number}", folder)
            session = await harness.start(gate_call, call.to_json())
            waits.append((await session.wait())["wait_id"])
            tags = (await mia.waits.get(waits[-1])).tags
            assert tags == ["gate", "client:claude-code", f"tool:{tool}"]
            await mia.waits.answer(waits[-1], {"decision": decision})
        rule = await asyncio.to_thread(rules.read_rule, "helmr.toml", folder=tmp_path)
        with harness.client() as reader:
            tried = await asyncio.to_thread(rules.back_test, reader, rule, since=began)
            of_bash = await asyncio.to_thread(
                rules.back_test, reader, rule, since=began, filter="tag:tool:Bash"
            )
    assert (tried.same, tried.left_alone, tried.failures) == (2, 1, [])
    assert (of_bash.same, of_bash.left_alone, of_bash.differences) == (1, 1, [])
    assert [(one.wait_id, one.rule, one.rule_says) for one in tried.differences] == [
        (waits[1], "shop", "allow")
    ]


def test_without_rules_it_says_how_to_make_them(helmr, nowhere: Path) -> None:
    said = helmr("gate", "rules", "test", "Bash")
    assert said.code == 2
    assert "helmr gate init" in said.err
