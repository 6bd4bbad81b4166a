"""Restricted waits: who answers them, votes until enough people agree, and what corrections may do (S-112, S-113)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from helmr.errors import (
    BadRequest,
    NotAmendable,
    NotAnAnswerer,
    SignatureNeeded,
    WaitClaimed,
    WaitResolved,
    WaitTimedOut,
)
from helmr.wait_details import WaitDetails
from helmr_runtime.core import checkpoint
from helmr_runtime.core.answerers import AnswerSignature, Identity
from helmr_runtime.core.claims import ClaimedWait, WaitClaims
from helmr_runtime.core.commands import (
    AnswerDetails,
    AnswerWait,
    OperationKey,
    StartRun,
    WithdrawVote,
)
from helmr_runtime.core.decide import decide, lifecycle
from helmr_runtime.core.drafts import DecisionContext
from helmr_runtime.core.entries import EntryKind, Principal
from helmr_runtime.core.fork import ForkSession, begin, fork
from helmr_runtime.core.people import DisabledPeople
from helmr_runtime.core.state import SessionState
from tests.core.builder import ALICE, T0, Story, of_kind, seconds
from tests.core.test_rewinds import amend, preview, rewind, same_after_crash

YES = {"decision": "approve", "cents": 100}
MORE = {"decision": "approve", "cents": 900}
NO = {"decision": "reject"}


def person(name: str, *groups: str) -> dict[str, Any]:
    identity = Identity(id=name, names=(f"{name}@example.com",), groups=groups, groups_at=T0)
    return {"principal": Principal("person", name), "identity": identity}


TASK = Principal("task", "run_0")
ADA, BO, CY = person("ada", "finance"), person("bo", "finance"), person("cy")
SIGNED = WaitDetails(answerers=("ada", "bo"), schema={"type": "object"}, signed=True)
TWO = WaitDetails(answerers=("group:finance",), approvals=2, refusals=("reject",))


def asked(details: WaitDetails = TWO, **policy: Any) -> Story:
    """A session that waits."""
    story = Story(**policy).execute()
    story.open_wait(1, details=details)
    return story


def answer(story: Story, who: Mapping[str, Any], data: Any = None, **more: Any) -> Any:
    command = AnswerWait(
        **{
            **who,
            "wait_id": story.wait.id,
            "record_id": story.new("rec"),
            "data": YES if data is None else data,
            **more,
        }
    )
    try:
        return story.do(command)
    finally:
        same_after_crash(story)


def signature(story: Story, key: str = "SHA256:a") -> AnswerSignature:
    return AnswerSignature(wait_id=story.wait.id, key=key, sshsig="-----BEGIN")


def withdraw(story: Story, who: Mapping[str, Any], **more: Any) -> Any:
    command = WithdrawVote(
        **{**who, "wait_id": story.wait.id, "person": who["identity"].id, **more}
    )
    reply = story.do(command)
    same_after_crash(story)
    return reply


def test_two_people_who_say_the_same_end_the_wait() -> None:
    story = asked()
    first = answer(story, ADA)
    assert (first["outcome"], first["have"], first["need"]) == ("voted", 1, 2)
    assert story.state.wait is not None
    last = answer(story, BO)
    assert last["outcome"] == "fulfilled"
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0]
    assert (ended.body["person"]["id"], ended.body["voters"], ended.body["have"]) == (
        "bo",
        {"ada": of_kind(story, EntryKind.WAIT_VOTED)[0].seq},
        2,
    )
    assert ended.body["person"]["groups"] == ["finance"]
    assert ended.principal == BO["principal"]
    assert ended.body["mode"] == "person"


def test_one_person_has_one_vote_whatever_they_come_with() -> None:
    story = asked()
    other = {**ADA, "principal": Principal("person", "ada", "another key")}
    assert [answer(story, who)["have"] for who in (ADA, ADA, other)] == [1, 1, 1]
    assert story.wait.votes.keys() == {"ada"}


def test_the_second_voter_edits_the_amount_and_the_first_vote_does_not_carry_it() -> None:
    story = asked()
    answer(story, ADA, YES)
    assert answer(story, BO, MORE)["have"] == 1
    assert story.state.wait is not None
    assert answer(story, ADA, {**MORE})["outcome"] == "fulfilled"
    assert story.state.taken["approval", 1].data == MORE


def test_comments_may_differ() -> None:
    story = asked(WaitDetails(approvals=2, comments=("why",)))
    answer(story, ADA, {**YES, "why": "paid before"})
    assert answer(story, CY, {**YES, "why": "trusted"})["outcome"] == "fulfilled"


def test_one_refusal_is_enough() -> None:
    story = asked()
    answer(story, ADA)
    assert answer(story, BO, NO)["outcome"] == "fulfilled"


def test_a_vote_is_taken_back_until_enough_agree() -> None:
    story = asked()
    answer(story, ADA)
    assert withdraw(story, ADA) == {
        "wait_id": story.wait.id,
        "run_id": "run_1",
        "outcome": "withdrawn",
        "have": 0,
        "need": 2,
    }
    seq = story.state.seq
    withdraw(story, ADA)
    assert story.state.seq == seq
    assert answer(story, BO)["have"] == 1
    wait_id = story.wait.id
    answer(story, ADA)
    with pytest.raises(WaitResolved):
        story.do(WithdrawVote(**ADA, wait_id=wait_id, person="ada"))


@pytest.mark.parametrize("votes_first", [True, False])
def test_a_disabled_persons_vote_counts_only_before(votes_first: bool) -> None:
    story = asked()
    wait_id = story.wait.id
    answer(story, ADA)
    if votes_first:
        answer(story, BO)
        assert story.state.wait is None
        with pytest.raises(WaitResolved):
            story.do(WithdrawVote(principal=ALICE, wait_id=wait_id, person="ada"))
    else:
        withdraw(story, ADA, principal=ALICE, reason="disabled")
        assert answer(story, BO)["have"] == 1


def test_the_vote_of_one_who_is_disabled_counts_no_more_before_it_is_taken_back() -> None:
    story = asked()
    answer(story, ADA)
    context = replace(story.context, disabled=frozenset({"Ada"}))  # as the configuration writes it
    command = AnswerWait(**BO, wait_id=story.wait.id, record_id="rec_1", data=YES)
    decided = decide(story.state, command, context)
    assert (decided.reply["outcome"], decided.reply["have"]) == ("voted", 1)
    decided = decide(story.state, command, story.context)
    last = story.write(*decided.drafts)[-1]
    assert last.body["voters"].keys() == {"ada"}
    for people, acts in ((("ADA",), True), (("cy",), False)):
        assert DisabledPeople(frozenset(people)).acts_in([last]) is acts


def test_a_vote_that_was_left_out_while_its_person_was_disabled_stands_no_more_once_they_are_enabled() -> (
    None
):
    story = asked(replace(TWO, approvals=3))
    answer(story, ADA)
    context = replace(story.context, disabled=frozenset({"ada"}))
    command = AnswerWait(**BO, wait_id=story.wait.id, record_id="rec_1", data=YES)
    story.write(*decide(story.state, command, context).drafts)
    assert story.wait.votes.keys() == {"bo"}  # as the wait's row has it
    assert answer(story, person("di", "finance"))["have"] == 2
    assert answer(story, ADA)["outcome"] == "fulfilled"


def test_the_receipt_of_a_vote_stays_for_its_operation() -> None:
    story = asked()
    operation = OperationKey(id="op_1", request_hash="h")
    wait_id = story.wait.id
    command = AnswerWait(**ADA, wait_id=wait_id, record_id="rec_1", data=YES, operation=operation)
    first = story.do(command)
    answer(story, BO)
    assert story.do(command) == first
    with pytest.raises(WaitResolved):
        story.do(AnswerWait(**ADA, wait_id=wait_id, record_id="rec_2", data=YES))


@pytest.mark.parametrize(
    "who",
    [
        CY,
        {"principal": ALICE},
        {"principal": Principal("api_key", "key", None, "ada")},
        {"principal": Principal("link", "pat_1", None, "ada")},
        {"principal": Principal("task", "run_9")},
    ],
    ids=["another person", "a key", "a name that a key says", "a link", "a task"],
)
def test_anyone_else_is_refused_and_nothing_is_stored(who: dict[str, Any]) -> None:
    story = asked()
    seq = story.state.seq
    with pytest.raises(NotAnAnswerer, match="by 2 people: group finance"):
        answer(story, who)
    assert story.state.seq == seq


def test_sends_are_kept_for_another_wait() -> None:
    story = asked()
    assert story.send(YES)["outcome"] == "unmatched"
    answer(story, ADA)
    answer(story, BO)
    story.open_wait(2, details=TWO)
    assert story.state.wait is not None
    answer(story, ADA)
    answer(story, BO)
    story.open_wait(3)
    assert story.state.wait is None, "the record that was sent first"


def test_a_restricted_wait_that_timed_out_makes_no_send_late() -> None:
    story = Story().execute()
    story.open_wait(1, details=TWO, timeout_s=10)
    story.now += seconds(10)
    story.deadline()
    assert story.send(YES)["outcome"] == "buffered"


def test_a_vote_at_the_deadline_comes_too_late() -> None:
    story = Story().execute()
    story.open_wait(1, details=TWO, timeout_s=10)
    answer(story, ADA)
    story.now += seconds(10)
    with pytest.raises(WaitTimedOut):
        answer(story, {**BO, "wait_id": story.wait.id})
    assert story.state.wait is None


def test_an_admin_overrides_with_a_reason() -> None:
    said = AnswerDetails(override_reason="both are on leave")
    story = asked()
    with pytest.raises(NotAnAnswerer, match="no admin"):
        answer(story, ADA, details=said)
    reply = answer(story, {"principal": ALICE}, details=said, may_override=True)
    assert reply["outcome"] == "fulfilled"
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0]
    assert ended.body["override_reason"] == "both are on leave"
    assert "person" not in ended.body
    other = asked(WaitDetails())
    with pytest.raises(BadRequest):
        answer(other, {"principal": ALICE}, details=said, may_override=True)


def test_an_admin_without_a_reason_is_as_anyone() -> None:
    with pytest.raises(NotAnAnswerer):
        answer(asked(), {"principal": ALICE}, may_override=True)


def test_a_default_of_the_escalation_stays_the_authors_word() -> None:
    escalation = ({"do": "default", "after_s": 5, "from": "opened", "value": NO},)
    story = Story().execute()
    story.open_wait(1, details=WaitDetails(approvals=2, escalation=escalation))
    answer(story, ADA)
    story.now += seconds(5)
    story.deadline()
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[0].body["mode"] == "default"


@pytest.mark.parametrize(
    "starter", [ADA["principal"], Principal("api_key", "key", "deploy-bot", "Ada")]
)
def test_the_person_who_started_the_session_is_excluded(starter: Principal) -> None:
    story = asked(WaitDetails(not_by=("starter",)), starter=starter)
    opened = of_kind(story, EntryKind.WAIT_OPENED)[0]
    assert opened.body["not_by"] == ["starter", "ada"]
    with pytest.raises(NotAnAnswerer):
        answer(story, ADA)
    assert answer(story, BO)["outcome"] == "fulfilled"


def not_by_starter(story: Story, op: int) -> list[str]:
    """Whom a wait leaves out that the newest run opens."""
    story.execute().open_wait(op, details=WaitDetails(not_by=("starter",)))
    same_after_crash(story)
    return list(of_kind(story, EntryKind.WAIT_OPENED)[-1].body["not_by"])[1:]


def test_in_a_child_the_starter_is_also_who_started_those_above_it() -> None:
    story = asked(WaitDetails(not_by=("starter",)), starter=TASK, starters=("ada", "eve"))
    for who in (ADA, person("eve")):
        with pytest.raises(NotAnAnswerer):
            answer(story, who)
    assert answer(story, BO)["outcome"] == "fulfilled"
    assert story.state.all_starters == ["ada", "eve"]


def test_the_sender_of_the_record_that_starts_a_run_is_its_starter() -> None:
    story = Story(starter=BO["principal"], on_idle_input="run").execute()
    story.write(
        *lifecycle.run_succeeded(story.state, story.run, None, story.context, next_run_id="run_2")
    )
    story.send(**ADA)
    assert not_by_starter(story, 1) == ["bo", "ada"]
    story.send("later", stream="chat", **CY)
    story.write(
        *lifecycle.run_succeeded(story.state, story.run, None, story.context, next_run_id="run_3")
    )
    assert not_by_starter(story, 1) == ["bo", "cy"], "of the newest run only"


def test_a_run_that_goes_on_as_another_has_its_starter() -> None:
    story = Story().execute()
    story.write(
        *lifecycle.run_succeeded(story.state, story.run, None, story.context, next_run_id="run_2")
    )
    story.do(StartRun(**ADA, run_id="run_3"))
    story.execute().write(*lifecycle.run_continued(story.run, {}, "run_4"))
    assert not_by_starter(story, 1) == ["ada"]


def test_who_forks_a_session_is_a_starter_of_the_fork() -> None:
    story = asked(WaitDetails(not_by=("starter",)), starter=BO["principal"])
    command = ForkSession(
        **ADA,
        origin_id=story.state.id,
        session_id="ses_2",
        to_op=1,
        reason="what if",
        answer=None,
        record_id="rec_9",
        operation=OperationKey(id="op_f", request_hash="f"),
    )
    copies = fork(story.entries, 1, session_id="ses_2", new_id=lambda prefix: f"{prefix}_f")
    forked = Story()
    forked.state, forked.entries = SessionState("ses_2"), []
    for entry in copies:
        forked.state.apply(entry)
        forked.entries.append(entry)
    forked.write(*begin(story.entries, copies, command, T0))
    assert not_by_starter(forked, 1) == ["bo", "ada"]


def test_an_earlier_checkpoint_that_says_less_of_starters_is_no_damage() -> None:
    story = Story(starter=BO["principal"]).execute()
    story.write(
        *lifecycle.run_succeeded(story.state, story.run, None, story.context, next_run_id="run_2")
    )
    story.do(StartRun(**ADA, run_id="run_3"))
    content = json.loads(checkpoint.save(story.state, {}))
    content["session"]["starters"] = ["bo", "ada"]
    del content["run"]["starters"]
    earlier = checkpoint.restore("ses_1", json.dumps(content), {})
    assert checkpoint.difference(story.state, earlier) is None
    assert earlier.all_starters == ["bo", "ada"]
    content["session"]["starters"] = ["ada"]
    lacks_one = checkpoint.restore("ses_1", json.dumps(content), {})
    assert checkpoint.difference(story.state, lacks_one) == "starters"


def test_a_question_with_other_answerers_is_another_question() -> None:
    hashes = set()
    for details in (
        WaitDetails(),
        WaitDetails(answerers=("ada",)),
        WaitDetails(answerers=("ada",), approvals=2),
        WaitDetails(not_by=("ada",)),
        WaitDetails(refusals=("no",)),
        WaitDetails(signed=True),
    ):
        story = asked(details)
        hashes.add(of_kind(story, EntryKind.WAIT_OPENED)[0].body["question_hash"])
    assert len(hashes) == 6


def test_amending_needs_the_people_who_may_answer() -> None:
    story = asked(WaitDetails(answerers=("ada",)))
    wait_id = story.wait.id
    answer(story, ADA)
    for who in (BO, {"principal": ALICE}):
        with pytest.raises(NotAnAnswerer):
            amend(story, wait_id, MORE, **who)
    amend(story, wait_id, MORE, **ADA)
    assert of_kind(story, EntryKind.RUN_REWOUND)[0].body["person"]["id"] == "ada"


def test_what_several_people_answered_one_does_not_amend() -> None:
    story = asked()
    wait_id = story.wait.id
    answer(story, ADA)
    answer(story, BO)
    with pytest.raises(NotAmendable):
        amend(story, wait_id, MORE, **ADA)
    amend(story, wait_id, MORE, override_reason="a slip", may_override=True)
    assert of_kind(story, EntryKind.RUN_REWOUND)[0].body["override_reason"] == "a slip"


def test_a_rewind_keeps_what_they_agreed_on_or_asks_all_of_them_again() -> None:
    story = asked()
    answer(story, ADA)
    answer(story, BO)
    rewind(story, 1)
    story.execute().open_wait(1, details=TWO)
    assert story.state.wait is None
    rewind(story, 1, keep_answers=False)
    story.execute().open_wait(1, details=TWO)
    assert answer(story, ADA)["have"] == 1


def test_a_rewind_takes_open_votes_with_it() -> None:
    story = asked()
    answer(story, ADA)
    rewind(story, 1)
    story.execute().open_wait(1, details=TWO)
    assert story.wait.votes == {}
    assert preview(story, 1).held == ()


@pytest.mark.parametrize(
    ("details", "who", "error"),
    [
        (WaitDetails(answerers=("ada",)), ADA, None),
        (WaitDetails(answerers=("ada",)), BO, NotAnAnswerer),
        (WaitDetails(answerers=("ada",)), {"principal": ALICE}, NotAnAnswerer),
        (TWO, ADA, NotAmendable),
        (SIGNED, ADA, NotAmendable),
        (TWO, {"principal": ALICE, "override_reason": "a test", "may_override": True}, None),
    ],
)
def test_the_answer_of_a_fork_needs_the_same(
    details: WaitDetails, who: dict[str, Any], error: type[Exception] | None
) -> None:
    story = asked(details)
    command = ForkSession(
        **{
            "origin_id": story.state.id,
            "session_id": "ses_2",
            "to_op": 1,
            "reason": "what if",
            "answer": (YES,),
            "record_id": "rec_9",
            "operation": OperationKey(id="op_f", request_hash="f"),
            **who,
        }
    )
    copies = fork(story.entries, 1, session_id="ses_2", new_id=lambda prefix: f"{prefix}_f")
    if error is None:
        forked = begin(story.entries, copies, command, T0)[0]
        assert {"person", "override_reason"} & set(forked.body)
        return
    with pytest.raises(error):
        begin(story.entries, copies, command, T0)


def test_a_voters_claim_is_given_back_and_anothers_is_in_the_way() -> None:
    story = asked()
    wait = ClaimedWait(wait_id=story.wait.id, run_id="run_1", op=1)
    claims = WaitClaims(wait=wait, as_of=T0).claimed(ADA["principal"], T0, for_s=900)
    context = DecisionContext(now=T0, policy=story.policy, is_hot=True, claims=claims)
    command = AnswerWait(**ADA, wait_id=story.wait.id, record_id="rec_1", data=YES)
    kinds = [draft.kind for draft in decide(story.state, command, context).drafts]
    assert kinds == [EntryKind.WAIT_CLAIM_ENDED, EntryKind.WAIT_VOTED]
    with pytest.raises(WaitClaimed):
        decide(
            story.state,
            AnswerWait(**BO, wait_id=story.wait.id, record_id="rec_2", data=YES),
            context,
        )


def test_a_signed_answer_is_recorded_with_its_signature_and_an_unsigned_one_is_not() -> None:
    story = asked(SIGNED)
    seq = story.state.seq
    with pytest.raises(SignatureNeeded):
        answer(story, ADA)
    with pytest.raises(NotAnAnswerer):
        answer(story, CY, signature=signature(story))
    assert story.state.seq == seq
    given = signature(story)
    answer(story, ADA, signature=given)
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0]
    assert ended.body["signature"] == given.recorded()


def test_each_vote_is_signed() -> None:
    story = asked(WaitDetails(approvals=2, signed=True, refusals=("reject",)))
    answer(story, ADA, signature=signature(story))
    for data in (YES, NO):
        with pytest.raises(SignatureNeeded):
            answer(story, BO, data)
    answer(story, BO, signature=signature(story, "SHA256:b"))
    voted = of_kind(story, EntryKind.WAIT_VOTED)[0].body["signature"]["key"]
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0].body["signature"]["key"]
    assert (voted, ended) == ("SHA256:a", "SHA256:b")


def test_an_admin_overrides_without_a_signature_and_says_why() -> None:
    story = asked(SIGNED)
    said = AnswerDetails(override_reason="their key is lost")
    answer(story, {"principal": ALICE}, details=said, may_override=True)
    ended = of_kind(story, EntryKind.WAIT_FULFILLED)[0].body
    assert (ended["override_reason"], "signature" in ended) == ("their key is lost", False)


def test_a_signature_that_no_one_asks_for_is_refused() -> None:
    for details in (WaitDetails(), WaitDetails(answerers=("ada",))):
        story = asked(details)
        with pytest.raises(BadRequest, match="asks for no signature"):
            answer(story, ADA, signature=signature(story))


def test_what_was_signed_is_asked_anew_and_not_amended() -> None:
    story = asked(SIGNED)
    wait_id = story.wait.id
    answer(story, ADA, signature=signature(story))
    with pytest.raises(NotAmendable, match="signed"):
        amend(story, wait_id, MORE, **ADA)
    amend(story, wait_id, MORE, override_reason="a slip", may_override=True)


def test_the_copy_of_a_fork_keeps_the_wait_that_was_signed() -> None:
    story = asked(SIGNED)
    wait_id = story.wait.id
    answer(story, ADA, signature=signature(story))
    story.open_wait(2)
    copies = fork(story.entries, 2, session_id="ses_2", new_id=lambda prefix: f"{prefix}_f")
    [ended] = [one for one in copies if one.kind is EntryKind.WAIT_FULFILLED]
    assert ended.body["wait_id"] != wait_id
    assert ended.body["signature"]["wait_id"] == wait_id
