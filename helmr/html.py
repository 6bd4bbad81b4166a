"""What a notebook shows: sessions, waits, runs and transcripts as HTML.

Every text that came from outside is escaped and its invisible characters are shown (`safe_text`): nothing in a payload
can act in the notebook, load anything or pose as something else. No script, no link, no style sheet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from helmr.safe_text import plain

if TYPE_CHECKING:
    from helmr.models import EntryInfo, PrincipalInfo, RunInfo, SessionInfo, WaitInfo

TEXT_MAX = 2000
"""Cells of one value; the whole is in the object."""
ROWS_MAX = 500
"""Rows of one table; what is left out is counted."""

_CARD = "border:1px solid #999;border-radius:6px;padding:0.6em 1em;max-width:46em"
_LEFT = "text-align:left;vertical-align:top"


def text(value: object, limit: int = TEXT_MAX) -> str:
    """A value as HTML text that can't act."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        value = value.isoformat(sep=" ", timespec="milliseconds")
    elif isinstance(value, Mapping | list | tuple):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return escape(plain(value, limit))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, more: int = 0) -> str:
    """A table; `more` is how many rows it leaves out."""
    head = "".join(f'<th style="{_LEFT}">{text(name)}</th>' for name in columns)
    lines = [
        "<tr>" + "".join(f'<td style="{_LEFT}">{text(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    ]
    rest = f"<p>… and {more:,} more</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{rest}"


def card(title: str, facts: Mapping[str, object], *, body: str | None = None) -> str:
    """A box with a title, facts (those that are None are left out) and a text as it was written."""
    lines = "".join(
        f'<tr><th style="{_LEFT}">{text(name)}</th><td style="{_LEFT}">{text(value)}</td></tr>'
        for name, value in facts.items()
        if value is not None and value not in ([], {})
    )
    written = f'<pre style="white-space:pre-wrap">{text(body)}</pre>' if body is not None else ""
    return f'<div style="{_CARD}"><b>{text(title)}</b>{written}<table><tbody>{lines}</tbody></table></div>'


def who(principal: PrincipalInfo | None) -> str | None:
    """A principal for people: `api_key local for ada`."""
    if principal is None:
        return None
    name = f"{principal.type} {principal.name}" if principal.name else principal.type
    return f"{name} for {principal.on_behalf_of}" if principal.on_behalf_of else name


def wait_card(wait: WaitInfo) -> str:
    """A wait: what is asked, until when, and which answers fit."""
    title = wait.subject or f"{wait.task}: {wait.stream or wait.kind}"
    facts = {
        "wait": wait.id,
        "session": wait.session_id,
        "status": wait.status.value,
        "kind": wait.kind.value,
        "stream": wait.stream,
        "correlation id": wait.correlation_id,
        "since": wait.opened_at,
        "deadline": wait.deadline_at,
        "ended": wait.resolved_at,
        "by": who(wait.resolved_by),
        "answer": _shape(wait.json_schema),
    }
    return card(title, facts, body=wait.body)


def session_card(session: SessionInfo) -> str:
    """A session, and its active wait."""
    facts = {
        "session": session.id,
        "external id": session.external_id,
        "status": session.status.value,
        "activity": session.activity.value,
        "tags": session.tags,
        "metadata": session.metadata,
        "created": session.created_at,
        "entries": session.last_seq,
        "warnings": session.warnings,
    }
    shown = card(session.task, facts)
    return shown + wait_card(session.wait) if session.wait is not None else shown


def run_card(run: RunInfo) -> str:
    """A run and what it gave."""
    error = run.error
    facts = {
        "run": run.id,
        "session": run.session_id,
        "status": run.status.value,
        "attempt": run.attempt,
        "result": json.dumps(run.result, ensure_ascii=False) if run.result is not None else None,
        "error": f"{error.type or error.code}: {error.message}" if error is not None else None,
        "created": run.created_at,
        "ended": run.ended_at,
    }
    return card(run.task, facts)


class Transcript(Sequence["EntryInfo"]):
    """Entries of a session as a list that a notebook shows as a table.

    Args:
        entries: `session.transcript()`.
    """

    def __init__(self, entries: Iterable[EntryInfo]) -> None:
        self._entries = tuple(entries)

    def __getitem__(self, place: Any) -> Any:
        return self._entries[place]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[EntryInfo]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"<Transcript of {len(self)} entries>"

    def _repr_html_(self) -> str:
        shown = self._entries[:ROWS_MAX]
        rows = [
            (e.seq, e.recorded_at, e.kind, e.op, who(e.principal), plain_body(e.body))
            for e in shown
        ]
        columns = ("seq", "at", "kind", "op", "who", "what")
        return table(columns, rows, more=len(self) - len(shown))


def plain_body(body: Mapping[str, Any]) -> str:
    """An entry's body on one line, shortened."""
    return plain(json.dumps(body, ensure_ascii=False), 200)


def _shape(schema: dict[str, Any] | bool | None) -> str | None:
    """The fields of an object's schema, or the schema."""
    if not isinstance(schema, dict):
        return None
    fields = schema.get("properties")
    if not isinstance(fields, dict):
        return json.dumps(schema, ensure_ascii=False)
    return "; ".join(f"{name}: {_field(one)}" for name, one in fields.items())


def _field(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "anything"
    if isinstance(schema.get("enum"), list):
        return " | ".join(json.dumps(one, ensure_ascii=False) for one in schema["enum"])
    if isinstance(schema.get("anyOf"), list):
        return " | ".join(_field(one) for one in schema["anyOf"])
    return str(schema.get("type", "anything"))
