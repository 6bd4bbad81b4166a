"""The command and the diff of a call: shown in place of the arguments that they say, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.approvals import approval_schema
from helmr.gate import GatedCall
from helmr.gate.tasks import asked
from helmr.person.forms import ToolCall, form_of, tool_call
from helmr.person.forms.call_blocks import blocks, without

TEXTS = st.text(st.sampled_from("ab \n\r\t\x0b\u2028-+`"), max_size=30)


def card(**arguments: Any) -> ToolCall:
    form = form_of(approval_schema("Edit"), initial={"arguments": arguments})
    found = tool_call(form)
    assert found is not None
    return found


def rows(found: ToolCall, answer: Any = None) -> dict[str, str | None]:
    shown = found.beside_blocks(answer) if answer is not None else found.beside_blocks()
    return {one.name: one.now for one in shown}


def test_a_command_and_an_edit_are_said_once() -> None:
    shell = card(command="git push", description="Publish", timeout=9)
    assert [one.text for one in shell.blocks()] == ["git push"]
    assert rows(shell) == {"description": "Publish", "timeout": "9"}
    edit = card(file_path="/srv/a.py", old_string="x\n", new_string="y\n", replace_all=True)
    [shown] = edit.blocks()
    assert shown.text == "--- /srv/a.py\n+++ /srv/a.py\n@@ -1 +1 @@\n-x\n+y"
    assert rows(edit) == {"replace_all": "Yes"}


def test_several_edits_are_diffs_unless_one_of_them_says_more() -> None:
    edits = [{"old_string": "a", "new_string": "b"}, {"old_string": "c", "new_string": "d"}]
    assert len(card(file_path="a.py", edits=edits).blocks()) == 2
    odd = card(file_path="a.py", edits=[*edits, {"old_string": "e", "new_string": "f", "all": 1}])
    assert odd.blocks() == ()
    assert "edits.3.old_string" in rows(odd)


def test_what_was_changed_is_a_row_beside_the_block() -> None:
    found = card(command="git push")
    answer = {"decision": "approve", "arguments": {"command": "git fetch"}}
    assert [one.text for one in found.blocks(answer)] == ["git fetch"]
    [row] = found.beside_blocks(answer)
    assert (row.asked, row.now) == ("git push", "git fetch")


def test_what_is_hidden_is_in_no_block() -> None:
    assert list(blocks({"command": "curl -u key"}, {"command"})) == []
    edit = {"file_path": "a", "old_string": "key", "new_string": "x"}
    assert list(blocks(edit, {"old_string"})) == []


@given(TEXTS, TEXTS)
def test_no_difference_of_two_texts_is_left_out(old: str, new: str) -> None:
    """Either the diff has every character of both, or they are rows."""
    found = list(blocks({"file_path": "a", "old_string": old, "new_string": new}))
    if not found:
        assert old == new or any(one in old + new for one in "\r\x0b\u2028")
        return
    said = found[0].text.split("\n")[2:]
    lines = [one for one in said if not one.startswith(("@@", "\\"))]
    before = [one[1:] for one in lines if one[0] in " -"]
    after = [one[1:] for one in lines if one[0] in " +"]
    note = [one for one in said if one.startswith("\\")]
    assert len(note) == (old.endswith("\n") != new.endswith("\n"))
    for text, shown in ((old, before), (new, after)):
        left = text.removesuffix("\n").split("\n") if text else []
        at = 0
        for line in shown:  # in order; what is not shown is far from any change
            at = left.index(line, at) + 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "git push\n", "description": "Publish it"},
        {"command": "echo '```'\n````"},
        {"file_path": "/srv/shop/a.py", "old_string": "x\ny", "new_string": "x\nz\n"},
        {"file_path": "/srv/shop/b.py", "content": "new\n"},
        {"file_path": "a", "edits": [{"old_string": "a", "new_string": "b"}] * 2},
    ],
)
def test_the_gates_own_body_says_nothing_twice(arguments: dict[str, Any]) -> None:
    call = GatedCall("claude-code", "s1", "Tool", arguments, folder="/srv/shop", model="opus")
    body = asked(call).body
    assert "```" in body
    assert card(**arguments).own_text(body) == "Asked by claude-code in `/srv/shop` with opus."


def test_a_body_keeps_every_block_that_is_another() -> None:
    body = "Read this.\n\n```sh\nrm -rf /\n```\n\n```sh\ngit push\n```"
    assert card(command="git push").own_text(body) == "Read this.\n\n```sh\nrm -rf /\n```"
    assert without("```diff\n-a\n+b\n```", ["-a\n+c"]) == "```diff\n-a\n+b\n```"
