"""Who may answer and who stands for what, as a person reads it; what the next one's form starts with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from helmr.models import WaitInfo
from helmr.person.forms import MISSING, Blank, first_cells, form_of
from helmr.person.review.agreement import (
    agreed,
    in_words,
    initial_of,
    is_for_others,
    own_vote,
    proposal_of,
    standing,
    tally,
    why_not,
)
from tests.hostile import HOSTILE, hidden

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)


class Refund(BaseModel):
    cents: int
    pin: SecretStr = SecretStr("")
    why: str = ""


FORM = form_of(Refund.model_json_schema())


def wait(**parts: Any) -> WaitInfo:
    known = {
        "id": "wait_1",
        "session_id": "ses_1",
        "run_id": "run_1",
        "task": "refund",
        "kind": "input",
        "status": "pending",
        "opened_at": NOW,
        "answerers": ["group:finance"],
        "not_by": ["starter", "eve"],
        "approvals": 2,
        "comments": ["why"],
        "can_answer": True,
    }
    return WaitInfo.model_validate({**known, **parts})


def vote(person: str, proposal: str, **data: Any) -> dict[str, Any]:
    return {"person": person, "proposal": proposal, "data": data, "voted_at": NOW}


def voted(*votes: dict[str, Any], have: int = 1, **parts: Any) -> WaitInfo:
    voters = [one["person"] for one in votes]
    return wait(votes=list(votes), voters=voters, have=have, **parts)


def test_only_several_people_are_counted() -> None:
    assert tally(wait(have=1)) == "1 of 2"
    assert tally(wait(approvals=1)) == ""
    assert tally(wait(status="fulfilled", have=2)) == ""
    assert agreed(wait(approvals=1), FORM, "ada") == []


def test_each_proposal_says_who_stands_for_it_the_newest_first() -> None:
    asked = voted(
        vote("ada", "a", cents=5), vote("bo", "b", cents=3), vote("cy", "a", cents=5), have=2
    )
    assert agreed(asked, FORM, "dan") == [
        '2 of 2 agree: ada and cy stand for {"cents": 5}',
        'bo stands for {"cents": 3}',
    ]
    assert agreed(wait(), FORM, "ada") == ["0 of 2 agree"]


def test_an_answer_is_said_in_words_without_what_is_secret() -> None:
    asked = voted(vote("ada", "a", cents=5, pin="1234", why="late"), why=None)
    assert standing(asked, FORM) == ["1 of 2 agree: ada stands for 5, ••••••, late"]
    assert "1234" not in own_vote(asked, FORM, "Ada")
    assert own_vote(asked, FORM, "bo") == ""
    assert in_words({"decision": "pay", "lines": [{"sku": "a", "n": 2}], "note": None}) == (
        "pay, a, 2"
    )
    assert in_words({}) == "an empty answer"
    assert standing(wait(approvals=1), FORM) == []
    assert "\x1b" not in in_words(HOSTILE)


def test_what_a_list_does_not_have_is_not_made_up() -> None:
    assert agreed(wait(voters=["ada", "bo"], have=1), FORM, "cy") == [
        "1 of 2 agree: ada and bo voted"
    ]
    half = voted(vote("bo", "b", cents=3)).model_copy(update={"voters": ["ada", "bo"]})
    assert agreed(half, FORM, "cy") == ["1 of 2 agree: ada and bo voted"]


def test_no_secret_and_nothing_hidden_is_shown() -> None:
    asked = voted(vote("ada", "a", cents=5, pin="4711"), vote(HOSTILE, "b", cents=3, why=HOSTILE))
    lines = agreed(asked, FORM, None)
    assert "4711" not in "".join(lines)
    assert not hidden("".join(lines))
    assert all("\n" not in line for line in lines)
    hostile = wait(answerers=[HOSTILE], can_answer=False)
    assert not hidden(why_not(hostile, "ada"))


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({}, ""),
        ({"answerers": [], "not_by": [], "approvals": 1, "can_answer": None}, ""),
        (
            {"can_answer": False},
            "you may not answer: it is answered by 2 people: group finance, but not by starter or eve",
        ),
        (
            {"can_answer": None, "approvals": 1, "not_by": []},
            "you have not signed in as a person: it is answered by group finance",
        ),
        ({"can_answer": False, "voters": ["ada"]}, ""),
        ({"can_answer": False, "status": "fulfilled"}, ""),
    ],
)
def test_who_can_answer_is_said_before_one_types(parts: dict[str, Any], why: str) -> None:
    assert why_not(wait(**parts), "ADA") == why


def test_a_voter_may_answer_again_and_is_told_what_that_does() -> None:
    asked = voted(vote("ada", "a", cents=5), can_answer=False)
    assert agreed(asked, FORM, "Ada")[-1] == "you have voted: another answer replaces yours"
    assert len(agreed(asked, FORM, "bo")) == 1
    assert is_for_others(asked), "a review does not ask it again"
    assert not is_for_others(wait())
    assert not is_for_others(wait(answerers=[], not_by=[], approvals=1, can_answer=False))


def test_the_next_form_starts_with_the_newest_proposal_and_no_one_elses_comment() -> None:
    assert initial_of(wait()) is MISSING
    assert initial_of(wait(initial=False)) is False
    newest = vote("bo", "b", cents=3, why="it is late")
    asked = voted(vote("ada", "a", cents=5), newest, initial={"cents": 9, "why": "Because:"})
    assert initial_of(asked) == {"cents": 3, "why": "Because:"}
    assert initial_of(voted(newest)) == {"cents": 3}
    one = {**newest, "data": True}
    assert initial_of(voted(one, initial={"why": "x"})) is True


def test_a_decision_of_another_is_not_made_for_the_next_one() -> None:
    schema = {
        "type": "object",
        "properties": {"decision": {"enum": ["approve", "reject"]}, "cents": {"type": "integer"}},
        "required": ["decision", "cents"],
    }
    asked = voted(vote("ada", "a", decision="approve", cents=3))
    form = form_of(schema, initial=initial_of(asked))
    assert form.decision is not None
    cells = first_cells(form)
    assert cells.get("cents") == "3"
    assert cells[form.decision.key] is Blank.NOT_SENT


def test_a_signed_answer_is_announced_where_it_can_be_given_and_explained_where_it_can_not() -> (
    None
):
    signed = wait(signed=True, approvals=1)
    assert agreed(signed, FORM, "ada") == ["your answer is signed with your key"]
    assert agreed(wait(signed=True), FORM, "ada")[-1] == "your answer is signed with your key"
    assert agreed(wait(signed=True, approvals=1, status="fulfilled"), FORM, "ada") == []
    refused = why_not(wait(signed=True, can_answer=False), "dan")
    assert refused.endswith(", signed by the person who gives it")


def test_one_whose_groups_are_not_known_signs_in_and_is_asked_all_the_same() -> None:
    unknown = wait(can_answer=None, is_mine=False)
    assert "your groups are not known now, sign in" in why_not(unknown, "ada")
    assert not is_for_others(unknown)
    assert "you have not signed in as a person" in why_not(wait(can_answer=None), None)


def test_words_change_the_newest_proposal_but_make_the_decision_and_comments() -> None:
    schema = {
        "type": "object",
        "properties": {"decision": {"enum": ["approve", "reject"]}, "cents": {"type": "integer"}},
    }
    said = {"decision": "approve", "cents": 4, "why": "late"}
    shown = voted(vote("ada", "a", cents=5), vote("bo", "b", **said), schema=schema)
    assert proposal_of(shown) == {"cents": 4}
    assert proposal_of(wait(initial={"cents": 5})) is MISSING
    text = {"person": "ada", "proposal": "a", "data": "yes", "voted_at": NOW}
    assert proposal_of(voted(text)) is MISSING


def test_a_deputys_vote_names_both_people_and_is_the_vote_of_both() -> None:
    by = {**vote("bo", "p", cents=5), "deputy_for": "ada"}
    found = wait(votes=[by], voters=["bo", "ada"], have=1)
    assert standing(found, FORM) == ["1 of 2 agree: bo for ada stands for 5"]
    assert [own_vote(found, FORM, me) for me in ("ada", "bo", "cy")] == ["5", "5", ""]


def test_a_deputy_reads_for_whom_they_answer_and_everyone_who_is_away() -> None:
    away = [{"person": "ada", "deputy": "bo", "until": NOW}]
    one = wait(approvals=1, deputy_for=["ada"], away=away)
    assert agreed(one, FORM, "bo") == [
        "you answer for ada, as their deputy",
        "ada is away until 2026-11-30 14:00 UTC: bo answers",
    ]
    several = agreed(wait(approvals=1, deputy_for=["ada", "eve"]), FORM, "bo")
    assert several == ["you are the deputy of ada and eve: `helmr wait answer --deputy-for`"]
    hostile = wait(
        approvals=1,
        deputy_for=[HOSTILE],
        away=[{"person": HOSTILE, "deputy": HOSTILE, "until": NOW}],
    )
    assert [hidden(line) for line in agreed(hostile, FORM, "bo")] == [[], []]
