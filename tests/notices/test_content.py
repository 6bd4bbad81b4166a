"""What a notice says, by its target's detail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from helmr.models import BODY_SHOWN_BYTES, WaitInfo
from helmr.models.system import EventName
from helmr_runtime.core.notices import NoticeEvent
from helmr_runtime.notices.content import Notice, Subject, notice

AT = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)


def told_of(detail: str, **more: Any) -> Notice:
    """The notice of a wait that has opened."""
    wait = WaitInfo.model_validate(
        {
            "id": "wait_1",
            "session_id": "ses_1",
            "run_id": "run_1",
            "task": "review",
            "kind": "input",
            "status": "pending",
            "opened_at": AT,
            "subject": "Merge?",
            **more,
        }
    )
    event = NoticeEvent(
        name=EventName.WAIT_OPENED,
        session_id="ses_1",
        at=AT,
        wait_id="wait_1",
        run_id="run_1",
        seq=3,
    )
    return notice(event, Subject(wait=wait), detail=detail, source="helmr", link=None, late=False)


def test_of_a_long_body_the_beginning_is_told() -> None:
    told = told_of("full", body="line of a diff\n" * 60_000)
    body = told.data["body"]
    assert len(body) < BODY_SHOWN_BYTES + 100
    assert body.endswith("… (900 kB in all)")
    assert len(told.text()) < 4_000
    assert len(told.cloud_event()) < 2 * BODY_SHOWN_BYTES


def test_who_may_answer_is_said_where_a_wait_says_it() -> None:
    restricted = {"answerers": ["group:finance"], "not_by": ["starter", "eve"], "approvals": 2}
    told = told_of("subject", **restricted)
    who = "2 people: group finance, but not by starter or eve"
    assert told.data["who_may_answer"] == who
    assert f"Who may answer: {who}" in told.text()
    assert "who_may_answer" not in told_of("none", **restricted).data
    assert "who_may_answer" not in told_of("full").data
