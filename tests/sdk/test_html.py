"""What notebooks show: everything that came from outside is text, whatever it says."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from helmr.html import Transcript
from helmr.models import EntryInfo, QueryColumn, RunInfo, SessionInfo, WaitInfo
from helmr.wire.query import QueryResult
from helmr.wire.safe_text import ROWS_MAX

HOSTILE = (
    '</pre></td><script>alert(1)</script><img src=x onerror="go()">&lt;\x1b[31m\u202egnp\u2028\'"'
)
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
OURS = {"div", "b", "pre", "table", "thead", "tbody", "tr", "th", "td", "p"}

PRINCIPAL = {"type": "api_key", "name": HOSTILE, "on_behalf_of": HOSTILE}
WAIT = {
    "id": HOSTILE,
    "session_id": HOSTILE,
    "run_id": HOSTILE,
    "task": HOSTILE,
    "kind": "input",
    "stream": HOSTILE,
    "correlation_id": HOSTILE,
    "subject": HOSTILE,
    "body": HOSTILE,
    "schema": {"properties": {HOSTILE: {"enum": [HOSTILE]}, "x": {"anyOf": [{"type": HOSTILE}]}}},
    "status": "pending",
    "opened_at": NOW,
    "resolved_by": PRINCIPAL,
}
SESSION = {
    "id": HOSTILE,
    "external_id": HOSTILE,
    "task": HOSTILE,
    "status": "open",
    "activity": "waiting",
    "wait": WAIT,
    "tags": [HOSTILE],
    "metadata": {HOSTILE: HOSTILE},
    "created_at": NOW,
    "updated_at": NOW,
    "last_seq": 7,
    "warnings": [HOSTILE],
}
RUN = {
    "id": HOSTILE,
    "session_id": HOSTILE,
    "task": HOSTILE,
    "status": "failed",
    "attempt": 1,
    "result": {HOSTILE: HOSTILE},
    "error": {"code": "x", "type": HOSTILE, "message": HOSTILE},
    "created_at": NOW,
}
ENTRY = {
    "session_id": "ses_1",
    "seq": 1,
    "feed_offset": 1,
    "recorded_at": NOW,
    "kind": HOSTILE,
    "principal": PRINCIPAL,
    "body": {HOSTILE: [HOSTILE]},
}


class Tags(HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


SHOWN = {
    "wait": WaitInfo.model_validate({**WAIT, "subject": None}),
    "session": SessionInfo.model_validate(SESSION),
    "run": RunInfo.model_validate(RUN),
    "transcript": Transcript([EntryInfo.model_validate(ENTRY)]),
    "query": QueryResult(
        [QueryColumn(name=HOSTILE, type="VARCHAR")], truncated=False, elapsed_s=0, rows=[[HOSTILE]]
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_hostile_text_is_shown_and_nothing_of_it_acts(name: str) -> None:
    page = SHOWN[name]._repr_html_()  # type: ignore[attr-defined]
    found = Tags()
    found.feed(page)
    found.close()
    assert found.seen <= OURS
    assert found.attributes <= {"style"}
    assert found.open == []
    assert "alert(1)" in found.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u2028]", page)
    page.encode()


def test_a_card_says_what_is_asked_and_what_fits() -> None:
    schema = {
        "properties": {
            "decision": {"enum": ["send", "drop"], "type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        }
    }
    wait = {**WAIT, "subject": "Send it?", "body": "Dear all", "schema": schema}
    found = Tags()
    found.feed(WaitInfo.model_validate(wait)._repr_html_())
    assert found.text.startswith("Send it?Dear all")
    assert 'decision: "send" | "drop"; note: string | null' in found.text


def test_a_long_transcript_counts_what_it_leaves_out() -> None:
    entry = EntryInfo.model_validate({**ENTRY, "kind": "note.added"})
    transcript = Transcript([entry] * (ROWS_MAX + 12))
    assert "and 12 more" in transcript._repr_html_()
    assert transcript._repr_html_().count("note.added") == ROWS_MAX
    assert len(transcript) == ROWS_MAX + 12
