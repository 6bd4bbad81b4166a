"""What was answered last is found again by what is asked alike, and only by the person who answered."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from helmr.models import WaitInfo, WaitKind, WaitStatus
from helmr.person.forms import Form, form_of
from helmr.person.review.personal import AnswerDraft, LastAnswers, PersonalFiles, prefix

FORM = form_of(
    {
        "type": "object",
        "properties": {"decision": {"enum": ["approve", "reject"]}, "note": {"type": "string"}},
        "required": ["decision"],
    }
)


def wait(correlation: str | None = "github:acme/api#7", **changes: object) -> WaitInfo:
    parts = {
        "id": "wait_1",
        "session_id": "ses_1",
        "run_id": "run_1",
        "task": "publish",
        "kind": WaitKind.INPUT,
        "status": WaitStatus.PENDING,
        "stream": "approval",
        "correlation_id": correlation,
        "opened_at": datetime(2026, 11, 24, tzinfo=UTC),
    }
    return WaitInfo.model_validate({**parts, **changes})


def draft(note: str, form: Form = FORM) -> AnswerDraft:
    return AnswerDraft(
        "wait_1", form.schema_hash, {"decision": 1, "note": note}, schema=form.schema
    )


@pytest.mark.parametrize(
    ("correlation", "common"),
    [
        ("github:acme/api#2204", "github:acme/api#"),
        ("order-17", "order-"),
        ("invoice2024", "invoice"),
        ("thread:abc", "thread:"),
        ("plain", "plain"),
        ("", ""),
        (None, ""),
    ],
)
def test_correlation_ids_alike_begin_alike(correlation: str | None, common: str) -> None:
    assert prefix(wait(correlation)) == common


def test_the_last_one_is_found_by_a_wait_alike_and_by_nobody_else(tmp_path: Path) -> None:
    ana, mia = (PersonalFiles.within(tmp_path, name).last for name in ("ana", "mia"))
    assert ana.cells(wait(), FORM) is None
    ana.keep(wait(), draft("first"))
    ana.keep(wait("github:acme/api#8"), draft("second"))
    assert ana.cells(wait("github:acme/api#99"), FORM) == {"decision": 1, "note": "second"}
    assert mia.cells(wait(), FORM) is None
    odd = {PersonalFiles.within(tmp_path, name).drafts.folder for name in ("a/b", "a_b", "..", "")}
    assert len(odd) == 4
    assert {folder.parents[1] for folder in odd} == {tmp_path / "people"}
    for other in (
        wait("github:acme/web#7"),
        wait(task="other"),
        wait(stream="chat"),
    ):
        assert ana.cells(other, FORM) is None
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.rglob("*.json"))
    assert len([*tmp_path.rglob("*.json")]) == 1


def test_of_an_answer_to_an_earlier_schema_what_fits_is_taken(tmp_path: Path) -> None:
    last = LastAnswers(tmp_path)
    last.keep(wait(), draft("kept"))
    newer = form_of({"type": "object", "properties": {"note": {"type": "string"}, "n": {}}})
    found = last.cells(wait(), newer)
    assert found is not None
    assert found["note"] == "kept"


def test_an_answer_typed_as_json_fills_nothing(tmp_path: Path) -> None:
    last = LastAnswers(tmp_path)
    last.keep(wait(), AnswerDraft("wait_1", FORM.schema_hash, {}, "{}", schema=FORM.schema))
    assert last.cells(wait(), FORM) is None
