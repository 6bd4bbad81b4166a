"""A restored state decides and replays as the saved one does (S-53)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.errors import DataError, HelmrError
from runtime.core import checkpoint, jsontext
from runtime.core.checkpoint import INLINE_BYTES_MAX
from runtime.core.commands import AddNote, Deadline
from runtime.replay.script import make_script
from tests.core.builder import ALICE, Story, picture, seconds

BIG = "x" * (INLINE_BYTES_MAX + 1)


def _act(story: Story, draw: Callable[[int], int]) -> None:
    """One thing that may happen now, chosen by `draw`."""
    run = story.state.active_run
    choices: list[Callable[[], Any]] = [
        lambda: story.send([BIG, "a", None, 1.0][draw(4)], ["approval", "chat"][draw(2)]),
        lambda: story.send("c", correlation_id=["X", "Y"][draw(2)]),
        lambda: story.send("k", idempotency_key=["k1", "k2"][draw(2)]),
        lambda: setattr(story, "now", story.now + seconds([1, 30, 60][draw(3)])),
        lambda: story.do(AddNote(principal=ALICE, note_id="n", text=BIG)),
    ]
    if run is None:
        choices += [story.start_run, story.retry]
    elif run.status.value in ("queued", "blocked"):
        choices += [story.execute if run.status.value == "queued" else story.retry] * 3
    else:
        op = run.op_max + 1
        choices += [
            lambda: story.open_step(op, retries=1),
            lambda: story.append(op, BIG),
            lambda: story.peek(op),
            lambda: story.die(executing=bool(draw(2))),
            lambda: story.fail(draw(op)),
            story.block,
            story.cancel_run,
            lambda: story.succeed(BIG),
        ]
        choices += [lambda: story.end_step(min(run.open_steps), BIG)] * (2 * bool(run.open_steps))
        if run.wait is None:
            kind = ["input", "input", "token", "timer"]
            choices += [
                lambda: story.open_wait(op, kind=kind[draw(4)], timeout_s=[None, 60][draw(2)] or 5),
                lambda: story.open_wait(op, correlation_id="X"),
            ] * 2
        else:
            wait = run.wait
            choices += [
                lambda: story.do(Deadline(principal=ALICE, wait_id=wait.id)),
                lambda: story.give_up(wait.op),
                lambda: story.answer(BIG),
            ]
    try:
        choices[draw(len(choices))]()
    except HelmrError:
        return


@settings(max_examples=300)
@given(st.data())
def test_saving_and_restoring_at_any_point_changes_nothing(data: st.DataObject):
    policy: dict[str, Any] = data.draw(
        st.fixed_dictionaries(
            {
                "on_idle_input": st.sampled_from(["keep", "run", "reject"]),
                "retries": st.integers(0, 2),
            }
        )
    )
    story = Story(**policy)
    for _ in range(data.draw(st.integers(0, 25))):
        _act(story, lambda n: data.draw(st.integers(0, n - 1)))
    restored = story.reload()
    assert picture(restored) == picture(story.state) == picture(story.refold())
    if story.state.run is not None:
        assert make_script(restored, {}) == make_script(story.state, {})
    # It decides the same, too: the same command leaves the same entries.
    copy = Story(**policy)
    copy.state, copy.entries, copy.now = restored, list(story.entries), story.now
    copy.state.operations, copy.state.send_keys = story.state.operations, story.state.send_keys
    command = story.send_command("next", correlation_id="X")
    outcomes = []
    for told in (story, copy):
        try:
            reply = dict(told.do(command))
        except HelmrError as error:
            reply = {"error": error.code}
        outcomes.append((reply, told.state.last_hash, picture(told.state)))
    assert outcomes[0] == outcomes[1]


def test_large_entries_stand_as_references_and_small_ones_inline():
    story = Story().execute()
    story.open_step(1)
    story.end_step(1, BIG)
    story.open_step(2)
    story.end_step(2, "small")
    story.send(BIG, stream="chat")
    text = checkpoint.save(story.state, {e.seq: 1000 + e.seq for e in story.entries})
    assert BIG not in text
    assert len(checkpoint.refs(text)) == 2
    with pytest.raises(DataError):
        checkpoint.restore("ses_1", text, {})


def test_an_entry_whose_offset_is_unknown_stands_inline():
    story = Story().execute()
    story.send(BIG)
    text = checkpoint.save(story.state, {})
    assert checkpoint.refs(text) == []
    assert picture(checkpoint.restore("ses_1", text, {})) == picture(story.state)


def test_a_checkpoint_of_a_checkpoint_still_knows_its_references():
    story = Story().execute()
    story.send(BIG)
    offsets = {e.seq: 1000 + e.seq for e in story.entries}
    first = checkpoint.save(story.state, offsets)
    referenced = {o: story.entries[o - 1001] for o in checkpoint.refs(first)}
    restored = checkpoint.restore("ses_1", first, referenced)
    second = checkpoint.save(restored, {})
    assert checkpoint.refs(second) == checkpoint.refs(first)


def test_a_checkpoint_of_another_version_is_refused():
    text = checkpoint.save(Story().state, {})
    content = {**jsontext.decode(text), "v": 99}
    with pytest.raises(DataError):
        checkpoint.restore("ses_1", jsontext.encode(content), {})


def test_a_checkpoint_keeps_that_a_record_has_started_a_run():
    story = Story(on_idle_input="run").execute()
    story.succeed()
    story.send()
    story.state = story.reload()
    story.execute()
    story.succeed()
    assert story.state.active_run is None


def test_a_checkpoint_keeps_what_makes_a_record_late():
    story = Story().execute()
    story.open_wait(1, timeout_s=1)
    story.now += seconds(1)
    story.deadline()
    story.state = story.reload()
    assert story.send()["outcome"] == "late"
