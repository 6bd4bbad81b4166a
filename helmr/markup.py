"""HTML of values, as notebooks show it: texts, tables and cards.

Every text that came from outside is escaped and its invisible characters are shown (`safe_text`): nothing in a payload
can act in the notebook, load anything or pose as something else. No script, no link, no style sheet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from helmr.safe_text import plain

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


def shape(schema: dict[str, Any] | bool | None) -> str | None:
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
