"""Operations are remembered, and receipts rebuilt from entries are those that were given (S-61)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from helmr.errors import DataError, OperationConflict
from helmr_runtime.core.commands import (
    AddNote,
    AnswerWait,
    CancelRun,
    CancelSession,
    CloseSession,
    OperationKey,
    Resume,
    RetryRun,
    Send,
    SessionCommand,
    StartRun,
    receipt_of,
)
from helmr_runtime.core.entries import Principal
from tests.core.builder import ALICE, Story

OPERATION = OperationKey(id="op_1", request_hash="hash")


def _send(story: Story) -> SessionCommand:
    return Send(
        principal=ALICE,
        record_id="rec_1",
        stream="approval",
        data=1,
        next_run_id="run_9",
        operation=OPERATION,
    )


def _answer(story: Story) -> SessionCommand:
    story.open_wait(1)
    return AnswerWait(
        principal=ALICE, wait_id=story.wait.id, record_id="rec_1", data=1, operation=OPERATION
    )


def _start_run(story: Story) -> SessionCommand:
    story.succeed()
    return StartRun(principal=ALICE, run_id="run_2", operation=OPERATION)


def _cancel_run(story: Story) -> SessionCommand:
    return CancelRun(principal=ALICE, run_id="run_1", next_run_id="run_2", operation=OPERATION)


def _retry_run(story: Story) -> SessionCommand:
    story.fail()
    return RetryRun(principal=ALICE, run_id="run_1", operation=OPERATION)


def _cancel_session(story: Story) -> SessionCommand:
    return CancelSession(principal=ALICE, operation=OPERATION)


def _close(story: Story) -> SessionCommand:
    story.succeed()
    return CloseSession(principal=ALICE, operation=OPERATION)


def _note(story: Story) -> SessionCommand:
    return AddNote(principal=ALICE, note_id="note_1", text="looks fine", operation=OPERATION)


COMMANDS = [
    _send,
    _answer,
    _start_run,
    _cancel_run,
    _retry_run,
    _cancel_session,
    _close,
    _note,
]


@pytest.mark.parametrize("make", COMMANDS)
@pytest.mark.parametrize("policy", [{}, {"on_idle_input": "run"}, {"after_run": "close"}])
def test_the_entry_that_carries_the_operation_rebuilds_the_receipt(
    make: Callable[[Story], SessionCommand], policy: Mapping[str, Any]
):
    story = Story(**policy).execute()
    if make is _start_run or make is _retry_run or make is _close:
        story.policy = Story().policy
    command = make(story)
    given = story.do(command)
    [carrier] = [e for e in story.entries if e.body.get("operation", {}).get("id") == "op_1"]
    assert receipt_of(carrier) == dict(given)
    assert carrier.body["operation"]["request_hash"] == "hash"


@pytest.mark.parametrize("make", COMMANDS)
def test_a_repeated_operation_gets_its_first_receipt_before_any_state_check(
    make: Callable[[Story], SessionCommand],
):
    story = Story().execute()
    command = make(story)
    given = dict(story.do(command))
    for is_crash in (False, True):
        if is_crash:
            story.state = story.refold()
        story.cancel_session()
        before = story.state.seq
        assert dict(story.do(command)) == given
        assert story.state.seq == before


@pytest.mark.parametrize("make", COMMANDS)
def test_an_operation_id_of_another_caller_conflicts(make: Callable[[Story], SessionCommand]):
    story = Story().execute()
    command = make(story)
    given = dict(story.do(command))
    for other in (Principal("api_key", "key_2"), Principal("public_token", ALICE.id)):
        with pytest.raises(OperationConflict):
            story.do(replace(command, principal=other))
    renamed = replace(ALICE, on_behalf_of="Zoë")
    assert dict(story.do(replace(command, principal=renamed))) == given


def test_an_operation_id_with_another_request_conflicts():
    story = Story().execute()
    story.do(_send(story))
    other = OperationKey(id="op_1", request_hash="other")
    with pytest.raises(OperationConflict):
        story.send(operation=other)
    with pytest.raises(OperationConflict):
        story.close(operation=other)


def test_the_start_of_a_session_is_an_operation_too():
    story = Story()
    assert receipt_of(story.entries[0]) == {
        "session_id": "ses_1",
        "run_id": "run_1",
        "created": True,
    }
    assert "op_start" in story.state.operations


def test_an_entry_without_a_receipt_says_so():
    with pytest.raises(DataError):
        receipt_of(Story().execute().entries[-1])


def test_touching_changes_nothing():
    story = Story().execute()
    decision = story.decide(Resume(principal=ALICE))
    assert decision.drafts == ()
    assert decision.error is None


def test_a_refused_operation_is_not_remembered():
    story = Story().execute()
    operation = OperationKey(id="op_2", request_hash="h")
    story.succeed()
    story.cancel_run(operation=operation)  # already over: changes nothing
    assert "op_2" not in story.state.operations
