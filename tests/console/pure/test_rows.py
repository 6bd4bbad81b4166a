"""A row of a wait: its command first, what else it is about in the room that is left, who at its right edge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from helmr.gate import GatedCall
from helmr.gate.tasks import asked, tags_of
from helmr.models import (
    AnswerMode,
    ClaimInfo,
    PrincipalInfo,
    WaitInfo,
    WaitKind,
    WaitPriority,
    WaitStatus,
)
from helmr_console import views
from helmr_console.screens.inbox import InboxScreen
from helmr_console.widgets.lines import GUTTER, MORE_FROM, fit, with_rest, yielded

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
WIDTHS = (78, 98, 118)
"""Of the list in a window of 80, 100 and 120."""


def wait(**given: Any) -> WaitInfo:
    return WaitInfo(
        **{
            "id": "wait_1",
            "session_id": "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "run_id": "run_1",
            "task": "publish",
            "kind": WaitKind.INPUT,
            "stream": "approval",
            "status": WaitStatus.PENDING,
            "opened_at": NOW - timedelta(minutes=5),
            **given,
        }
    )


def call(tool: str, **given: Any) -> WaitInfo:
    """As the gate asks about it."""
    one = GatedCall("claude-code", "a1", tool, given, folder="/srv/ada")
    question = asked(one)
    return wait(
        task="helmr.gate.call", stream="decisions", subject=question.subject, tags=tags_of(one)
    )


def room_of_subject(one: WaitInfo, width: int) -> int:
    """Cells of a list of this width that the subject has."""
    columns = [(n, c) for n, c in enumerate(InboxScreen.COLUMNS) if width >= c.from_width]
    left = width - GUTTER - sum(column.width + 1 for _, column in columns)
    drawn = [(n, column.width or left, column) for n, column in columns]
    row = views.wait_row(one, NOW, gone=False)
    return next(room for number, room, _ in yielded(drawn, row) if number == 4)


def drawn(one: WaitInfo, width: int) -> str:
    """The subject's column as a list of this width draws it."""
    cell, room = views.wait_row(one, NOW, gone=False)[4], room_of_subject(one, width)
    behind = "  ".join(filter(None, (cell.rest, cell.more if width >= MORE_FROM else "")))
    text, rest = with_rest(cell.text, behind, room)
    return text + rest if rest else fit(text, room, both_ends=True)


CALLS = (
    call("Bash", command="git push origin main"),
    call("Bash", command="rm -rf build && make -j4 all && scp dist/x.tar.gz web1:/srv/x"),
    call("mcp__crm__refund", order="A-77", cents=4200),
    call("ExitPlanMode", plan="1. read\n2. write"),
    wait(subject="Publish the release?", tags=["release", "web", "urgent"], assignee="ada"),
    wait(subject="Refund?", approvals=2, correlation_id="order-7", tags=["money"]),
)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("one", CALLS, ids=lambda one: one.subject[:20])
def test_the_command_is_whole_up_to_the_width(one: WaitInfo, width: int) -> None:
    room, said = room_of_subject(one, width), one.subject or ""
    text = drawn(one, width)
    assert cell_len(text) == room
    if len(said) <= room:
        assert text.startswith(said), "nothing pushes it out"
    else:
        start, end = text.rstrip().split("…")
        assert said.startswith(start)
        assert said.endswith(end)
        assert len(start) + len(end) >= room - 2, "all of the room is its own"
    assert room >= width * 0.55, "the row is for it"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("one", CALLS, ids=lambda one: one.subject[:20])
def test_tags_are_last_and_never_those_of_the_gate(one: WaitInfo, width: int) -> None:
    text = drawn(one, width)
    assert "#gate" not in text
    assert "client:" not in text
    assert "tool:" not in text
    assert ("#" in text) <= (width >= MORE_FROM)


def test_a_wide_row_says_what_else_a_wait_is_about() -> None:
    assert drawn(CALLS[-1], 118).rstrip() == "Refund?  0 of 2  approval  order-7  #money"
    assert drawn(CALLS[-1], 78).rstrip() == "Refund?  0 of 2"
    assert (
        "order-7" not in drawn(wait(subject="Refund order-7?", correlation_id="order-7"), 118)[16:]
    )


def test_who_stands_in_a_column_of_its_own() -> None:
    claim = ClaimInfo(
        principal=PrincipalInfo(type="person", id="gus"),
        since=NOW,
        until=NOW + timedelta(minutes=13),
    )
    whose = wait(subject="Refund?", assignee="ada")
    assert views.who_of(whose, NOW) == "@ada"
    at_it = whose.model_copy(update={"claim": claim})
    assert views.who_of(at_it, NOW) == "○ gus"
    assert views.who_of(at_it, NOW + timedelta(minutes=14)) == "@ada", "the claim has lapsed"
    assert views.who_of(wait(subject="Refund?"), NOW) == ""


def test_a_row_says_nothing_where_there_is_nothing_to_say() -> None:
    row = views.wait_row(wait(subject="Refund?"), NOW, gone=False)
    assert [cell.text for cell in row] == ["", "", "", "5m", "Refund?", ""]


@pytest.mark.parametrize(
    ("left", "sign", "role"),
    [
        (timedelta(seconds=30), "!", "error"),
        (timedelta(minutes=5), "▲", "warning"),
        (timedelta(minutes=59), "", ""),
        (timedelta(minutes=61), "", "muted"),
    ],
)
def test_a_deadline_is_bright_in_its_last_hour(left: timedelta, sign: str, role: str) -> None:
    row = views.wait_row(wait(subject="Refund?", deadline_at=NOW + left), NOW, gone=False)
    assert (row[1].text, row[2].role) == (sign, role)


def test_high_priority_is_a_filled_mark_in_the_accent_at_the_beginning() -> None:
    high = views.wait_row(wait(priority=WaitPriority.HIGH), NOW, gone=False)[0]
    assert (high.text, high.role) == ("◆", "accent")
    assert views.wait_row(wait(priority=WaitPriority.LOW), NOW, gone=False)[0].text == "-"
    assert views.wait_row(wait(), NOW, gone=False)[0].text == ""


def test_what_has_ended_says_its_answer_and_who_gave_it() -> None:
    ada = PrincipalInfo(type="api_key", id="key_1", name="local", on_behalf_of="ada")
    over = wait(
        subject="Refund?",
        status=WaitStatus.FULFILLED,
        resolved_at=NOW - timedelta(minutes=9),
        resolved_by=ada,
        answer={"decision": "approve", "note": "fine"},
    )
    row = views.wait_row(over, NOW, gone=True)
    assert [cell.text for cell in row] == ["", "x", "answered", "9m", "Refund?", "ada"]
    assert row[4].rest == "→ approve"
    by_time = over.model_copy(update={"mode": AnswerMode.DEFAULT})
    assert views.wait_row(by_time, NOW, gone=True)[5].text == "its default"
