"""What rewinds have set aside, what can be corrected at an entry, and attempts beside each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from helmr.models import (
    EntryInfo,
    PrincipalInfo,
    RepeatedStep,
    RepeatedStepState,
    RewindPreview,
    RunInfo,
    RunStatus,
    SessionInfo,
    WaitInfo,
)
from helmr.person.review.words import diff
from helmr.wire import ids
from helmr_console.attempts import attempts, beside, summary
from helmr_console.effects import preview_lines, repeated
from helmr_console.set_aside import Rewinds, place_of, place_of_wait

AT = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
SESSION, RUN, WAIT = ids.new_id(ids.SESSION), ids.new_id(ids.RUN), ids.new_id(ids.WAIT)


def entry(seq: int, kind: str, op: int | None = None, /, **body: Any) -> EntryInfo:
    return EntryInfo(
        session_id=SESSION,
        seq=seq,
        feed_offset=seq,
        recorded_at=AT,
        kind=kind,
        run_id=RUN if kind.startswith(("run.", "step.", "wait.", "output.", "clock.")) else None,
        op=op,
        principal=PrincipalInfo(type="api_key", name="ana"),
        body=body,
    )


STORY = [
    entry(1, "session.created"),
    entry(2, "run.created"),
    entry(3, "run.started", attempt=1),
    entry(4, "step.started", 1, name="draft", step_key="k1"),
    entry(5, "step.succeeded", 1, value="a"),
    entry(6, "wait.opened", 2, wait_id=WAIT, kind="input", stream="approval"),
    entry(7, "input.accepted", wait_id=WAIT, stream="approval", stream_seq=1, data="approve"),
    entry(8, "wait.fulfilled", 2, wait_id=WAIT, stream="approval", record_seq=1),
    entry(9, "step.started", 3, name="post", step_key="k3"),
    entry(10, "step.succeeded", 3, value="out"),
    entry(11, "run.succeeded", result="out"),
    entry(12, "run.rewound", to_op=2, set_aside=[2, 3], attempt=2, reason="wrong one"),
    entry(13, "wait.opened", 2, wait_id=ids.new_id(ids.WAIT), kind="input", stream="approval"),
    entry(14, "wait.fulfilled", 2, wait_id=WAIT, stream="approval", record_seq=2),
    entry(15, "step.started", 3, name="post", step_key="k4"),
    entry(16, "step.succeeded", 3, value="in"),
]


def test_a_rewind_sets_aside_what_stands_before_it_and_nothing_behind_it() -> None:
    known = Rewinds()
    assert known.learn(STORY)
    assert not known.learn(STORY), "nothing new"
    assert [one.seq for one in STORY if known.of(one)] == [6, 8, 9, 10, 11]
    assert known.stretches(STORY) == [(8, 11)], "what lies between stays in sight"


def test_a_rewind_of_another_run_or_without_a_list_takes_nothing() -> None:
    known = Rewinds()
    known.learn([entry(20, "run.rewound", to_op="x", set_aside="all")])
    known.learn([entry(21, "run.rewound", set_aside=[1]).model_copy(update={"run_id": "other"})])
    assert [one.kind for one in STORY if known.of(one)] == ["run.succeeded"], (
        "but ends the run's end"
    )


def test_the_first_rewind_behind_an_entry_is_the_one_that_took_it() -> None:
    known = Rewinds()
    later = entry(17, "run.rewound", to_op=2, set_aside=[2, 3], attempt=3, reason="again")
    known.learn([later])
    known.learn(STORY)
    found = [known.of(one) for one in STORY]
    assert [one.reason if one else "" for one in found[7:]] == [
        "wrong one", "wrong one", "wrong one", "wrong one", "", "again", "again", "again", "again",
    ]  # fmt: skip


def run_info(run_id: str = RUN) -> RunInfo:
    return RunInfo(
        id=run_id, session_id=SESSION, task="t", status=RunStatus.WAITING, attempt=1, created_at=AT
    )


def wait_info(**given: Any) -> WaitInfo:
    parts: dict[str, Any] = {
        "id": WAIT, "session_id": SESSION, "run_id": RUN, "task": "t", "kind": "input",
        "stream": "approval", "status": "fulfilled", "opened_at": AT,
    }  # fmt: skip
    return WaitInfo.model_validate({**parts, **given})


def session_info(status: str = "open") -> SessionInfo:
    parts = {"id": SESSION, "task": "t", "status": status, "activity": "waiting", "last_seq": 1}
    return SessionInfo.model_validate({**parts, "created_at": AT, "updated_at": AT})


@pytest.mark.parametrize(
    ("seq", "wait", "rewind", "amend"),
    [
        (1, {}, "not a step, wait, output or answer", "not an answer"),
        (4, {}, "", "not an answer"),
        (6, {"status": "pending"}, "", "a answers it"),
        (6, {"status": "cancelled"}, "", "the wait is cancelled"),
        (6, {"kind": "timer", "stream": None}, "", "a timer wait has no answer"),
        (6, {"status": "timed_out"}, "", ""),
        (7, {}, "", ""),
        (8, {}, "", ""),
        (12, {}, "not a step, wait, output or answer", "not an answer"),
    ],
)
def test_what_an_entry_is_no_place_for_is_said(
    seq: int, wait: dict[str, Any], rewind: str, amend: str
) -> None:
    found = place_of(
        STORY[seq - 1], aside=None, session=session_info(), newest=run_info(),
        wait_of={WAIT: wait_info(**wait)}.get,
    )  # fmt: skip
    for part, said in ((rewind, found.not_rewindable), (amend, found.not_amendable)):
        assert part in said
        assert bool(part) == bool(said)
    assert found.not_forkable == found.not_rewindable


def test_what_was_set_aside_an_older_run_and_a_cancelled_session_are_no_places() -> None:
    known = Rewinds()
    known.learn(STORY)
    step = STORY[8]
    waits = {WAIT: wait_info()}.get

    def why(**given: Any) -> str:
        parts = {"aside": None, "session": session_info(), "newest": run_info(), "wait_of": waits}
        return place_of(step, **{**parts, **given}).not_rewindable

    assert why() == ""
    assert why(aside=known.of(step)) == "entry 9 was set aside by entry 12"
    assert "newest run" in why(newest=run_info(ids.new_id(ids.RUN)))
    assert why(session=session_info("cancelled")) == "the session was cancelled"
    assert place_of(None, aside=None, session=None, newest=None, wait_of=waits).not_amendable
    of_list = place_of_wait(wait_info(), session=session_info(), newest=run_info())
    assert (of_list.named, of_list.not_amendable) == ({"to_op": None, "wait_id": WAIT}, "")


def test_two_attempts_stand_beside_each_other() -> None:
    first, second = attempts(STORY, RUN)
    assert second.how == "rewound by ana (api_key): wrong one"
    pairs = beside(first, second)
    assert [(pair.op, pair.sign) for pair in pairs] == [(1, " "), (2, "~"), (3, "~")]
    assert pairs[1].left[-1] == 'fulfilled by approval #1: "approve"'
    assert pairs[2].left == ("step post started", "done out")
    assert (first.ended, second.ended) == ("succeeded out", "")
    assert summary(pairs) == "1 kept, 2 otherwise"


def test_what_was_done_again_and_came_out_the_same_is_no_difference() -> None:
    again = [*STORY[:15], entry(16, "step.succeeded", 3, value="out")]
    first, second = attempts(again, RUN)
    assert beside(first, second)[2].sign == "="


def test_a_retry_keeps_what_came_before_the_failure() -> None:
    story = [
        *STORY[:5],
        entry(6, "step.started", 2, name="post", step_key="k"),
        entry(7, "step.failed", 2, error={}),
        entry(8, "run.failed", failed_op=2, error={}),
        entry(9, "run.retried", attempt=2, failed_op=2),
        entry(10, "step.started", 2, name="post", step_key="k"),
    ]
    first, second = attempts(story, RUN)
    assert [(pair.op, pair.sign) for pair in beside(first, second)] == [(1, " "), (2, "~")]
    assert attempts(story[:8], RUN)[0].ops.keys() == {1, 2}
    assert attempts([], RUN) == []


def test_a_preview_names_old_and_new_key_of_what_may_run_again_in_red() -> None:
    step = RepeatedStep(
        op=3, name="post", step_key="old", new_key="new", state=RepeatedStepState.SUCCEEDED, at=AT
    )
    running = RepeatedStep(
        op=4, name="post", step_key="old", new_key="old", state=RepeatedStepState.RUNNING, at=AT
    )
    preview = RewindPreview(
        session_id=SESSION, run_id=RUN, keep_answers=True, hash="h", to_op=2, set_aside=[2, 3, 4],
        steps=[step, running],
    )  # fmt: skip
    lines = preview_lines(preview, diff({"d": "yes"}, {"d": "no"}))
    red = [text.strip() for text, role in lines if role == "error"]
    assert red == [
        "May run again: 2 step(s) that had started",
        "! op 3  post  succeeded 14:00:00", "old key  old", "new key  new",
        "! op 4  post  running 14:00:00", "key kept  old",
    ]  # fmt: skip
    assert lines[0][1] == "error", "before the answer, which may be long"
    assert ("  ~ d  [-yes-][+no+]", "warning") in lines
    assert repeated(preview) == 2
    nothing = preview_lines(preview.model_copy(update={"steps": []}))
    assert nothing[0] == ("No step is repeated: none had started.", "success")
