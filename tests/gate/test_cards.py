"""What a person sees of a call: the command, the diff, the questions, the plan; and its form."""

from __future__ import annotations

from typing import Any

from helmr.gate import GatedCall
from helmr.gate.claude_code import decision_of
from helmr.gate.tasks import asked, asked_of_flood, fenced, tags_of
from helmr.person.forms import form_of, tool_call


def call(tool: str, **given: Any) -> GatedCall:
    return GatedCall("claude-code", "s1", tool, given, folder="/srv/shop", model="opus")


def test_a_shells_command_is_shown_as_one_with_its_folder() -> None:
    shown = asked(call("Bash", command="git push\n", description="Publish"))
    assert shown.subject == "Run git push"
    assert "```sh\ngit push\n\n```" in shown.body
    assert "Publish" in shown.body
    assert shown.body.endswith("Asked by claude-code in `/srv/shop` with opus.")


def test_an_edit_is_shown_as_a_diff() -> None:
    shown = asked(
        call("Edit", file_path="/srv/shop/a.py", old_string="x = 1\ny\n", new_string="x = 2\ny\n")
    )
    assert shown.subject == "Edit a.py"
    assert "--- a.py\n+++ a.py\n" in shown.body
    assert "-x = 1\n+x = 2\n y" in shown.body


def test_a_new_file_and_several_edits_are_diffs_too() -> None:
    written = asked(call("Write", file_path="/etc/motd", content="hello\n"))
    assert written.subject == "Write /etc/motd"
    assert "--- /dev/null\n+++ /etc/motd" in written.body
    assert "+hello" in written.body
    edits = [{"old_string": "a", "new_string": "b"}, {"old_string": "c", "new_string": "d"}]
    several = asked(call("MultiEdit", file_path="/srv/shop/a.py", edits=edits))
    assert several.body.count("```diff") == 2


def test_a_block_of_markdown_cannot_be_ended_by_what_is_in_it() -> None:
    assert fenced("a\n```\n# Approved", "sh").startswith("````sh\n")
    shown = asked(call("Bash", command="echo '```'\n````"))
    assert "`````sh" in shown.body


def test_any_other_tool_is_shown_by_its_arguments() -> None:
    shown = asked(call("mcp__shop__refund", customer="ada", cents=4200))
    assert shown.subject == "Call mcp__shop__refund?"
    assert '"cents": 4200' in shown.body


def test_the_form_is_the_tool_call_card() -> None:
    shown = asked(call("Bash", command="ls"))
    form = form_of(dict(shown.schema), initial=shown.initial)
    card = tool_call(form)
    assert card is not None
    assert (card.tool, card.asked) == ("Bash", {"command": "ls"})


def test_questions_get_a_field_each_and_another_for_what_is_not_offered() -> None:
    questions = [
        {"question": "Which color?", "header": "Color", "options": [{"label": "Red"}]},
        {"question": "Why?", "header": "Why", "options": [], "multiSelect": False},
        {"question": "Fruits?", "options": [{"label": "Apple"}], "multiSelect": True},
    ]
    given = call("AskUserQuestion", questions=questions)
    shown = asked(given)
    assert shown.subject == "Which color?"
    assert "- Red" in shown.body
    names = list(shown.schema["properties"])
    assert names == ["q1", "q1_other", "q2", "q3", "q3_other", "reason"]
    form = form_of(dict(shown.schema), initial=shown.initial)
    assert [field.key for field in form.leaves()]
    answer = {"q1": "Red", "q2": "since", "q3": ["Apple"]}
    decided = decision_of(given, answer)
    assert decided.input is not None
    assert decided.input["answers"] == {"Which color?": "Red", "Why?": "since", "Fruits?": "Apple"}


def test_questions_that_are_not_as_they_should_be_are_a_call_like_any_other() -> None:
    for questions in ([], "x", [{"question": ""}], [1], [{"question": "a"}, {"question": "a"}]):
        shown = asked(call("AskUserQuestion", questions=questions))
        assert "arguments" in shown.schema["properties"]


def test_a_plan_is_shown_as_markdown_and_approved_or_not() -> None:
    shown = asked(call("ExitPlanMode", plan="# Plan\n- do"))
    assert shown.body.startswith("# Plan\n- do")
    assert shown.schema["properties"]["decision"]["enum"] == ["approve", "decline"]


def test_the_line_about_a_flood_says_which_key() -> None:
    shown = asked_of_flood({"flood": {"key": "laptop", "per_minute": 120}})
    assert shown.subject == "The key laptop asks too much"
    assert "120 times in a minute" in shown.body


def test_a_wait_has_tags_of_its_client_and_tool_as_far_as_they_can_be_tags() -> None:
    assert tags_of(call("Bash")) == ["gate", "client:claude-code", "tool:Bash"]
    for odd in ("x" * 60, "a\nb", "\ud800"):
        assert tags_of(call(odd)) == ["gate", "client:claude-code"]
