"""A deputy answers for a person who is away, and never where that person could not (S-142)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from helmr.errors import (
    BadRequest,
    GroupsUnknown,
    HelmrError,
    NotAnAnswerer,
    SignatureNeeded,
    WaitClaimed,
)
from helmr.wait_details import WaitDetails
from helmr_runtime.core.answerers import AnswerSignature, Identity
from helmr_runtime.core.claims import ClaimedWait, WaitClaims
from helmr_runtime.core.commands import AnswerDetails, AnswerWait, WithdrawVote
from helmr_runtime.core.decide import decide
from helmr_runtime.core.delegations import PROVEN_GROUPS_FOR, Delegation, Deputy
from helmr_runtime.core.drafts import DecisionContext
from helmr_runtime.core.entries import EntryKind, Principal
from helmr_runtime.core.people import DisabledPeople
from tests.core.builder import T0, Story, of_kind, seconds
from tests.core.test_rewinds import same_after_crash

YES, NO = {"decision": "approve"}, {"decision": "reject"}


def person(name: str, *groups: str) -> dict[str, Any]:
    identity = Identity(id=name, names=(f"{name}@example.com",), groups=groups, groups_at=T0)
    return {"principal": Principal("person", name, via=f"key_{name}"), "identity": identity}


BO, CY, DI = person("bo"), person("cy", "finance"), person("di", "interns")


def delegation(
    delegator: str = "ada", deputy: str = "bo", number: int = 1, **more: Any
) -> Delegation:
    said: dict[str, Any] = {
        "id": f"dlg_{number}",
        "delegator": delegator,
        "deputy": deputy,
        "starts_at": T0,
        "ends_at": T0 + timedelta(days=7),
        "made_by": Principal("person", delegator),
        "made_at": T0,
    }
    return Delegation(**{**said, **more})


def to(
    delegator: str = "ada",
    deputy: str = "bo",
    number: int = 1,
    *,
    groups: tuple[str, ...] = ("finance",),
    claims_groups: bool = False,
    **more: Any,
) -> Deputy:
    return Deputy(
        delegation=delegation(delegator, deputy, number, **more),
        names=(f"{delegator}@example.com",),
        file_groups=groups,
        claims_groups=claims_groups,
    )


FOR_ADA = to()
ONE = WaitDetails(answerers=("group:finance",))
TWO = WaitDetails(answerers=("group:finance", "bo"), approvals=2, refusals=("reject",))


def asked(details: WaitDetails = ONE, **more: Any) -> Story:
    story = Story(**more).execute()
    story.open_wait(1, details=details)
    return story


def command(story: Story, who: Mapping[str, Any], *deputies: Deputy, **more: Any) -> AnswerWait:
    said: dict[str, Any] = {"wait_id": story.wait.id, "record_id": story.new("rec"), "data": YES}
    return AnswerWait(**{**said, **who, "deputies": deputies, **more})


def answer(story: Story, who: Mapping[str, Any], *deputies: Deputy, **more: Any) -> Any:
    try:
        return story.do(command(story, who, *deputies, **more))
    finally:
        same_after_crash(story)


def refused(story: Story, who: Mapping[str, Any], *deputies: Deputy, **more: Any) -> HelmrError:
    seq = story.state.seq
    with pytest.raises((NotAnAnswerer, GroupsUnknown, BadRequest)) as raised:
        answer(story, who, *deputies, **more)
    assert story.state.seq == seq, "nothing is stored"
    return raised.value


def test_a_deputy_answers_and_the_entry_names_both_and_holds_the_delegation() -> None:
    story = asked()
    reply = answer(story, BO, to(reason="on leave"))
    assert (reply["outcome"], reply["deputy_for"]) == ("fulfilled", "ada")
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0]
    assert ended.body["person"] == {"id": "bo", "names": ["bo@example.com"]}
    assert ended.body["delegation"] == {
        "id": "dlg_1",
        "delegator": "ada",
        "deputy": "bo",
        "starts_at": "2030-01-01T00:00:00.000000Z",
        "ends_at": "2030-01-08T00:00:00.000000Z",
        "made_by": {"type": "person", "id": "ada"},
        "made_at": "2030-01-01T00:00:00.000000Z",
        "reason": "on leave",
        "names": ["ada@example.com"],
        "groups": ["finance"],
    }
    by = Principal("person", "bo", None, "ada", "key_bo")
    accepted = of_kind(story, EntryKind.INPUT_ACCEPTED)[0]
    assert (ended.principal, accepted.principal) == (by, by)


def test_a_person_whom_the_wait_admits_answers_as_themselves_unless_they_say_for_whom() -> None:
    story = asked()
    assert "deputy_for" not in answer(story, CY, to(deputy="cy"))
    assert "delegation" not in of_kind(story, EntryKind.WAIT_FULFILLED)[0].body
    story = asked()
    assert answer(story, CY, to(deputy="cy"), deputy_for="ADA")["deputy_for"] == "ada"


def test_the_deputy_of_several_says_for_whom() -> None:
    both = FOR_ADA, to("eve", number=2)
    error = refused(asked(), BO, *both)
    assert "deputy of ada and of eve" in str(error)
    assert "--deputy-for" in (error.hint or "")
    assert answer(asked(), BO, *both, deputy_for="eve")["deputy_for"] == "eve"
    assert answer(asked(), BO, FOR_ADA, to(number=2))["deputy_for"] == "ada", "one person twice"
    assert answer(asked(), BO, FOR_ADA, to("eve", number=2, groups=()))["deputy_for"] == "ada"


LATER = T0 + timedelta(days=1)


@pytest.mark.parametrize(
    ("deputy", "says"),
    [
        (to(deputy="cy"), "dlg_1 is to cy"),
        (to(starts_at=LATER), "dlg_1 begins at 2030-01-02"),
        (to(starts_at=T0 - timedelta(days=9), ends_at=T0), "dlg_1 has ended"),
        (to(tasks=("refund",)), "dlg_1 is for tasks refund"),
        (to(streams=("chat",)), "dlg_1 is for streams chat"),
        (to(tags=("spring",)), "dlg_1 is for tags spring"),
        (to(tags=("a",), streams=("chat",)), "dlg_1 is for streams chat; tags a"),
        (to(groups=()), "can't be answered by ada: it is answered by group finance"),
    ],
)
def test_a_delegation_that_does_not_reach_the_wait_is_refused_in_words(
    deputy: Deputy, says: str
) -> None:
    assert says in str(refused(asked(), BO, deputy, deputy_for="ada"))
    assert "can't be answered by bo: it is answered by group finance" in str(
        refused(asked(), BO, deputy)
    )


@pytest.mark.parametrize(
    "scope",
    [
        {"tasks": ("other", "review")},
        {"streams": ("approval",)},
        {"tags": ("x",)},
        {"tags": ("a",)},
        {"tasks": ("review",), "streams": ("approval",), "tags": ("a", "x")},
    ],
    ids=["task", "stream", "tag of the wait", "tag of the session", "all"],
)
def test_a_delegation_is_for_tasks_streams_and_tags(scope: dict[str, Any]) -> None:
    details = WaitDetails(answerers=("ada",), tags=("x",))
    assert answer(asked(details), BO, to(**scope))["deputy_for"] == "ada"


@pytest.mark.parametrize(
    ("not_by", "groups"),
    [
        (("ada",), ()),
        (("ada@example.com",), ()),
        (("group:finance",), ("finance",)),
        (("bo",), ()),
        (("bo@example.com",), ()),
    ],
)
def test_neither_of_the_two_may_be_excluded(
    not_by: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    details = WaitDetails(answerers=("ada",), not_by=not_by)
    refused(asked(details), BO, to(groups=groups), deputy_for="ada")
    refused(asked(details), BO, to(groups=groups))


def test_the_deputy_is_excluded_by_their_group_and_by_a_name_that_is_said() -> None:
    story = asked(WaitDetails(answerers=("ada",), not_by=("group:interns",)))
    refused(story, DI, to(deputy="di"))
    said = {**BO, "principal": Principal("person", "bo", None, "eve")}
    refused(asked(WaitDetails(answerers=("ada",), not_by=("eve",))), said, FOR_ADA)


@pytest.mark.parametrize("starter", ["ada", "bo"])
def test_neither_of_the_two_may_have_started_the_session(starter: str) -> None:
    story = asked(
        WaitDetails(answerers=("ada", "bo"), not_by=("starter",)),
        starter=Principal("person", starter),
    )
    refused(story, BO, FOR_ADA, deputy_for="ada")


def test_a_wait_refuses_deputies_and_a_signed_one_does_unless_it_says_otherwise() -> None:
    none = WaitDetails(answerers=("ada",), deputies=False)
    assert "it takes no deputies" in str(refused(asked(none), BO, FOR_ADA, deputy_for="ada"))
    refused(asked(none), BO, FOR_ADA)
    schema = {"type": "object"}
    signed = WaitDetails(answerers=("ada",), schema=schema, signed=True)
    assert "no deputies" in str(refused(asked(signed), BO, FOR_ADA, deputy_for="ada"))
    story = asked(WaitDetails(answerers=("ada",), schema=schema, signed=True, deputies=True))
    with pytest.raises(SignatureNeeded) as raised:
        answer(story, BO, FOR_ADA)
    facts = raised.value.facts
    assert (facts["delegation"], facts["deputy_for"]) == ("dlg_1", "ada")
    signature = AnswerSignature(wait_id=story.wait.id, key="SHA256:b", sshsig="-----BEGIN")
    assert answer(story, BO, FOR_ADA, signature=signature)["deputy_for"] == "ada"
    assert {"signature", "delegation"} <= of_kind(story, EntryKind.WAIT_FULFILLED)[0].body.keys()


@pytest.mark.parametrize(
    ("age", "admits"),
    [
        (timedelta(0), True),
        (PROVEN_GROUPS_FOR - seconds(1), True),
        (PROVEN_GROUPS_FOR, False),
    ],
)
def test_groups_proven_when_it_was_made_count_for_14_days(age: timedelta, admits: bool) -> None:
    said = delegation(made_at=T0 - age, groups=("finance",))
    proven = Deputy(delegation=said, claims_groups=True)
    story = asked()
    if admits:
        assert answer(story, BO, proven)["deputy_for"] == "ada"
        return
    for error in (refused(story, BO, proven), refused(story, BO, proven, deputy_for="ada")):
        assert isinstance(error, GroupsUnknown)
        assert "count for 14 days" in error.message
        assert "ada signs in and delegates again" in (error.hint or "")


def test_groups_that_were_not_proven_admit_no_one_and_those_of_the_file_do() -> None:
    unknown = to(groups=(), claims_groups=True)
    assert isinstance(refused(asked(), BO, unknown), GroupsUnknown)
    excluded = WaitDetails(answerers=("ada",), not_by=("group:on-call",))
    assert isinstance(refused(asked(excluded), BO, unknown), GroupsUnknown)
    by_name = WaitDetails(answerers=("ada",))
    assert answer(asked(by_name), BO, unknown)["deputy_for"] == "ada"
    of_file = to(groups=("finance",), claims_groups=True)
    assert answer(asked(), BO, of_file)["deputy_for"] == "ada"


def test_anyone_but_a_proven_person_is_no_deputy() -> None:
    for who in (
        {"principal": Principal("api_key", "key", None, "bo")},
        {"principal": BO["principal"]},
    ):
        refused(asked(), who, FOR_ADA)
        refused(asked(), who, FOR_ADA, deputy_for="ada")
    assert "is not ada's deputy now" in str(refused(asked(), BO, deputy_for="ada"))
    assert isinstance(
        refused(
            asked(),
            BO,
            FOR_ADA,
            deputy_for="ada",
            may_override=True,
            details=AnswerDetails(override_reason="away"),
        ),
        BadRequest,
    )


def test_one_hop_a_deputys_deputy_is_none() -> None:
    chain = to("bo", "cy", groups=())
    story = asked(WaitDetails(answerers=("ada",)))
    refused(story, person("cy"), chain)
    refused(story, person("cy"), chain, deputy_for="ada")


def test_a_wait_that_anyone_answers_takes_a_deputy_who_says_for_whom() -> None:
    story = asked(WaitDetails())
    assert "deputy_for" not in answer(story, BO, FOR_ADA)
    story = asked(WaitDetails())
    assert answer(story, BO, FOR_ADA, deputy_for="ada")["deputy_for"] == "ada"
    refused(asked(WaitDetails(deputies=False)), BO, FOR_ADA, deputy_for="ada")


def context(story: Story, **more: Any) -> DecisionContext:
    known = story.context
    return DecisionContext(now=known.now, policy=known.policy, is_hot=known.is_hot, **more)


@pytest.mark.parametrize(
    "gone", [{"disabled": frozenset({"ADA"})}, {"ended": frozenset({"dlg_1"})}]
)
def test_a_disabled_delegator_and_an_ended_delegation_admit_no_one(gone: dict[str, Any]) -> None:
    story = asked()
    for said in (None, "ada"):
        asks = command(story, BO, FOR_ADA, deputy_for=said)
        with pytest.raises(NotAnAnswerer):
            decide(story.state, asks, context(story, **gone))
    other = to(number=2, groups=("finance",))
    if "ended" in gone:
        decided = decide(story.state, command(story, BO, FOR_ADA, other), context(story, **gone))
        assert decided.drafts[-1].body["delegation"]["id"] == "dlg_2"


# --- votes ----------------------------------------------------------------------------------------


def test_a_human_counts_once_as_themselves_or_as_a_deputy() -> None:
    story = asked(TWO)
    first = answer(story, BO, FOR_ADA, deputy_for="ada")
    assert (first["outcome"], first["have"], first["deputy_for"]) == ("voted", 1, "ada")
    assert story.wait.votes.keys() == {"ada", "bo"}
    assert story.wait.standing() == 1
    assert answer(story, BO)["have"] == 1, "their own vote replaces the one for ada"
    assert story.wait.votes.keys() == {"bo"}
    assert answer(story, BO, FOR_ADA, deputy_for="ada")["have"] == 1
    assert answer(story, person("ada", "finance"))["have"] == 1, "ada's own replaces the deputy's"
    assert story.wait.votes.keys() == {"ada"}
    assert answer(story, BO)["outcome"] == "fulfilled", "two humans"


def test_two_deputies_of_one_person_are_one_vote_and_those_of_two_are_two() -> None:
    story = asked(TWO)
    answer(story, BO, FOR_ADA, deputy_for="ada")
    assert answer(story, DI, to(deputy="di", number=2))["have"] == 1
    assert story.wait.votes.keys() == {"ada", "di"}
    last = answer(story, BO, to("eve", number=3), deputy_for="eve")
    assert last["outcome"] == "fulfilled"
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0].body
    seq = of_kind(story, EntryKind.WAIT_VOTED)[-1].seq
    assert (ended["voters"], ended["have"]) == ({"di": seq, "ada": seq}, 2)


def test_a_vote_by_a_deputy_is_taken_back_by_either_and_falls_with_either() -> None:
    for name in ("ada", "bo"):
        story = asked(TWO)
        answer(story, BO, FOR_ADA, deputy_for="ada")
        who = person(name, "finance")
        reply = story.do(WithdrawVote(**who, wait_id=story.wait.id, person=name))
        assert (reply["have"], story.wait.votes) == (0, {})
        answer(story, BO, FOR_ADA, deputy_for="ada")
        asks = command(story, CY)
        decided = decide(story.state, asks, context(story, disabled=frozenset({name})))
        assert (decided.reply["outcome"], decided.reply["have"]) == ("voted", 1)
        last = story.write(*decide(story.state, asks, story.context).drafts)[-1]
        assert DisabledPeople(frozenset({name})).acts_in([last])
        assert not DisabledPeople(frozenset({"zoe"})).acts_in([last])


def test_one_refusal_by_a_deputy_is_enough() -> None:
    story = asked(TWO)
    assert answer(story, BO, FOR_ADA, deputy_for="ada", data=NO)["outcome"] == "fulfilled"


def test_the_entries_of_a_deputy_are_those_of_a_disabled_delegator_too() -> None:
    story = asked()
    operation = {"operation": None}
    answer(story, BO, FOR_ADA, **operation)
    by = of_kind(story, EntryKind.WAIT_FULFILLED)[0].principal
    assert DisabledPeople(frozenset({"ada"})).has(by)
    assert DisabledPeople(frozenset({"bo"})).has(by)


def test_a_deputys_own_claim_does_not_stand_in_their_way() -> None:
    story = asked()
    wait = ClaimedWait(wait_id=story.wait.id, run_id=story.run.id, op=1)
    free = WaitClaims(wait=wait, as_of=T0)
    own = free.claimed(BO["principal"], T0, for_s=60)
    decided = decide(story.state, command(story, BO, FOR_ADA), context(story, claims=own))
    assert decided.reply["outcome"] == "fulfilled"
    others = free.claimed(CY["principal"], T0, for_s=60)
    with pytest.raises(WaitClaimed):
        decide(story.state, command(story, BO, FOR_ADA), context(story, claims=others))
