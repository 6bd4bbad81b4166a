"""Entries in words: each kind has some, and none of them is only its name and its JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from helmr import ids
from helmr.models import EntryInfo, PrincipalInfo
from helmr.review import words
from helmr_console.entry_lines import entry_line
from helmr_runtime.core.entries import EntryKind

AT = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
TOKEN = "tok_01m8jje98rey1904776gv4vqfe"
PUBLIC = "pat_01m8jje98rey1904776pnz4m7j"
KEY = "key_01m8jje98rey1904776vsz85bk"
GRANT = "grant_01m8jje98rey1904776vsz85bk"
CALL = "ses_01m8jje98rey1904776vsz85bk"


def line(kind: str, body: dict[str, Any]) -> tuple[str, str]:
    """An entry's word and text."""
    entry = EntryInfo(
        session_id=ids.new_id(ids.SESSION),
        seq=1,
        feed_offset=1,
        recorded_at=AT,
        kind=kind,
        principal=PrincipalInfo(type="api_key", id=KEY, name="ada"),
        body=body,
    )
    made = entry_line(entry)
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
