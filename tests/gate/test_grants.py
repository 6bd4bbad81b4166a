"""What a standing grant covers (S-107)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.errors import BadRequest
from helmr.gate import GatedCall
from helmr.gate.grant_scope import GrantScope
from helmr.gate.grants import (
    ARGUMENTS_MAX,
    check_matches,
    covers,
    exact_matches,
    matches_text,
)

ASKER = "api_key:key_1"


def call(
    tool: str = "Bash", agent: str = "a1", client: str = "claude-code", **given: Any
) -> GatedCall:
    return GatedCall(client, agent, tool, given, folder="/srv/shop")


def scope(tool: str = "Bash", **matches: str) -> GrantScope:
    return GrantScope(
        "claude-code", "a1", ASKER, tool, {name: (one,) for name, one in matches.items()}
    )


def test_it_covers_one_tool_of_one_session_of_one_client_that_one_key_asks_for() -> None:
    grant = scope(command="git *")
    assert covers(grant, call(command="git push"), ASKER)
    assert not covers(grant, call(command="git push"), "api_key:key_2")
    assert not covers(grant, call(command="git push", agent="a2"), ASKER)
    assert not covers(grant, call(command="git push", client="codex"), ASKER)
    assert not covers(grant, call("Shell", command="git push"), ASKER)
    assert not covers(grant, call(command="rm x"), ASKER)
    assert not covers(grant, call(), ASKER)


def test_a_tools_name_is_no_glob() -> None:
    assert not covers(scope("*"), call("Write"), ASKER)


@pytest.mark.parametrize(
    "command",
    ["git push; rm -r .", "git push && x", "git push\nrm x", "git push $(x)", "git push > f"],
)
def test_of_a_shells_command_it_allows_a_single_one(command: str) -> None:
    assert not covers(scope(command="git push*"), call(command=command), ASKER)


def test_the_folder_in_a_glob_is_the_agents_and_nothing_outside() -> None:
    grant = scope("Write", file_path="{folder}/*")
    assert covers(grant, call("Write", file_path="/srv/shop/a/b.py"), ASKER)
    assert not covers(grant, call("Write", file_path="/srv/shop/../x"), ASKER)
    assert not covers(grant, call("Write", file_path="/etc/passwd"), ASKER)


def test_without_globs_it_covers_the_tool_with_any_arguments() -> None:
    assert covers(scope("Write"), call("Write", file_path="/etc/passwd"), ASKER)


@pytest.mark.parametrize("text", ["make test", "ls [ab]*?", "a && b | c", " x ", "*"])
def test_what_is_taken_from_a_call_covers_that_call_and_no_other_text(text: str) -> None:
    grant = GrantScope("claude-code", "a1", ASKER, "Bash", exact_matches({"command": text, "n": 1}))
    assert covers(grant, call(command=text, n=2), ASKER)
    assert not covers(grant, call(command=f"{text}x"), ASKER)
    assert not covers(grant, call(command="other"), ASKER)


def test_it_is_the_same_behind_json() -> None:
    grant = scope(command="git *", url="*")
    assert GrantScope.from_json(grant.to_json()) == grant


@pytest.mark.parametrize(
    "matches",
    [
        {"": "x"},
        {"command": []},
        {"command": "x" * 1_001},
        {"command": ["x"] * (ARGUMENTS_MAX + 1)},
        {f"n{n}": "x" for n in range(ARGUMENTS_MAX + 1)},
    ],
)
def test_globs_have_bounds(matches: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="matches"):
        check_matches(matches)


def test_what_it_covers_in_words() -> None:
    assert matches_text({}) == "with any arguments"
    assert matches_text({"command": ("git *", "gh *")}) == "command = git * or gh *"
