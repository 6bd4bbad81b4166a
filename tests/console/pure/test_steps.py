"""Steps of a transcript: start and end as one row, how long each took, what runs, and what it says meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.models import ChunkInfo, ChunksEnd, EntryInfo, PrincipalInfo
from helmr_console.attempts import Steps, step_line, took_text
from helmr_console.session_detail import KEPT_CHARS, LiveText, spoken
from helmr_console.widgets.transcript_rows import Marks, TranscriptRows, row

AT = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)


def entry(seq: int, kind: str, op: int | None = 1, *, at_s: float = 0, **body: Any) -> EntryInfo:
    return EntryInfo(
        session_id="ses_1",
        seq=seq,
        feed_offset=seq,
        recorded_at=AT + timedelta(seconds=at_s),
        kind=kind,
        run_id="run_1",
        op=op,
        principal=PrincipalInfo(type="task"),
        body=body,
    )


STARTED = entry(5, "step.started", name="talk")
DONE = entry(6, "step.succeeded", at_s=1.25, value={"words": 3})


def line(
    steps: Steps, one: EntryInfo, *, at_s: float = 12, runs: bool = True
) -> tuple[str, str, str]:
    found = step_line(steps, one, lambda _: runs, lambda: AT + timedelta(seconds=at_s))
    return found.text, found.took, found.role


def test_a_step_whose_end_stands_behind_its_start_is_one_row_with_its_value_and_time() -> None:
    steps = Steps()
    assert not steps.learn([STARTED])
    assert line(steps, STARTED) == ("talk  runs", "12s", "accent")
    assert line(steps, STARTED, runs=False)[0] == "talk started"
    assert steps.learn([DONE])
    assert steps.rows() == [(5, 6)]
    assert line(steps, STARTED) == ('talk  done {"words": 3}', "1.2 s", "")


def test_with_something_between_both_rows_stay_and_the_second_says_how_long() -> None:
    steps = Steps()
    end = entry(7, "step.failed", at_s=0.05, error={"type": "Declined", "message": "no"})
    assert not steps.learn([STARTED, entry(6, "output.appended", 2), end])
    assert steps.rows() == []
    assert line(steps, STARTED)[0] == "talk started"
    assert line(steps, end) == ("talk  failed: Declined: no", "50 ms", "error")


@pytest.mark.parametrize("kind", ["run.failed", "run.actor_died", "run.retried", "run.cancelled"])
def test_nothing_runs_behind_what_stopped_its_run(kind: str) -> None:
    steps = Steps()
    steps.learn([STARTED, entry(6, kind, None)])
    assert line(steps, STARTED)[0] == "talk started"
    assert steps.running(1) is None
    steps.learn([entry(7, "step.started", name="talk"), entry(8, "step.succeeded", value=None)])
    assert steps.rows() == [(7, 8)], "the second attempt's start has the end, not the first's"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.012, "12 ms"), (1.25, "1.2 s"), (59, "59.0 s"), (180, "3m")]
)
def test_how_long_is_said_shortly(seconds: float, text: str) -> None:
    assert took_text(seconds) == text


@given(st.permutations(range(8)))
def test_steps_are_the_same_in_whatever_order_their_pages_come(order: list[int]) -> None:
    entries = [
        entry(1, "step.started", 1, name="a"),
        entry(2, "step.succeeded", 1, value=1),
        entry(3, "step.started", 2, name="b"),
        entry(4, "step.started", 3, name="c"),
        entry(5, "step.succeeded", 2, value=2),
        entry(6, "step.failed", 3, error={}),
        entry(7, "step.started", 3, name="c"),
        entry(8, "step.succeeded", 3, value=3),
    ]
    steps = Steps()
    for place in order:
        steps.learn([entries[place]])
    rows = steps.rows()
    assert (1, 2) in rows
    assert (7, 8) in rows
    assert len(rows) == 2
    taken = [steps.at(seq) for seq in (3, 4)]
    assert [one.end.seq for one in taken if one is not None and one.end is not None] == [5, 6]


def test_a_row_of_two_entries_is_moved_over_at_once_and_is_about_the_end() -> None:
    rows = TranscriptRows()
    rows.learn([STARTED, DONE])
    rows.fold([], folds_aside=False)
    assert rows.map.height(8) == 7
    assert rows.map.step(4, 1) == 5
    assert rows.map.step(5, 1) == 7
    assert (rows.told(5), rows.told(7)) == (6, 7)
    assert (rows.beside(5, 1), rows.beside(5, -1)) == (7, 4)
    rows.unfolded[5] = ["one", "two"]
    rows.say_live({6: ["speaks"]})
    assert rows.below(5) == ["one", "two", "speaks"]
    assert [rows.is_live(5, below) for below in (1, 2, 3)] == [False, False, True]
    assert rows.map.at_line(rows.map.line_of(5) + 3) == (5, 3)


def test_the_text_gives_way_to_who_and_how_long() -> None:
    steps = Steps()
    steps.learn([STARTED, entry(6, "step.succeeded", at_s=2, value="x" * 200)])
    said = step_line(steps, STARTED, lambda _: True, lambda: AT)
    parts = row(said, "14:00:00", Marks(), 60)
    assert sum(len(text) for text, _ in parts) == 60
    assert parts[6] == ("  2.0 s", "muted")


@pytest.mark.parametrize(
    ("data", "text"),
    [("word ", "word "), ({"to": 3, "text": "Good "}, "Good "), ([1, "x"], '[1, "x"]\n')],
)
def test_a_chunk_says_its_text(data: Any, text: str) -> None:
    assert spoken(data) == text


def test_words_become_a_text_until_their_step_ends_and_only_its_end_is_held() -> None:
    live = LiveText()
    for word in ("Good ", "morning\x1b[2J"):
        live.take(ChunkInfo(stream="replies", op=3, data=word))
    live.take(ChunkInfo(stream="log", op=None, data="x", lost=2))
    assert live.by_op() == {3: ["replies: Good morning␛[2J"], None: ["log: ⟨2 not seen⟩x"]}
    live.take(ChunksEnd(stream="log", op=None, outcome="next_entry"))
    live.take(ChunkInfo(stream="replies", op=3, data="y" * 2 * KEPT_CHARS))
    assert len(live.by_op()[3][0]) == KEPT_CHARS + len("replies: ")
    live.ended(3)
    assert live.by_op() == {}
