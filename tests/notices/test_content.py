"""What a notice says, by its target's detail."""

from __future__ import annotations

from datetime import UTC, datetime

from helmr.models import BODY_SHOWN_BYTES, WaitInfo
from helmr.models.system import EventName
from helmr_runtime.core.notices import NoticeEvent
from helmr_runtime.notices.content import Subject, notice

AT = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)


def test_of_a_long_body_the_beginning_is_told() -> None:
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
            "body": "line of a diff\n" * 60_000,
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
    told = notice(event, Subject(wait=wait), detail="full", source="helmr", link=None, late=False)
    body = told.data["body"]
    assert len(body) < BODY_SHOWN_BYTES + 100
    assert body.endswith("… (900 kB in all)")
    assert len(told.text()) < 4_000
    assert len(told.cloud_event()) < 2 * BODY_SHOWN_BYTES
