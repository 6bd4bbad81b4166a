"""What a notice says, by its target's detail."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
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


LATER = AT + timedelta(hours=5, minutes=54)
DEFAULT = {
    "default_at": LATER,
    "escalation": [{"do": "default", "after_s": 21240, "from": "opened", "value": "reject"}],
}


def test_the_question_comes_first_then_what_time_does_then_what_names_it() -> None:
    told = told_of("full", body="Its lens is cracked.", assignee="ada", **DEFAULT)
    assert told.text().split("\n\n") == [
        "Merge?",
        "Its lens is cracked.",
        "If no one answers by 21:24 (5h 54m) UTC, the answer is: reject",
        "Assigned to: ada\nTask: review\nSession: ses_1\nWait: wait_1",
    ]
    below = told.text(below_title=True)
    assert "Merge?" not in below


def test_the_link_is_the_first_thing_and_the_only_link() -> None:
    told = replace(told_of("full"), data={**told_of("full").data, "link": "https://h.test/l/a?b&c"})
    assert told.text().startswith("Answer: https://h.test/l/a?b&c\n\nMerge?")
    html = told.html()
    assert re.findall(r'href="([^"]*)"', html) == ["https://h.test/l/a?b&amp;c"]
    body = html.partition("<body")[2]
    assert body.index("href") < body.index("Merge?")


def test_a_deadline_is_said_in_words() -> None:
    told = told_of("subject", deadline_at=LATER)
    assert "It waits until 21:24 (5h 54m) UTC, and goes on without an answer then" in told.text()


def test_of_a_target_that_takes_no_subjects_the_default_is_not_said() -> None:
    told = told_of("none", **DEFAULT)
    assert "reject" not in f"{told.text()}{told.html()}{told.cloud_event()}"
    assert "its default answers" in told.text()


def test_what_a_session_wrote_is_text_in_html_too() -> None:
    hostile = '<script>x</script><img src=x onerror=y> \x1b[31m "a" \u202e'
    told = told_of("full", subject=hostile[:60], body=hostile, assignee=hostile, tags=[hostile])
    html = told.html()
    assert not set(re.findall(r"<(\w+)", html)) - {
        *["html", "head", "meta", "title", "body", "h2", "div", "p", "table", "tr", "td"]
    }
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_evidence_is_told_with_full_detail_only_and_as_text() -> None:
    shown = {"facts": {"iban": "DE02<b>\x1b[2J"}, "links": [{"label": "T", "url": "https://a.b/c"}]}
    for detail in ("none", "subject"):
        told = told_of(detail, evidence=shown)
        assert "DE02" not in told.cloud_event() + told.text() + told.html()
    told = told_of("full", evidence=shown, body="Pay?")
    assert told.data["evidence"] == shown
    text = told.text()
    assert text.index("iban: DE02<b>") < text.index("T: https://a.b/c") < text.index("Pay?")
    assert "\x1b" not in text + told.html()
    assert "<b>" not in told.html()
    assert "iban" in told_of("full", evidence=shown).html(), "without a body"


def test_links_of_the_runtime_are_told_as_evidence_is_and_kept_apart_from_it() -> None:
    links = [{"label": "Trace", "url": "https://t.example/1"}]
    for detail in ("none", "subject"):
        assert "t.example" not in told_of(detail, links=links).cloud_event()
    told = told_of("full", links=links, evidence={"facts": {"amount": 1}}, body="Pay?")
    assert (told.data["evidence"], told.data["links"]) == ({"facts": {"amount": 1}}, links)
    assert "amount: 1\nTrace: https://t.example/1\n\nPay?" in told.text()
    assert "https://t.example/1" in told_of("full", links=links).html()
