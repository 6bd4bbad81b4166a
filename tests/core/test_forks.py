"""A new session that begins with another's past (S-86)."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from helmr.errors import ForkRefused, OpNotFound
from helmr.models import SessionStatus
from helmr.wait_details import WaitDetails
from helmr.wire.roles import ScopeType
from helmr_runtime.core.children import CHILD_STEP
from helmr_runtime.core.corrections import plan_rewind
from helmr_runtime.core.decide.ops import create_public_token, create_token
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.fork import fork
from helmr_runtime.core.public_tokens import Scope
from helmr_runtime.core.requests import PublicTokenOp, TokenOp
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import NewToken
from tests.core.builder import Story, journal_ops
from tests.core.test_rewinds import amend, answered, ask, rewind, running, step, taken

TOKEN = NewToken(
    token_id="tok_1",
    public_token_id="pat_of_tok_1",
    key_id="k1",
    callback_hash="a hash",
    public_token_hash="another hash",
    timeout_s=60,
)
PUBLIC = PublicTokenOp(
    "pat_1", "k1", "its hash", Scope(type=ScopeType.TOKEN_COMPLETE, token_id="tok_1"), 1, 60, ()
)


def forked(story: Story, to_op: int, name: str = "ses_fork") -> Story:
    """A story that goes on from the fork."""
    numbers = count(1)
    entries = fork(
        story.entries,
        to_op,
        session_id=name,
        new_id=lambda prefix: f"{prefix}_{name}_{next(numbers)}",
    )
    other = Story()
    other.state = SessionState(name)
    other.entries = list(entries)
    for entry in entries:
        other.state.apply(entry)
    other.now = story.now
    return other


def bodies(entries: list[Entry]) -> str:
    return " ".join(entry.body_json for entry in entries)


def test_a_fork_has_the_same_past_under_ids_of_its_own():
    story = running()
    story.send("kept", "chat")
    step(story, 1)
    wait_id = answered(story, 2, "yes")
    step(story, 3)
    other = forked(story, 3)
    assert {op for op, _ in journal_ops(other)} == {1, 2}
    assert taken(other) == "yes"
    assert [record.data for record in other.state.unconsumed["chat"]] == ["kept"]
    assert other.run.id != story.run.id
    assert wait_id not in bodies(other.entries)
    copies = [entry.body["copied_from"] for entry in other.entries]
    assert copies == sorted(set(copies))
    assert [e.recorded_at for e in other.entries] == [
        story.entries[seq - 1].recorded_at for seq in copies
    ]
    assert other.entries[0].body["forked_from"]["session_id"] == story.state.id
    assert other.run.draws_from == story.run.id


def test_what_is_one_sessions_own_is_not_copied():
    story = running()
    step(story, 1)
    step(story, 2)
    other = forked(story, 2)
    assert "operation" in story.entries[0].body
    assert not {"operation", "external_id", "idempotency_key_hash"} & other.entries[0].body.keys()


def test_a_fork_is_open_though_its_origin_was_closed_while_the_run_went_on():
    story = running()
    ask(story, 1)
    story.close(end_input=True)
    step(story, 2)
    step(story, 3)
    other = forked(story, 3)
    assert {op for op, _ in journal_ops(other)} == {1, 2}
    assert other.state.status is SessionStatus.OPEN
    answered(other, 3, "go on")
    assert taken(other) == "go on"


def test_copied_steps_never_run_again_and_what_was_open_is_asked_anew():
    story = running()
    step(story, 1)
    story.open_step(2)
    step(story, 3)
    other = forked(story, 3)
    assert other.run.open_steps == set()
    assert {op for op, _ in journal_ops(other)} == {1}
    other.open_step(2)
    keys = [e.body["step_key"] for e in other.entries if e.kind is EntryKind.STEP_STARTED]
    known = {e.body["step_key"] for e in story.entries if e.kind is EntryKind.STEP_STARTED}
    assert keys[0] in known  # what was done was done under its key
    assert keys[1] not in known


def test_the_fork_goes_on_by_itself_and_the_origin_is_not_touched():
    story = running()
    answered(story, 1, "a")
    step(story, 2)
    before = list(story.entries)
    other = forked(story, 1)
    ask(other, 1)
    other.answer("b", other.wait.id)
    assert taken(other) == "b"
    other.succeed()
    assert story.entries == before


def test_a_fork_of_a_fork_draws_from_the_first_origin():
    story = running()
    step(story, 1)
    answered(story, 2, "a")
    step(story, 3)
    once = forked(story, 3)
    step(once, 3)
    twice = forked(once, 3, "ses_again")
    assert twice.run.draws_from == story.run.id
    assert {op for op, _ in journal_ops(twice)} == {1, 2}
    assert taken(twice) == "a"


def test_a_fork_of_a_run_that_was_taken_back_and_amended():
    story = running()
    first = answered(story, 1, "a")
    answered(story, 2, "b")
    amend(story, first, "A")
    story.execute()
    ask(story, 1)
    step(story, 2)
    other = forked(story, 2)
    assert taken(other) == "A"
    ask(other, 2)
    assert taken(other) == "b"
    rewind(other, 1)
    assert {one.record_seq for one in other.run.held} == {3, 2}


def test_a_fork_behind_an_open_token_wait_is_refused():
    story = running()
    story.open_wait(1, kind="token", details=WaitDetails())
    step(story, 2)
    with pytest.raises(ForkRefused, match="tok_1"):
        forked(story, 2)
    assert forked(story, 1).state.wait is None


def test_an_op_that_is_not_in_the_journal():
    story = running()
    with pytest.raises(OpNotFound):
        forked(story, 4)
    step(story, 1)
    rewind(story, 1)
    with pytest.raises(OpNotFound):
        forked(story, 1)


def test_names_that_begin_as_ids_do_stay_as_they_were():
    story = running(on_idle_input="run")
    story.succeed()
    story.send("more")  # starts the next run
    story.execute()
    story.open_step(1, "run_tests")
    story.end_step(1)
    step(story, 2)
    other = forked(story, 2)
    begun = [e.body["started_by"] for e in other.entries if e.kind is EntryKind.RUN_CREATED]
    assert [one["type"] for one in begun] == ["start", "record"]
    (record,) = [e for e in other.entries if e.kind is EntryKind.INPUT_ACCEPTED]
    assert begun[1]["id"] == record.body["record_id"]
    assert other.entries[0].body["task"] == story.entries[0].body["task"]
    names = [e.body["name"] for e in other.entries if e.kind is EntryKind.STEP_STARTED]
    assert names == ["run_tests"]


def test_what_the_origins_code_made_is_not_the_forks_to_end():
    story = running()
    story.write(
        create_token(story.run, 1, TokenOp(TOKEN), story.context),
        create_public_token(story.run, 2, PUBLIC, story.context),
    )
    story.open_step(3, f"{CHILD_STEP}review")
    story.end_step(3, "ses_child")
    step(story, 4)
    other = forked(story, 4)
    assert {op for op, _ in journal_ops(other)} == {1, 2, 3}
    assert not any(name in bodies(other.entries) for name in ("callback_hash", "secret_hash"))
    mine = plan_rewind(story.state, story.run, 1)
    assert (mine.tokens, mine.public_tokens, mine.children) == (
        (TOKEN.token_id,), (PUBLIC.public_token_id,), ("ses_child",),
    )  # fmt: skip
    its = plan_rewind(other.state, other.run, 1)
    assert its.set_aside == (1, 2, 3)
    assert (its.tokens, its.public_tokens, its.children) == ((), (), ())


def test_data_that_looks_like_an_id_stays_as_it_was():
    story = running()
    data: Any = {"wait_id": "wait_1", "list": ["run_1"]}
    answered(story, 1, data)
    step(story, 2)
    assert taken(forked(story, 2)) == data
