"""A question in lines: what stands above it, which letter does what, what was entered, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from helmr.approvals import approval_schema
from helmr.models import ClaimInfo, WaitInfo, WaitKind, WaitPriority, WaitStatus
from helmr.person.forms import ToolCall, form_of, tool_call
from helmr.person.forms.questions import Questions
from helmr.person.review.question import (
    BODY_LINES,
    KEYS,
    Asking,
    body_lines,
    change_lines,
    choice_lines,
    field_lines,
    field_prompt,
    help_lines,
    key_prompt,
    taken,
    wait_lines,
)
from tests.hostile import HOSTILE, hidden

NOW = datetime(2026, 11, 24, 14, tzinfo=UTC)
CALLED = {"customer": "ada", "cents": 4200}


class Decision(BaseModel):
    """One of three, and a word on it."""

    decision: Literal["approve", "reject", "edit"]
    note: str | None = None


class Login(BaseModel):
    user: str
    password: SecretStr


class Row(BaseModel):
    sku: str


class Street(BaseModel):
    street: str


class Order(BaseModel):
    """A field of each kind that says something of itself."""

    count: int = Field(ge=1, le=99, description="How many to send.")
    colours: list[Literal["red", "green"]]
    labels: list[str]
    anything: dict[str, int]
    rows: list[Row]
    gift: Street | None = None


def wait(**parts: Any) -> WaitInfo:
    known = WaitInfo(
        id="wait_1",
        session_id="ses_1",
        run_id="run_1",
        task="publish",
        kind=WaitKind.INPUT,
        stream="approval",
        subject="Publish the letter?",
        status=WaitStatus.PENDING,
        opened_at=NOW,
    )
    return known.model_copy(update=parts)


def asking(shape: Any = Decision, *lines: str, **of_wait: Any) -> Asking:
    """A wait of this shape, these lines entered."""
    form = form_of(TypeAdapter(shape).json_schema())
    found = Asking(wait(**of_wait), form, Questions(form))
    for line in lines:
        assert found.questions.take(line) == "", line
    return found


def call(**asked: Any) -> tuple[Asking, ToolCall]:
    """Leave for a tool's call."""
    form = form_of(
        approval_schema("refund", None), initial={"decision": "approve", "arguments": asked}
    )
    card = tool_call(form)
    assert card is not None
    return Asking(wait(), form, Questions(form)), card


def prompt(one: Asking, *, holds: bool = False) -> str:
    return key_prompt(one.questions, one.wait, has_draft=one.has_draft, holds=holds)


# --- what stands above


def test_the_question_stands_first_then_what_it_belongs_to_then_its_text() -> None:
    asked = wait(body="One.\nTwo.", priority=WaitPriority.HIGH, assignee="ada", tags=("mail", "eu"))
    assert wait_lines(asked, "2 of 3", due="in 5m", claim="bo, until 14:15") == [
        "",
        "2 of 3  Publish the letter?",
        "  publish · approval · due in 5m · high priority · for ada · #mail · #eu"
        " · claimed by bo, until 14:15 · wait_1",
        "  One.",
        "  Two.",
    ]
    plain = wait(
        subject=None, stream=None, kind=WaitKind.TOKEN, token_id="tok_1", correlation_id="o-7"
    )
    assert wait_lines(plain, "1 of 1", due="at no time")[1:] == [
        "1 of 1  publish tok_1 o-7",
        "  publish · token · due at no time · wait_1",
    ]


def test_a_long_text_is_cut_where_it_says_so_and_read_whole_by_a_key() -> None:
    short, long = ("\n".join(f"line {n}" for n in range(count)) for count in (BODY_LINES, 40))
    assert "m more" not in prompt(asking(body=short))
    assert wait_lines(wait(body=short), "1 of 1", due="")[-1] == f"  line {BODY_LINES - 1}"
    assert "m more" in prompt(asking(body=long))
    assert wait_lines(wait(body=long), "1 of 1", due="")[-1] == "  … 28 more lines: m shows them"
    assert body_lines(wait(body=long)) == [f"  line {n}" for n in range(40)]
    assert body_lines(wait()) == ["  there is no more text"]


DIFF = ["--- a.py", "+++ a.py", "@@ -1 +1 @@", "-x", "+y"]


class Numbers(BaseModel):
    """A form of nothing but numbers."""

    low: int = Field(ge=0)
    high: int = Field(multiple_of=5)
    rate: float = 1.5


def test_of_a_call_no_argument_is_left_out_and_a_body_that_says_the_same_is() -> None:
    one, card = call(**CALLED, why="x" * 900)
    shown = wait_lines(one.wait, "1 of 1", due="", call=card)
    assert shown[3:6] == ["  tool  refund", "    customer: ada", "    cents: 4200"]
    assert shown[6] == f"    why: {'x' * 900}"
    assert shown[7].startswith("  approve: refund is called")
    assert shown[8].startswith("  decline: refund is not called")
    other = wait_lines(wait(body="Mind the limit."), "1 of 1", due="", call=card)
    assert other[7] == "  Mind the limit."
    assert other[8:] == shown[7:]


def test_a_command_and_a_diff_are_lines_and_their_arguments_are_not_repeated() -> None:
    one, card = call(command="git push\necho done", why="now")
    shown = wait_lines(one.wait, "1 of 1", due="", call=card)
    assert shown[3:8] == [
        "  tool  refund",
        "    why: now",
        "    sh:",
        "    git push",
        "    echo done",
    ]
    one, card = call(file_path="a.py", old_string="x\n", new_string="y\n")
    shown = wait_lines(one.wait, "1 of 1", due="", call=card)
    assert shown[4:10] == ["    diff:", *(f"    {line}" for line in DIFF)]


def test_the_fields_of_an_answer_are_named_before_it_is_begun() -> None:
    one = asking(Numbers)
    assert choice_lines(one.questions) == [
        "  low: whole number at least 0",
        "  high: whole number a multiple of 5",
        "  rate: number, optional",
    ]


def test_what_an_answer_changes_of_a_call_is_a_line_each() -> None:
    _, card = call(**CALLED)
    answer = {"decision": "approve", "arguments": {"customer": "ada", "cents": 42, "gift": True}}
    assert change_lines(card, answer) == [
        "  refund is called with 2 values changed",
        "    cents: 4200 -> 42",
        "    gift: not asked for -> Yes",
    ]
    less = {"decision": "approve", "arguments": {"customer": "ada"}}
    assert change_lines(card, less)[1:] == ["    cents: 4200 -> left out"]


@given(st.text(max_size=60) | st.just(HOSTILE))
def test_nothing_that_a_session_says_is_more_than_a_line_of_text(said: str) -> None:
    one, card = call(**{"name": said, said: said})
    asked = wait(subject=said or None, body=said, task="publish", tags=(said,), assignee=said)
    lines = [
        *wait_lines(asked, "1 of 1", due="in 5m", claim=said, call=card),
        *body_lines(asked),
        *change_lines(card, {"decision": "approve", "arguments": {said: [said]}}),
        *choice_lines(one.questions),
        one.entered,
    ]
    assert hidden("".join(lines).replace("\t", " ")) == []
    assert not any("\n" in line for line in lines)


# --- keys


def test_a_choice_is_made_by_number_or_letter_and_no_letter_does_two_things() -> None:
    one = asking()
    assert choice_lines(one.questions) == ["  1 a  approve", "  2 r  reject", "  3 i  edit"]
    assert prompt(one) == "[1-3, a approve, r reject, i, e edit, s skip, l, c, d, z, ?, q] "


def test_the_prompt_offers_what_can_be_done_now() -> None:
    begun = asking(Decision, "reject")
    begun.begin_again()
    assert prompt(begun, holds=True).startswith(
        "[1-3, a approve, r reject, i, k keep, e edit, s skip, u undo, "
    )
    text = asking(str)
    assert prompt(text) == "[a answer, e edit, s skip, l, c, d, z, ?, q] "
    assert choice_lines(text.questions) == []


def test_d_declines_a_call_and_delegate_is_written_out() -> None:
    one, _ = call(**CALLED)
    asked = one.questions.current
    assert asked is not None
    assert "d" not in taken(asked)  # type: ignore[arg-type]
    assert [line.split()[:2] for line in choice_lines(one.questions)[:2]] == [
        ["1", "a"],
        ["2", "d"],
    ]
    assert ", delegate, " in prompt(one)
    assert "  delegate  assign this wait to someone" in help_lines(one.questions, one.wait)


@pytest.mark.parametrize("shape", [Decision, str, bool, Order])
def test_help_names_every_key_once(shape: Any) -> None:
    one = asking(shape)
    lines = help_lines(one.questions, one.wait)
    for key in KEYS:
        assert sum(line.endswith(key.help) for line in lines) == 1, key
    letters = [line.split()[0] for line in lines if line.startswith("  ") and line[3] == " "]
    assert len(set(letters)) == len(letters), "no letter stands for two things"


# --- fields


def test_a_prompt_says_how_a_field_is_written_and_what_an_empty_line_keeps() -> None:
    one = asking(Order)
    prompts = []
    for line in ("7", "red green", "", '{"a": 1}', "y", "S1", ""):
        asked = one.questions.current
        assert asked is not None
        prompts.append(field_prompt(asked, one.questions))
        assert one.questions.take(line) == "", prompts
    assert prompts == [
        "count (whole number, 1 to 99): ",
        "colours (several, with spaces between) [none of them]: ",
        "labels (one each line, an empty line ends): ",
        "anything (JSON): ",
        "rows: 0 rows; y adds a row, Enter goes on [n] ",
        "rows 1 sku: ",
        "rows: 1 row; y adds a row, Enter goes on [n] ",
    ]
    offer = one.questions.current
    assert offer is not None
    assert field_prompt(offer, one.questions) == "gift: y fills, Enter leaves out [n] "
    assert field_lines(offer) == []
    one.begin_again()
    first = one.questions.current
    assert first is not None
    assert field_prompt(first, one.questions) == "count (whole number, 1 to 99) [7]: "
    assert field_lines(first) == ["  How many to send."]


def test_choices_stand_above_a_field_that_has_some() -> None:
    one = asking(Order, "7")
    asked = one.questions.current
    assert asked is not None
    assert field_lines(asked) == ["  1 r  red", "  2 g  green"]


# --- what was entered


def test_what_was_entered_is_shown_without_its_secrets_and_kept_without_them() -> None:
    one = asking(Login, "ana", "hunter2")
    assert one.has_draft
    assert one.entered == '{"user": "ana", "password": "••••••"}'
    kept = one.draft()
    assert kept.cells == {"user": "ana"}
    one.raw = '{"password": "hunter2"'
    assert one.draft().raw is None, "what fits no field may hold one"
    assert "hunter2" not in json.dumps(one.draft().cells)


def test_an_untouched_form_is_no_draft_and_a_broken_text_is_one() -> None:
    one = asking()
    assert not one.has_draft
    one.raw = '{"decision": \x1b[31m'
    assert one.has_draft
    assert one.entered == '{"decision": ␛[31m'
    assert one.draft().raw == one.raw


def test_begun_again_it_has_what_was_entered() -> None:
    one = asking(Decision, "reject", "not yet")
    assert one.questions.current is None
    one.begin_again()
    assert one.questions.current is not None
    assert one.built().data == {"decision": "reject", "note": "not yet"}


def test_the_editor_begins_with_what_there_is_and_offers_a_decision_that_is_not_made() -> None:
    one = asking()
    assert one.text() == ('{\n  "decision": "approve | reject | edit"\n}', ".json")
    assert one.is_undecided({"decision": "approve | reject | edit"})
    assert not one.is_undecided({"decision": "approve"})
    assert not one.is_undecided(["approve | reject | edit"])
    made = asking(Decision, "edit", "two\nlines")
    assert json.loads(made.text()[0]) == {"decision": "edit", "note": "two\nlines"}
    made.raw = "{"
    assert made.text() == ("{", ".json")
    assert asking(str).text() == ("", ".md")
    assert asking(str, "as it is").text() == ("as it is", ".md")


def test_another_s_claim_is_seen_on_the_wait_or_once_it_was_told() -> None:
    by = {"type": "api_key", "name": "local", "on_behalf_of": "bo"}
    claim = ClaimInfo.model_validate(
        {"principal": by, "on_behalf_of": "bo", "since": NOW, "until": NOW + timedelta(minutes=15)}
    )
    assert not asking().sees_another
    assert asking(claim=claim).sees_another
    assert not replace(asking(claim=claim), is_claimed=True).sees_another
    assert replace(asking(), is_claimed=True, was_warned=True).sees_another
