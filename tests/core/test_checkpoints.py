"""A restored state decides and replays as the saved one does (S-53)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.errors import DataError, HelmrError, LedgerDamaged
from helmr_runtime.core import checkpoint, jsontext
from helmr_runtime.core.checkpoint import INLINE_BYTES_MAX
from helmr_runtime.core.commands import AddNote, Deadline
from helmr_runtime.replay.replay_log import make_replay_log
from tests.budget import examples
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


@settings(max_examples=examples(300))
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
        assert make_replay_log(restored, {}) == make_replay_log(story.state, {})
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


def _make_pieces_small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "PIECE_BYTES_MIN", 1500)
    patch.setattr(checkpoint, "PIECES_MAX", 3)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    _make_pieces_small(monkeypatch)


@settings(max_examples=examples(200))
@given(st.data())
def test_a_journal_in_pieces_is_the_journal(data: st.DataObject):
    with pytest.MonkeyPatch.context() as patch:
        _make_pieces_small(patch)
        story = Story(retries=2)
        for _ in range(data.draw(st.integers(0, 60))):
            _act(story, lambda n: data.draw(st.integers(0, n - 1)))
            if data.draw(st.booleans()):
                story.park()
        story.park()
    refolded = story.refold()
    assert picture(story.state) == picture(refolded)
    if story.state.run is not None:
        assert make_replay_log(story.state, {}) == make_replay_log(refolded, {})


def _written(ops: int) -> tuple[list[int], list[int]]:
    """Sizes of the checkpoints of a run that parks after each step, and how many pieces each left."""
    story = Story().execute()
    sizes, pieces = [], []
    for op in range(1, ops + 1):
        story.open_step(op)
        story.end_step(op, "v" * 50)
        sizes.append(len(story.park()))
        pieces.append(len(story.run.pieces))
    assert picture(story.state) == picture(story.refold())
    return sizes, pieces


def test_a_long_run_that_parks_often_does_not_write_its_journal_each_time(small_pieces: None):
    sizes, pieces = _written(120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "PIECE_BYTES_MIN", 10**9)
        whole, none = _written(120)
    assert (max(pieces), max(none)) == (3, 0)
    merges = [i for i in range(1, len(pieces)) if pieces[i] < pieces[i - 1]]
    others = [size for i, size in enumerate(sizes) if i not in merges]
    assert max(others) < 3 * checkpoint.PIECE_BYTES_MIN
    assert sum(sizes) < sum(whole) / 5


def test_a_piece_of_a_part_that_a_retry_set_aside_is_not_named(small_pieces: None):
    story = Story(retries=0).execute()
    for op in range(1, 13):
        story.open_step(op)
        story.end_step(op, "v" * 100)
    story.park()
    (piece,) = story.run.pieces
    assert piece.count == len(story.run.journal) == 24
    story.fail(3)
    story.retry()
    assert len(story.run.journal) < piece.count
    assert checkpoint.pieces(story.park()) == []
    assert picture(story.state) == picture(story.refold())


def test_a_checkpoint_at_the_same_seq_holds_what_the_earlier_one_held(small_pieces: None):
    story = Story().execute()
    for op in range(1, 13):
        story.open_step(op)
        story.end_step(op, "v" * 100)
    first = story.park()
    assert story.run.pieces
    assert story.park() == first
    story.open_step(13)
    third = story.park()
    assert checkpoint.pieces(third) == [1000 + story.state.seq - 1]
    assert len(third) < len(first) / 2
    with pytest.raises(DataError, match="which is not there"):
        checkpoint.restore("ses_1", third, {}, {})
    with pytest.raises(DataError, match="another part"):
        checkpoint.restore("ses_1", third, {}, {checkpoint.pieces(third)[0]: third})


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


def _rich() -> str:
    """A checkpoint with a run, a wait, a taken and an unconsumed record."""
    story = Story().execute()
    story.open_wait(1)
    story.answer("first")
    story.send("later", stream="chat")
    story.open_wait(2, timeout_s=60)
    return checkpoint.save(story.state, {})


PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "checkpoint": lambda content: content,
    "session": lambda content: content["session"],
    "run": lambda content: content["run"],
    "wait": lambda content: content["run"]["wait"],
    "entry": lambda content: content["run"]["journal"][0],
    "taken": lambda content: content["taken"][0],
    "unconsumed": lambda content: content["unconsumed"][0],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_changed_name_is_refused_and_never_read_as_a_default(part: str):
    text = _rich()
    for name in PARTS[part](jsontext.decode(text)):
        content = jsontext.decode(text)
        changed = PARTS[part](content)
        changed["x" + name[1:]] = changed.pop(name)
        with pytest.raises(LedgerDamaged) as caught:
            checkpoint.restore("ses_1", jsontext.encode(content), {})
        assert caught.value.facts == {"session_id": "ses_1", "table": "checkpoints"}


def test_a_checkpoint_in_the_names_of_release_0_1_0_is_read():
    content = jsontext.decode(_rich())
    content["run"]["deaths"] = content["run"].pop("crashes") + 2
    content["run"]["wait"]["ladder"] = content["run"]["wait"].pop("escalation")
    del content["session"]["closed_by"], content["run"]["created_at"], content["taken"][0]["mode"]
    restored = checkpoint.restore("ses_1", jsontext.encode(content), {})
    assert restored.run is not None
    assert restored.run.crashes == 2


def test_text_that_is_no_checkpoint_is_damage_and_says_what_is_wrong():
    with pytest.raises(LedgerDamaged, match="can't be read: it lacks 'v'"):
        checkpoint.restore("ses_1", "{}", {})
    with pytest.raises(LedgerDamaged, match="can't be read: "):
        checkpoint.restore("ses_1", '{"v": 2', {})


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
