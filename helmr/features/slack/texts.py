"""Session texts for Slack: nothing in them is a mention, a link or a command, and what is cut says so.

Slack reads `<`, `>` and `&` of its markup (`mrkdwn`) as mentions, links and entities. Only the line of a notification,
beside a message's blocks, is markup: it is escaped. Blocks hold plain or rich text, which Slack shows as it is.
Characters that hide or turn text become visible, as in a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from helmr.person.review.words import Line
from helmr.wire.safe_text import plain

MORE: Final = "…(open the page)"
"""Ends a text that was cut."""
_QUOTED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape(text: str) -> str:
    """The text for Slack's markup, in which it then is no mention and no link."""
    return "".join(_QUOTED.get(char, char) for char in text)


def visible(text: object) -> str:
    """The text with hidden and turning characters as visible symbols."""
    return plain(text, None)


def line(text: object) -> str:
    """The same on one line."""
    return " ".join(visible(text).split())


def cut(text: str, limit: int, more: str = MORE) -> str:
    """The text, at most that long; one that was cut ends with `more`."""
    return text if len(text) <= limit else text[: max(0, limit - len(more))] + more


def plain_text(text: object, limit: int, *, more: str = "…") -> dict[str, Any]:
    """A text object that Slack shows as it is, on one line; `(no name)` for an empty text."""
    shown = cut(line(text), limit, more) or "(no name)"
    return {"type": "plain_text", "text": shown, "emoji": False}


def block_text(text: str, limit: int) -> dict[str, Any]:
    """A text object of several lines that Slack shows as it is. The text is visible and not empty."""
    return {"type": "plain_text", "text": cut(text, limit), "emoji": False}


def rich(*sections: Mapping[str, Any]) -> dict[str, Any]:
    """A block of rich text, which holds literal texts, links and times, and no markup."""
    return {"type": "rich_text", "elements": list(sections)}


def section(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """A paragraph of rich text."""
    return {"type": "rich_text_section", "elements": list(parts)}


def code(text: str, limit: int) -> dict[str, Any]:
    """Lines of code, a command or a diff. The text is visible and not empty."""
    return {"type": "rich_text_preformatted", "elements": [said(cut(text, limit))]}


def said(text: str, *, bold: bool = False) -> dict[str, Any]:
    """A literal part of a paragraph; the text is not empty."""
    part = {"type": "text", "text": text}
    return {**part, "style": {"bold": True}} if bold else part


def link(url: str) -> dict[str, Any]:
    """An address that shows itself: a label of the session's would say that it leads elsewhere."""
    return {"type": "link", "url": url}


def spoken(given: Line, limit: int) -> list[dict[str, Any]]:
    """A line as parts of a paragraph, its times in the reader's own zone."""
    parts, left = [], limit
    for part in given:
        if isinstance(part, datetime):
            parts.append(_date(part))
        elif text := cut(_kept(part), left, "…"):
            parts.append(said(text))
            left -= len(text)
        if left < 1:
            break
    return parts


def _date(at: datetime) -> dict[str, Any]:
    return {
        "type": "date",
        "timestamp": int(at.timestamp()),
        "format": "{date_short_pretty} {time}",
        "fallback": _utc(at),
    }


def unmarked(given: Line) -> str:
    """A line as visible text, with times in UTC."""
    return "".join(_utc(part) if isinstance(part, datetime) else _kept(part) for part in given)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _kept(text: str) -> str:
    return visible(text).replace("\n", " ").replace("\t", " ")
