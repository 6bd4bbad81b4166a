"""What is offered beside the approval of an agent's call, and what was typed (S-107)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from helmr.gate import CALL_TASK, GatedCall, asked_line
from helmr.gate.grant_scope import GrantScope
from helmr.gate.grants import covers
from helmr.gate.tasks import asked
from helmr.models import WaitInfo, WaitKind, WaitStatus
from helmr.person.review.granting import body_below, heading, offered
from tests.hostile import HOSTILE, hidden


def wait_for(tool: str, given: dict[str, Any], **more: Any) -> WaitInfo:
    question = asked(GatedCall("claude-code", "a1", tool, given))
    return WaitInfo(
        **{
            "id": "wait_1",
            "session_id": "ses_1",
            "run_id": "run_1",
            "task": CALL_TASK,
            "kind": WaitKind.INPUT,
            "stream": "decisions",
            "status": WaitStatus.PENDING,
            "opened_at": datetime(2026, 11, 24, tzinfo=UTC),
            "schema": question.schema,
            "initial": question.initial or None,
            **more,
        }
    )


def covered(matches: dict[str, list[str]], tool: str, **given: Any) -> bool:
    globs = {name: tuple(some) for name, some in matches.items()}
    scope = GrantScope("claude-code", "a1", "k", tool, globs)
    return covers(scope, GatedCall("claude-code", "a1", tool, given), "k")


def test_it_begins_with_this_call_and_no_other() -> None:
    offer = offered(wait_for("Bash", {"command": "make [a-z]*", "description": "x"}))
    assert offer is not None
    assert (offer.tool, list(offer.globs)) == ("Bash", ["command"])
    untouched = offer.matches(offer.shown())
    assert covered(untouched, "Bash", command="make [a-z]*")
    assert not covered(untouched, "Bash", command="make b")
    widened = offer.matches({"command": "make *"})
    assert widened == {"command": ["make *"]}


@pytest.mark.parametrize("typed", ["", " ", "*"])
def test_an_empty_line_stands_for_any_text(typed: str) -> None:
    offer = offered(wait_for("Write", {"file_path": "/a", "content": "x"}))
    assert offer is not None
    assert offer.matches({"file_path": typed}) == {}


def test_a_tool_without_telling_arguments_is_offered_with_any() -> None:
    offer = offered(wait_for("mail.send", {"to": "ada"}))
    assert offer is not None
    assert offer.shown() == {}


def test_a_command_of_several_lines_is_shown_on_one_and_meant_as_it_is() -> None:
    offer = offered(wait_for("Bash", {"command": "cat <<E\nx\nE"}))
    assert offer is not None
    assert "\n" not in offer.shown()["command"]
    assert covered(offer.matches(offer.shown()), "Bash", command="cat <<E\nx\nE")


def test_nothing_shown_is_obeyed_by_a_terminal() -> None:
    offer = offered(wait_for("Bash", {"command": HOSTILE}))
    assert offer is not None
    assert hidden(offer.shown()["command"]) == []


@pytest.mark.parametrize(
    "wait",
    [
        wait_for("ExitPlanMode", {"plan": "x"}),
        wait_for("AskUserQuestion", {"questions": [{"question": "Which?"}]}),
        wait_for("Bash", {"command": "ls"}, task="publish"),
        wait_for("Bash", {"command": "ls"}, answerers=["ada"]),
        wait_for("Bash", {"command": "ls"}, schema=None),
    ],
)
def test_what_is_not_offered(wait: WaitInfo) -> None:
    assert offered(wait) is None


@pytest.mark.parametrize(
    ("command", "subject", "expected"),
    [
        ("ls  -l\n", "Run ls -l", "Run this command?"),
        ("x " * 300, f"Run {'x ' * 90}…", "Run this command?"),
        ("ls", "Run a campaign?", "Run a campaign?"),
        ("ls", "Which database?", "Which database?"),
        (None, "Run ls", "Run ls"),
        ("ls", None, ""),
    ],
)
def test_a_heading_does_not_say_the_command_that_stands_below_it(
    command: str | None, subject: str | None, expected: str
) -> None:
    given = {"command": command} if command is not None else {}
    call = GatedCall("claude-code", "a1", "Bash", given)
    assert heading(wait_for("Bash", given, subject=subject), call) == expected


def test_a_body_below_its_asker_loses_the_line_about_them_and_nothing_else() -> None:
    call = GatedCall("codex", "a1", "Bash", {}, folder="/srv/a", start="/srv", model="m")
    line = asked_line(call)
    below = body_below(wait_for("Bash", {}, body=f"{line}\n\n{line}\n\nAnd more."), call)
    assert below == f"{line}\n\nIt works in `/srv/a` now. Its model is m.\n\nAnd more."
    here = GatedCall("codex", "a1", "Bash", {}, folder="/srv")
    assert body_below(wait_for("Bash", {}, body=f"x\n\n{asked_line(here)}"), here) == "x"
    assert body_below(wait_for("Bash", {}, body="Of an earlier edition."), here) == (
        "Of an earlier edition."
    )
    assert body_below(wait_for("Bash", {}, body=None), here) is None
