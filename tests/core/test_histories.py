"""What a run reads of its session's past: a watermark in the journal, and the records that it stands for (S-128)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr_runtime.core import checkpoint
from helmr_runtime.core.entries import EntryKind, Watermark
from helmr_runtime.core.fork import fork
from helmr_runtime.replay.replay_log import RecordsLost, make_replay_log
from tests.core.builder import Story
from tests.core.test_rewinds import rewind, running


def seen(story: Story, op: int, **asked: Any) -> list[Any]:
    """The values that a read gives."""
    read = story.history(op, **asked)
    return [body["data"] for body in Watermark.of(read.body).picked(story.entries)]


def talked(story: Story, *texts: str, op: int = 1) -> None:
    for number, text in enumerate(texts, start=op):
        story.append(number, text)


def test_a_read_stores_where_it_ends_and_no_record():
    story = running()
    talked(story, *("a long text " * 1_000 for _ in range(20)))
    read = story.history(21)
    assert read.body == {
        "stream": "progress", "direction": "output", "from_seq": 1, "through_seq": 20
    }  # fmt: skip
    assert len(read.body_json) < 100


def test_it_reads_over_runs_from_a_seq_and_the_last():
    story = running()
    talked(story, "a", "b", "c")
    story.succeed()
    story.start_run()
    story.execute()
    talked(story, "d")
    assert seen(story, 2) == ["a", "b", "c", "d"]
    assert seen(story, 3, from_seq=3) == ["c", "d"]
    assert seen(story, 4, last=1) == ["d"]
    assert seen(story, 5, from_seq=2, last=100) == ["b", "c", "d"]
    assert seen(story, 6, from_seq=9) == []


@pytest.mark.parametrize("how", ["rewound", "retried"])
def test_what_was_set_aside_is_in_no_history(how: str):
    story = running(retries=1)
    talked(story, "a")
    ask = story.open_step(2, "second")
    if how == "rewound":
        story.end_step(2, "kept")
        talked(story, "wrong", "wrong too", op=3)
        rewind(story, 3)
    else:
        story.fail_try(2, ask)
        talked(story, "wrong", "wrong too", op=3)
        story.fail(failed_op=2)
    story.execute()
    talked(story, "right", op=3)
    assert story.state.output_seqs == {"progress": 4}
    assert seen(story, 4) == ["a", "right"]
    assert seen(story, 5, last=2) == ["a", "right"]
    assert seen(story, 6, last=1) == ["right"]


def test_it_is_left_out_after_a_checkpoint_too():
    story = running()
    talked(story, "a", "wrong")
    rewind(story, 2)
    text = checkpoint.save(story.state, {})
    kept = checkpoint.restore(story.state.id, text, {})
    assert kept.outputs_set_aside == {"progress": [2]}
    assert checkpoint.difference(story.state, kept) is None


def test_a_checkpoint_of_before_is_no_damage():
    story = running()
    talked(story, "a", "wrong")
    rewind(story, 2)
    text = checkpoint.save(story.state, {}).replace('"outputs_set_aside":{"progress":[2]},', "")
    older = checkpoint.restore(story.state.id, text, {})
    assert older.outputs_set_aside == {}
    assert checkpoint.difference(story.state, older) is None
    older.outputs_set_aside = {"progress": [1]}
    assert checkpoint.difference(story.state, older) == "outputs set aside"


def test_a_fork_has_the_history_of_its_origin():
    story = running()
    talked(story, "a", "b")
    story.history(3)
    talked(story, "c", op=4)
    copies = fork(story.entries, 4, session_id="ses_fork")
    read = next(entry for entry in copies if entry.kind is EntryKind.HISTORY_READ)
    assert [body["data"] for body in Watermark.of(read.body).picked(copies)] == ["a", "b"]


def test_an_entry_of_before_reads_an_input_from_its_first_record():
    assert Watermark.of({"stream": "chat", "through_seq": 3}) == Watermark("chat", "input", 1, 3)


def test_records_that_are_gone_are_named_and_no_shorter_history_is_given():
    story = running()
    talked(story, "a", "b", "c")
    read = story.history(4)
    bodies = Watermark.of(read.body).picked(story.entries)
    assert Watermark.of(read.body).lacks(bodies) is None
    log = make_replay_log(story.state, {4: bodies[1:]})
    lost = log.lines[-1].payload  # type: ignore[union-attr] # the read's outcome
    assert lost == RecordsLost(
        4, "of records 1 to 3 of output stream progress the first that is left is 2 (1 are missing)"
    )
    assert (
        Watermark.of(read.body).lacks([])
        == "of records 1 to 3 of output stream progress none is left"
    )
