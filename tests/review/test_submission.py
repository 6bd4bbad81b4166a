"""What is sent is what was reviewed, once it could be read; sent again, it is the same operation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.person.forms import Form, form_of
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.person.review.personal import AnswerDraft, Beginning, beginning
from helmr.person.review.sending import (
    LOOKS_S,
    READS_S,
    SEES_S,
    ConfirmPress,
    SendPhase,
    Submission,
)


def reviewed() -> Submission:
    submission = Submission("op_1", SendPhase.FORM)
    submission.review({"a": 1}, '{"a": 1}', ())
    return submission


def test_a_key_typed_before_the_review_could_be_read_is_for_something_else() -> None:
    submission = reviewed()
    submission.quiet(1e9)
    assert not submission.is_readable(1e9), "it is not drawn"
    submission.drawn_s = 100.0
    submission.quiet(100.0 + READS_S / 2)
    assert not submission.is_readable(100.1 + READS_S), "nothing tells when it was typed"
    submission.quiet(100.1 + READS_S)
    assert not submission.is_readable(99.0)
    assert not submission.is_readable(100.0 + READS_S / 2)
    assert submission.is_readable(100.1 + READS_S)


def test_a_key_that_a_busy_machine_reads_late_may_have_been_typed_before_it_could_be_read() -> None:
    """Read two seconds after the drawing, and typed a tenth of a second after it."""
    submission = reviewed()
    submission.drawn_s = 100.0
    late = ConfirmPress(102.0)
    assert not submission.takes(late, is_one_of_many=False)
    submission.quiet(102.01)  # the first look that found nothing unread
    assert not submission.takes(late, is_one_of_many=False)
    assert submission.takes(ConfirmPress(102.02), is_one_of_many=False)


def test_what_may_repeat_the_press_that_confirmed_another_form_confirms_none_after_it() -> None:
    submission = reviewed()
    submission.drawn_s = 100.0
    submission.quiet(101.0)
    again = ConfirmPress(101.5, is_again=True, may_be_repeat=True)
    assert not submission.takes(again, is_one_of_many=True)
    assert submission.takes(again, is_one_of_many=False), "its own form led to this review"
    assert submission.takes(ConfirmPress(101.5, is_again=True), is_one_of_many=True)


def test_a_choice_by_a_key_counts_for_as_much_as_reading() -> None:
    """Once it can have been seen, and nothing typed ahead: neither the choice nor what confirms it."""
    submission = Submission("op_1", SendPhase.FORM)
    submission.is_to_draw()
    submission.drawn_s = 100.0
    submission.chose(100.0 + SEES_S / 2)
    submission.quiet(100.0 + SEES_S)
    assert not submission.is_readable(100.01 + SEES_S), "it was typed before it was seen"
    submission.chose(100.02 + SEES_S)
    assert not submission.is_readable(100.01 + SEES_S)
    assert submission.is_readable(100.03 + SEES_S)
    submission.is_to_draw()
    assert not submission.is_readable(101.0), "the choice was of what stood there before"


def test_a_key_counts_from_the_time_of_reading_though_the_look_before_it_takes_its_time() -> None:
    submission = reviewed()
    submission.drawn_s = 100.0
    submission.quiet(99.99 + READS_S - LOOKS_S)
    assert not submission.is_readable(100.0 + READS_S), (
        "it may have been typed before any look that counts"
    )
    submission.quiet(100.01 + READS_S - LOOKS_S)
    assert not submission.is_readable(99.99 + READS_S), "no one has read it"
    assert submission.is_readable(100.0 + READS_S)


@given(
    st.lists(st.tuples(st.sampled_from("1s"), st.floats(0.01, 0.4), st.floats(0, 0.5)), max_size=40)
)
def test_nothing_that_is_typed_ahead_of_a_form_answers_it(
    typed: list[tuple[str, float, float]],
) -> None:
    """Keys with pauses between, each read late: what was typed within `SEES_S` of the drawing sends nothing."""
    submission = Submission("op_1", SendPhase.FORM)
    submission.is_to_draw()
    submission.drawn_s, at_s, reads_s = 100.0, 99.0, 99.0
    chose_s: float | None = None
    for key, pause_s, late_s in typed:
        at_s += pause_s
        if reads_s < at_s:  # all that was typed has been read by then
            submission.quiet(at_s)
        reads_s = max(reads_s, at_s + late_s) + 0.001
        if key == "1":
            submission.chose(reads_s)
            chose_s = at_s
        elif submission.takes(ConfirmPress(reads_s), is_one_of_many=True):
            assert at_s >= 100.0 + READS_S - LOOKS_S or (
                chose_s is not None and 100.0 + SEES_S <= chose_s <= at_s
            )
            return


def test_what_is_drawn_anew_is_read_anew() -> None:
    submission = reviewed()
    submission.drawn_s = 100.0
    submission.quiet(101.0)
    submission.is_to_draw()
    assert not submission.is_readable(102.0)


@pytest.mark.parametrize("result", Result)
def test_only_what_may_have_been_accepted_stays_in_review(result: Result) -> None:
    submission = reviewed()
    submission.phase = SendPhase.SENDING
    submission.ended(AnswerOutcome(result))
    is_open = result in (Result.UNKNOWN, Result.UNAVAILABLE)
    assert submission.phase is (SendPhase.REVIEW if is_open else SendPhase.FORM)
    assert submission.tried is is_open
    assert submission.operation_id == "op_1", "whatever comes back, it is the same operation"


def test_a_try_that_broke_may_have_been_accepted() -> None:
    submission = reviewed()
    submission.broke()
    assert (submission.phase, submission.tried) == (SendPhase.REVIEW, True)


def test_a_draft_whose_send_had_no_answer_goes_on_as_its_operation() -> None:
    submission = Submission("op_2")
    submission.resume("op_1")
    assert (submission.operation_id, submission.tried) == ("op_1", True)


def form(*names: str) -> Form:
    properties: dict[str, Any] = {name: {"type": "string"} for name in names}
    return form_of({"type": "object", "properties": properties})


def draft(of: Form, **more: Any) -> AnswerDraft:
    cells: dict[str, Any] = {"a": "one", "b": "two"}
    return AnswerDraft("wait_1", of.schema_hash, cells, schema=of.schema, **more)


def test_a_form_begins_as_it_was_left() -> None:
    here = form("a", "b")
    assert beginning(None, here) == Beginning()
    begun = beginning(draft(here, raw="{"), here)
    assert (begun.cells, begun.raw) == ({"a": "one", "b": "two"}, "{")
    assert begun.note == "draft restored"
    begun = beginning(draft(here, operation_id="op_1"), here)
    assert begun.operation_id == "op_1"
    assert "sending again is the same operation" in begun.note


def test_of_a_draft_for_another_schema_comes_what_fits_and_no_operation() -> None:
    begun = beginning(draft(form("a", "b"), raw="{", operation_id="op_1"), form("a", "c"))
    assert begun.cells is not None
    assert begun.cells["a"] == "one"
    assert (begun.raw, begun.operation_id) == (None, None)
    assert begun.note == "the schema has changed since the draft; left out: b"
    begun = beginning(draft(form("a", "b")), form("a", "b", "c"))
    assert begun.note == "the schema has changed since the draft; all of it was taken over"
