"""Entries in words: each kind has some, and none of them is only its name and its JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from helmr.models import EntryInfo, PrincipalInfo
from helmr.person.review import words
from helmr.wire import ids
from helmr_console.entry_lines import entry_line, is_said
from helmr_console.widgets.details import entry_in_full
from helmr_runtime.core.entries import EntryKind

AT = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
TOKEN = "tok_01m8jje98rey1904776gv4vqfe"
PUBLIC = "pat_01m8jje98rey1904776pnz4m7j"
KEY = "key_01m8jje98rey1904776vsz85bk"
GRANT = "grant_01m8jje98rey1904776vsz85bk"
CALL = "ses_01m8jje98rey1904776vsz85bk"


def entry(kind: str, body: dict[str, Any]) -> EntryInfo:
    """An entry of this kind."""
    return EntryInfo(
        session_id=ids.new_id(ids.SESSION),
        seq=1,
        feed_offset=1,
        recorded_at=AT,
        kind=kind,
        principal=PrincipalInfo(type="api_key", id=KEY, name="ada"),
        body=body,
    )


def line(kind: str, body: dict[str, Any]) -> tuple[str, str]:
    """An entry's word and text."""
    made = entry_line(entry(kind, body))
    return made.word, made.text


@pytest.mark.parametrize("kind", list(EntryKind))
def test_each_kind_has_words_whatever_its_body_lacks(kind: EntryKind) -> None:
    _, text = line(kind, {})
    assert not text.startswith(kind.value)


def test_a_kind_of_a_newer_runtime_is_shown_as_it_is() -> None:
    assert line("moon.landed", {"on": 1}) == ("moon", 'moon.landed {"on": 1}')


@pytest.mark.parametrize(
    ("kind", "body", "word", "text"),
    [
        (
            "input.returned",
            {"stream": "approval", "record_seq": 3, "reason": "task"},
            "input",
            "approval #3 given back: the code gave its wait up",
        ),
        *(
            (
                "input.accepted",
                {"stream": "ruled", "stream_seq": 1, "data": {"tool": "Bash", **data}},
                word,
                text,
            )
            for data, word, text in (
                (
                    {"action": "allow", "input": {"command": "ls -l"}, "rule": "looks"},
                    "input",
                    "allowed by the rule looks: Bash ls -l",
                ),
                (
                    {"action": "deny", "input": {"a": 1}, "rule": "never"},
                    "input",
                    'denied by the rule never: Bash {"a": 1}',
                ),
                (
                    {"action": "allow", "input": {}, "grant": GRANT, "granted_by": "ada"},
                    "input",
                    f"allowed by {words.short_id(GRANT)} of ada: Bash {{}}",
                ),
                (
                    {"action": "ask", "input": {"command": "rm x"}, "session_id": CALL},
                    "session",
                    "people are asked: Bash rm x, o opens it",
                ),
                (
                    {"action": "deny", "input": {"command": "rm x"}, "session_id": CALL},
                    "session",
                    "denied by people: Bash rm x, o opens it",
                ),
            )
        ),
        (
            "input.accepted",
            {"stream": "ruled", "outcome": "buffered", "data": {"tool": 1}},
            "input",
            'ruled buffered  {"tool": 1}',
        ),
        (
            "input.accepted",
            {"stream": "approval", "stream_seq": 1, "outcome": "fulfilled", "data": {"ok": True}},
            "input",
            'approval  {"ok": true}',
        ),
        (
            "input.accepted",
            {"stream": "chat", "stream_seq": 2, "outcome": "buffered", "data": "hi"},
            "input",
            "chat buffered  hi",
        ),
        (
            "input.accepted",
            {"stream": "approval", "outcome": "fulfilled", "data": "no", "mode": "default"},
            "input",
            "approval  no, its escalation's default",
        ),
        (
            "wait.fulfilled",
            {"mode": "default", "data": 1},
            "wait",
            "fulfilled by its escalation's default: 1",
        ),
        (
            "wait.opened",
            {"kind": "input", "stream": "approval", "deadline_at": "2026-12-01T14:00:00.5Z"},
            "wait",
            "input approval opened, due in 7d 0h",
        ),
        (
            "wait.opened",
            {
                "kind": "input",
                "stream": "approval",
                "deadline_at": "2026-12-01T14:00:00Z",
                "default_at": "2026-11-24T14:03:00Z",
            },
            "wait",
            "input approval opened, due in 3m",
        ),
        ("wait.claimed", {"until_at": "2026-11-24T14:15:00Z"}, "wait", "claimed until 14:15 (15m)"),
        (
            "wait.claimed",
            {"until_at": "2026-11-25T00:06:00Z"},
            "wait",
            "claimed until 00:06 on 25 Nov (10h 06m)",
        ),
        (
            "wait.reminded",
            {"next_escalation_at": "2026-11-24T20:57:35.373967Z"},
            "wait",
            "reminded, next escalation step in 6h 57m",
        ),
        (
            "token.created",
            {"token_id": TOKEN, "subject": "Pay the invoice?", "callback_hash": "c0ffee"},
            "token",
            f"tok…{TOKEN[-7:]} created: Pay the invoice?",
        ),
        (
            "token.completed",
            {"token_id": TOKEN, "data": {"paid": True}},
            "token",
            f'tok…{TOKEN[-7:]} completed: {{"paid": true}}',
        ),
        (
            "public_token.created",
            {
                "public_token_id": PUBLIC,
                "scope": {"type": "input.send", "stream": "approval"},
                "max_uses": None,
                "secret_hash": "c0ffee",
            },
            "public",
            f"pat…{PUBLIC[-7:]} created for input.send approval, any number of uses",
        ),
        (
            "api_key.created",
            {"key_id": KEY, "name": "ci", "role": "sender", "secret_hash": "c0ffee"},
            "key",
            f"key…{KEY[-7:]} created: ci, sender",
        ),
        (
            "catalog.written",
            {"tasks": [{"id": "review"}, {"id": "chat"}]},
            "catalog",
            "tasks review, chat",
        ),
    ],
)
def test_what_the_words_say(kind: str, body: dict[str, Any], word: str, text: str) -> None:
    assert line(kind, body) == (word, text)


@pytest.mark.parametrize(
    ("principal", "by"),
    [
        ({"type": "api_key", "name": "local", "on_behalf_of": "ana"}, "ana"),
        ({"type": "person", "id": "ana", "via": "key_1"}, "ana"),
        ({"type": "api_key", "name": "ci"}, "ci"),
        ({"type": "callback"}, "callback"),
        ({"type": "runtime"}, ""),
    ],
)
def test_a_row_names_the_person(principal: dict[str, Any], by: str) -> None:
    entry = EntryInfo(
        session_id=ids.new_id(ids.SESSION),
        seq=1,
        feed_offset=1,
        recorded_at=AT,
        kind="note.added",
        principal=PrincipalInfo.model_validate(principal),
        body={"text": "x"},
    )
    assert entry_line(entry).by == by


def test_a_failure_in_full_has_its_traceback_line_by_line() -> None:
    frames = '  File "pay.py", line 7, in pay\n    raise Refused(order)\n'
    error = {"code": "exception", "type": "Refused", "message": "no\nfunds", "traceback": frames}
    one = entry("run.failed", {"error": {**error, "hint": "try later"}})
    shown = entry_in_full(one).plain.split("\n")
    assert shown[shown.index("Refused: no") + 1] == "funds"
    at = shown.index('  File "pay.py", line 7, in pay')
    assert shown[at + 1] == "    raise Refused(order)"
    assert "\\n" not in "\n".join(shown)
    assert any("try later" in line for line in shown), "what else it says stays"


def test_what_an_escalation_answered_is_by_its_default() -> None:
    for kind in ("wait.fulfilled", "input.accepted"):
        one = entry(kind, {"mode": "default", "stream": "approval", "data": 1})
        assert "by          its escalation's default" in entry_in_full(one).plain


def test_what_only_began_says_nothing() -> None:
    said = [
        entry(kind, {"data": 1}) for kind in ("note.added", "output.appended", "step.succeeded")
    ]
    begun = [
        entry(kind, {})
        for kind in (
            "session.created",
            "run.created",
            "run.started",
            "wait.opened",
            "token.created",
        )
    ]
    assert [is_said(one) for one in (*said, *begun)] == [True] * 3 + [False] * 5
    assert not is_said(entry("wait.fulfilled", {"record_seq": 1})), "the record said it"


def test_a_run_that_failed_over_a_step_shows_the_steps_own_frames() -> None:
    failed = entry("run.failed", {"error": {"type": "StepFailed", "message": "m"}, "failed_op": 1})
    frames = '  File "pay.py", line 26, in pay\n    raise NoFunds(order)\n'
    body = {"error": {"type": "NoFunds", "message": "order 9", "traceback": frames}}
    step = entry("step.failed", body).model_copy(update={"op": 1, "seq": 5})
    shown = entry_in_full(failed, cause=step).plain
    assert "The step, op 1, entry 5\nNoFunds: order 9\nTraceback\n" in shown
    assert "    raise NoFunds(order)" in shown
