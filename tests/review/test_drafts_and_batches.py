"""Drafts survive, batches hold only what belongs together, diffs show structure and words."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.models import BULK_RUNS_MAX, WaitInfo, WaitKind, WaitStatus
from helmr.person.editor import EditorFailed, edit, editor_command
from helmr.person.forms import Blank
from helmr.person.review.batches import BATCH_MAX, Progress, plan
from helmr.person.review.personal import DRAFTS_MAX, AnswerDraft, DraftStore
from helmr.person.review.words import diff, summary, words
from helmr_console.look import BORDER_RATIO_MIN, PALETTES, TEXT_RATIO_MIN, contrast

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)


def wait(name: str, *, minutes: int | None, stream: str = "review", **more: Any) -> WaitInfo:
    return WaitInfo.model_validate(
        {
            "id": name,
            "session_id": f"ses_{name}",
            "run_id": "run_1",
            "task": "t",
            "kind": WaitKind.INPUT,
            "stream": stream,
            "status": WaitStatus.PENDING,
            "opened_at": NOW,
            "deadline_at": None if minutes is None else NOW + timedelta(minutes=minutes),
            "schema": {"type": "string"},
            **more,
        }
    )


def test_a_draft_comes_back_as_it_was_and_is_private(tmp_path: Path) -> None:
    store = DraftStore(tmp_path / "drafts")
    draft = AnswerDraft(
        "wait_1", "abc", {"a": "null", "b": Blank.NULL, "c": (0, 2), "d": 1}, None, "op_1"
    )
    store.save(draft)
    (file,) = (tmp_path / "drafts").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert store.load("wait_1", "abc") == draft
    assert store.load("wait_1", "other") == draft, "a draft of an older schema is still found"
    assert store.wait_ids() == {"wait_1"}
    store.discard("wait_1")
    assert store.load("wait_1", "abc") is None


@pytest.mark.parametrize("text", ['{"wait_id": ', "[" * 100_000], ids=["cut", "deep"])
def test_a_damaged_draft_is_no_draft(tmp_path: Path, text: str) -> None:
    store = DraftStore(tmp_path)
    (tmp_path / "wait_1.abc.json").write_text(text)
    assert store.load("wait_1", "abc") is None


def test_an_id_can_not_leave_the_folder(tmp_path: Path) -> None:
    store = DraftStore(tmp_path / "drafts")
    store.save(AnswerDraft("../../evil", "../x"))
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["drafts"]


def test_drafts_are_bounded(tmp_path: Path) -> None:
    store = DraftStore(tmp_path)
    for number in range(DRAFTS_MAX + 3):
        (tmp_path / f"w{number}.x.json").write_text("{}")
    store.save(AnswerDraft("wait_1", "abc"))
    assert len(list(tmp_path.iterdir())) == DRAFTS_MAX


def test_a_batch_is_of_one_schema_and_goes_by_deadline() -> None:
    marked = [
        wait("late", minutes=30),
        wait("never", minutes=None),
        wait("other", minutes=1, stream="chat"),
        wait("newer", minutes=2, schema={"type": "integer"}),
        wait("soon", minutes=5),
        wait("done", minutes=9, status="fulfilled"),
    ]
    batch = plan(marked, "late")
    assert [item.wait.id for item in batch.items] == ["soon", "late", "never"]
    assert {out.wait.id: out.why for out in batch.left_out} == {
        "other": "another stream (chat)",
        "newer": "another schema",
        "done": "no longer pending: fulfilled",
    }
    batch = batch.mark(0, Progress.ACCEPTED).mark(1, Progress.SKIPPED, "already answered").stop()
    assert batch.stopped_at is None
    assert batch.summary() == "2 of 3 done, 1 accepted, 1 skipped, 1 stopped"


def test_a_batch_leaves_out_what_others_answer_and_says_who() -> None:
    finance: dict[str, Any] = {"answerers": ["group:finance"], "approvals": 2}
    marked = [
        wait("mine", minutes=5, **finance, can_answer=True),
        wait("voted", minutes=5, **finance, can_answer=False, is_mine=True, voters=["ana"]),
        wait("others", minutes=5, answerers=["cy"], can_answer=False, is_mine=False),
        wait("unknown", minutes=5, **finance, can_answer=None, is_mine=False),
    ]
    batch = plan(marked, None, me="ana")
    assert {item.wait.id for item in batch.items} == {"mine", "voted"}
    assert {out.wait.id: out.why for out in batch.left_out} == {
        "others": "you may not answer: it is answered by cy",
        "unknown": "your groups are not known now, sign in with `helmr login`: it is answered by "
        "2 people: group finance",
    }


def test_diffs_show_structure_for_json_and_words_for_text() -> None:
    lines = diff(
        {"a": 1, "b": [1, 2], "t": "two blocking findings", "gone": True},
        {"a": 1, "b": [1, 3, 4], "t": "three blocking findings"},
    )
    assert [(line.sign, line.path) for line in lines] == [
        (" ", "a"),
        (" ", "b[0]"),
        ("~", "b[1]"),
        ("+", "b[2]"),
        ("~", "t"),
        ("-", "gone"),
    ]
    assert "[-two-][+three+] blocking findings" in [line.text for line in lines]
    assert summary(lines) == "2 changed, 1 added, 1 removed"
    assert summary(diff({"a": 1}, {"a": 1})) == "the same"


@given(st.text(), st.text())
def test_word_runs_rebuild_both_texts(first: str, second: str) -> None:
    runs = words(first, second)
    assert "".join(text for sign, text in runs if sign != "+") == first
    assert "".join(text for sign, text in runs if sign != "-") == second


@pytest.mark.allows_blocking
def test_the_editor_gives_the_text_back(tmp_path: Path) -> None:
    script = tmp_path / "ed.py"
    script.write_text(
        "import sys,pathlib; p=pathlib.Path(sys.argv[1]); p.write_text(p.read_text()+' ok\\n')"
    )
    environ = {"EDITOR": f"{sys.executable} {script}"}
    assert edit("text", environ) == "text ok"
    with pytest.raises(EditorFailed, match="as before"):
        edit("text", {"EDITOR": "false"})
    with pytest.raises(EditorFailed, match="EDITOR"):
        edit("text", {"EDITOR": "/nowhere/ed"})
    assert editor_command({}) == ["vi"]


@pytest.mark.parametrize("name", PALETTES)
def test_every_palette_can_be_read(name: str) -> None:
    palette = PALETTES[name]
    colours = palette.colours()
    for ground in palette.grounds():
        for text in palette.texts():
            assert contrast(colours[text], colours[ground]) >= TEXT_RATIO_MIN, (text, ground)
    assert contrast(palette.border, palette.background) >= BORDER_RATIO_MIN
    assert contrast(palette.accent, palette.cursor) >= BORDER_RATIO_MIN


def test_a_batch_takes_as_many_as_a_retry_does() -> None:
    assert BATCH_MAX == BULK_RUNS_MAX
    batch = plan([wait(f"w{n}", minutes=n + 1) for n in range(BATCH_MAX + 4)], None)
    assert len(batch.items) == BATCH_MAX
    assert [out.why for out in batch.left_out] == ["over the limit of 1,000"] * 4
