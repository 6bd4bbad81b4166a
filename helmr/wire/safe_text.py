"""Makes text from a session safe for a terminal, $EDITOR or a notebook's HTML; there is no other way to them.

Session data is untrusted: ESC starts commands to the terminal (clear the screen, set the title, write the
clipboard), bidi controls reverse text, zero-width characters hide in it. Text from this module shows such characters
as visible symbols instead.

HTML (texts, tables and cards) is escaped as well: a payload can't run scripts in the notebook, load anything or pose
as something else. It has no script, link or style sheet.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that control a terminal or are invisible."""
JOINERS = "\u200c\u200d"
"""Joiners separate or join letters of some scripts, and combine emoji: without them the text is another word."""
_JOINED_SCRIPTS = ((0x0590, 0x1DFF), (0xA800, 0xABFF), (0x10A00, 0x11FFF), (0x16100, 0x1613F))
"""Letters that need joiners, from Hebrew on: no Latin, Greek, Cyrillic or CJK letter does."""
_BREAKS = re.compile("\r\n|[\r\x85\u2028\u2029]")
"""Terminals paste line breaks as `\r`; other programs have their own."""
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u034f")
"""Letters and marks that show nothing; they hide in text as zero-width characters do."""


def plain(value: object, limit: int | None) -> str:
    r"""Return text that is safe to print, with invisible characters as visible symbols.

    Newlines become `\n`; newline and tab stay. Other C0 controls and DEL become their pictures (`␛`, `␀`);
    C1 controls, bidi controls, zero-width and other format characters, line separators and lone surrogates
    become `⟨U+202E⟩`. A joiner (U+200C, U+200D) stays where it joins: between letters of a script that has them, or
    emoji. The result is plain text: a caller that renders markup must escape it for its renderer.

    Args:
        value: Text; bytes are decoded as UTF-8 with replacement; anything else by `str`.
        limit: Terminal cells at most; longer text ends in `…+N`, N the number of characters left out.
            None cuts nothing.
    """
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    else:
        text = value if isinstance(value, str) else str(value)
    if not text.isprintable() or not text.isascii():
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = "".join(
            char if char in JOINERS and joins(text, place) else _shown(char)
            for place, char in enumerate(text)
        )
    return text if limit is None else _cut(text, limit)


def one_line(value: object, limit: int | None) -> str:
    """Return safe text, like `plain`, on one line: newlines become `␤`, tabs `␉`."""
    return plain(value, limit).replace("\n", "␤").replace("\t", "␉")


def cells(text: str) -> int:
    """Return the width of safe text in terminal cells: wide characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_width(char) for char in text)


def joins(text: str, place: int) -> bool:
    """Return True when the joiner at this place joins two letters that need it, or two emoji."""
    return 0 < place < len(text) - 1 and _joinable(text[place - 1]) and _joinable(text[place + 1])


def _joinable(char: str) -> bool:
    code, category = ord(char), unicodedata.category(char)
    if char == "\ufe0f" or category in ("So", "Sk"):
        return (
            code >= 0x2190
        )  # emoji, their colours of skin, and what says that they are drawn as such
    return category[0] in "LM" and any(first <= code <= last for first, last in _JOINED_SCRIPTS)


def _shown(char: str) -> str:
    code = ord(char)
    if 0x20 <= code < 0x7F or char in "\n\t":
        return char
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(char) in HIDDEN or char in _FILLERS:
        return f"⟨U+{code:04X}⟩"
    return char


def _cut(text: str, limit: int) -> str:
    if cells(text) <= limit:
        return text
    # The suffix counts the characters left out, and its own digits leave less room for text.
    for digits in range(1, len(str(len(text))) + 1):
        kept = _prefix(text, limit - len("…+") - digits)
        left_out = str(len(text) - len(kept))
        if kept and len(left_out) <= digits:
            return f"{kept}…+{left_out}"
    return _prefix(text, limit - 1) + "…" if limit > 0 else ""


def _prefix(text: str, limit: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _width(char)
        if used > limit:
            return text[:index]
    return text


def _width(char: str) -> int:
    if char in JOINERS or unicodedata.category(char) in ("Mn", "Me") or unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def json_text(text: str) -> str:
    r"""Return JSON text that is safe to print and the same JSON: `\uXXXX` escapes what `plain` would replace."""
    if text.isascii() and "\x7f" not in text:
        return text  # C0 controls stand escaped in JSON text anyway
    return "".join(char if _shown(char) == char else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def typed(text: str) -> tuple[str, int]:
    """Return typed or pasted text without invisible characters, and the number of those.

    Line breaks of all kinds, tabs and joiners stay.
    """
    text = _BREAKS.sub("\n", text)
    kept = "".join(
        char
        for char in text
        if char in "\n\t" or char in JOINERS or unicodedata.category(char) not in HIDDEN
    )
    return kept, len(text) - len(kept)


TEXT_MAX = 2000
"""Most cells of one value; the object has all of it."""
ROWS_MAX = 500
"""Most rows of one table; the rest are counted."""

_CARD = "border:1px solid #999;border-radius:6px;padding:0.6em 1em;max-width:46em"
_LEFT = "text-align:left;vertical-align:top"


def text(value: object, limit: int = TEXT_MAX) -> str:
    """Return a value as escaped HTML text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        value = value.isoformat(sep=" ", timespec="milliseconds")
    elif isinstance(value, Mapping | list | tuple):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return escape(plain(value, limit))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, more: int = 0) -> str:
    """Return an HTML table; `more` is the number of rows left out."""
    head = "".join(f'<th style="{_LEFT}">{text(name)}</th>' for name in columns)
    lines = [
        "<tr>" + "".join(f'<td style="{_LEFT}">{text(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    ]
    rest = f"<p>… and {more:,} more</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{rest}"


def card(title: str, facts: Mapping[str, object], *, body: str | None = None) -> str:
    """Return an HTML box with a title, facts (without those that are None) and a preformatted text."""
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
