"""What follows each outcome, and what the key that confirms does at each stage."""

from __future__ import annotations

import pytest

from helmr.errors import (
    HelmrError,
    NotAllowed,
    NotFound,
    OperationConflict,
    OutcomeUnknown,
    Unavailable,
    WaitClaimed,
)
from helmr.person.review.outcome import After, AnswerOutcome, Result, of_error
from helmr.person.review.sending import LOOKS_S, READS_S, PendingSends, Press, SendPhase, Submission

DONE = After(keeps_draft=False, keeps_operation=False, asks_again=False, shows_theirs=False)
REFUSED = After(keeps_draft=True, keeps_operation=False, asks_again=True, shows_theirs=False)
OPEN = After(keeps_draft=True, keeps_operation=True, asks_again=True, shows_theirs=False)
OVER = After(keeps_draft=True, keeps_operation=False, asks_again=False, shows_theirs=False)
LOST = After(keeps_draft=True, keeps_operation=False, asks_again=False, shows_theirs=True)


@pytest.mark.parametrize(
    ("result", "after"),
    [
        (Result.ACCEPTED, DONE),
        (Result.REPEATED, DONE),
        (Result.RESOLVED, LOST),
        (Result.TIMED_OUT, OVER),
        (Result.GONE, OVER),
        (Result.DENIED, OVER),
        (Result.CLAIMED, REFUSED),
        (Result.MISFIT, REFUSED),
        (Result.CONFLICT, REFUSED),
        (Result.UNKNOWN, OPEN),
        (Result.UNAVAILABLE, OPEN),
    ],
)
def test_a_draft_goes_only_when_the_answer_is_in_and_is_asked_again_only_where_that_helps(
    result: Result, after: After
) -> None:
    assert AnswerOutcome(result).after == after


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (OperationConflict("another try"), Result.RESOLVED),
        (WaitClaimed("bo is at it"), Result.CLAIMED),
        (NotAllowed("no"), Result.DENIED),
        (NotFound("gone"), Result.GONE),
        (OutcomeUnknown("no answer"), Result.UNKNOWN),
        (Unavailable("away"), Result.UNAVAILABLE),
    ],
)
def test_each_error_is_one_outcome_wherever_the_answer_was_given(
    error: HelmrError, result: Result
) -> None:
    assert of_error(error).result is result


def test_nothing_is_sent_before_its_review_unless_it_can_be_taken_back() -> None:
    one = Submission("op_1")
    assert one.press() is Press.NOTHING, "it is being read"
    one.phase = SendPhase.FORM
    assert one.press() is Press.REVIEW
    assert one.press(has_undo=True) is Press.PEND
    assert one.press(is_review=True) is Press.SEND, "the page says what it does"
    one.review({"a": 1}, "{}", ())
    assert one.press() is Press.SEND
    assert one.press(has_undo=True) is Press.SEND
    one.phase = SendPhase.SENDING
    assert one.press() is Press.NOTHING


def test_what_may_have_arrived_is_reviewed_and_sent_again_as_the_same() -> None:
    one = Submission("op_1", phase=SendPhase.FORM)
    one.ended(AnswerOutcome(Result.UNKNOWN))
    assert (one.phase, one.press(has_undo=True)) == (SendPhase.REVIEW, Press.SEND)
    one.phase = SendPhase.FORM  # back to the form
    assert one.press(has_undo=True) is Press.REVIEW, "taking it back would promise too much"


def test_a_key_typed_before_a_review_could_be_read_sends_nothing() -> None:
    one = Submission("op_1", phase=SendPhase.FORM)
    one.review({}, "{}", ())
    one.quiet(100.0)
    assert not one.is_readable(100.0), "it is not drawn"
    one.drawn_s = 100.0
    one.quiet(100.0 + READS_S - LOOKS_S - 0.01)
    assert not one.is_readable(100.01 + READS_S)
    one.quiet(100.01 + READS_S)
    assert not one.is_readable(100.0 + READS_S)
    assert one.is_readable(100.01 + READS_S)


def test_what_is_pending_says_when_the_last_of_it_leaves_and_what_takes_it_back() -> None:
    pending: PendingSends[str] = PendingSends(5.0)
    assert pending.text("u", 0.0) == ""
    pending.hold("a", 0.0)
    assert pending.text("u", 1.0) == "sends in 4 s · u takes it back"
    pending.hold("b", 2.0)
    assert pending.text("F5", 2.0).endswith("last sends in 5 s · F5 takes it back")
    assert pending.take_back() == "b"
    assert pending.text("u", 2.0) == "sends in 3 s · u takes it back"
