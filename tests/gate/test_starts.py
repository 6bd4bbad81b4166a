"""The mode in which a client starts, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.gate.claude_code import TRIED, Mode
from helmr.gate.starts import UNSEEN, StartMode, start_mode, unseen

BYPASS = {"permissions": {"defaultMode": "bypassPermissions"}}
PLAN = {"permissions": {"defaultMode": "plan"}}


@pytest.mark.parametrize(
    ("version", "settings", "mode"),
    [
        ("2.1.283", [], "auto"),
        ("2.1.282", [], "default"),
        ("2.1.99", [], "default"),
        ("3.0", [], "auto"),
        ("", [], "auto"),
        ("2.1.332", [{"permissions": {"defaultMode": "manual"}}], "default"),
        ("2.1.332", [{}, PLAN, BYPASS], "plan"),
        ("2.1.332", [{"permissions": []}, BYPASS], "bypassPermissions"),
        ("2.1.332", [{"disableAutoMode": "disable"}], "default"),
        ("2.1.332", [{"permissions": {"disableAutoMode": "disable"}}, {}], "default"),
        ("2.1.332", [{"permissions": {"defaultMode": "of tomorrow"}}], "of tomorrow"),
    ],
)
def test_claude_code_starts_as_its_settings_say(
    version: str, settings: list[dict[str, Any]], mode: str
) -> None:
    assert start_mode("claude-code", version, settings) == mode


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ([], "on-request"),
        ([{"approvals_reviewer": "user"}, {"approvals_reviewer": "auto_review"}], "on-request"),
        ([{}, {"approvals_reviewer": "auto_review"}], "auto_review"),
        ([{"approvals_reviewer": "guardian_subagent"}], "auto_review"),
        ([{"approvals_reviewer": "auto_review", "approval_policy": "never"}], "never"),
    ],
)
def test_codex_starts_as_its_settings_say(settings: list[dict[str, Any]], mode: str) -> None:
    assert start_mode("codex", TRIED["codex"], settings) == mode


def test_of_each_mode_it_is_said_what_is_not_seen() -> None:
    assert UNSEEN.keys() == set(StartMode)
    for mode in StartMode:
        assert unseen(Mode.INTERACTIVE, mode.value) == UNSEEN[mode]
    assert "does not know" in unseen(Mode.INTERACTIVE, "of tomorrow")
    assert unseen(Mode.HEADLESS, "auto").startswith("nothing")
