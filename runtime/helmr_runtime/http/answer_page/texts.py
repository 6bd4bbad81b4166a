"""Untrusted texts on the answer page: plain ones made harmless to read, Markdown made safe HTML.

The template escapes. This module removes what escaping leaves: control characters, and bidirectional overrides that
make a line read as another. Markdown is rendered without raw HTML and then cleaned by an allow-list, so that a single
mistake in either does no harm.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import nh3
from markupsafe import Markup, escape

from helmr.models import BODY_DRAWN_CHARS, BODY_MAX_BYTES
from helmr.person.forms.call_blocks import DIFF
from helmr.wire.durations import spell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]"
)
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h2", "h3", "h4", "h5", "h6", "hr", "ins", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
_SCROLLS = {"pre": {"tabindex": "0"}, "table": {"tabindex": "0"}}
"""Elements that may be wider than the screen can get the focus, so keys alone can scroll them."""
_SCHEMES = {"http", "https", "mailto"}
_HEADING_SHIFT = 1
"""The page's own heading is its h1, so a # in a body is an h2, and no level is skipped."""
_NESTING_MAX = 20
_HUNK = re.compile(r"@@ -\d{1,9}(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@")


def clean(value: Any, chars_max: int) -> str:
    """A text for one line of the page: no control or hidden characters, cut at `chars_max`."""
    if not isinstance(value, str):
        return ""
    text = (
        _HIDDEN.sub("\ufffd", value[: chars_max * 4]).replace("\t", " ").replace("\n", " ").strip()
    )
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def clean_block(value: str, chars_max: int) -> str:
    """Clean a text as `clean` does, but keep line breaks."""
    text = _HIDDEN.sub("\ufffd", value[:chars_max].replace("\r\n", "\n").replace("\r", "\n"))
    return text if len(value) <= chars_max else text + "…"


def whole_text(body: str | None) -> str:
    """A body that is too long to render as Markdown, as text; empty for shorter ones."""
    return clean_block(body, BODY_MAX_BYTES) if body and len(body) > BODY_DRAWN_CHARS else ""


def markdown_html(text: str) -> Markup:
    """Safe HTML of the beginning of a wait's body (S-17).

    Links open without referrer and opener and are not followed by search engines; images are left
    out, since loading one tells a third party that the page was read.
    """
    source = _HIDDEN.sub(
        "\ufffd", text[:BODY_DRAWN_CHARS].replace("\r\n", "\n").replace("\r", "\n")
    )
    html = _parser().render(source)
    return Markup(  # nh3 makes it safe
        nh3.clean(
            html,
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            set_tag_attribute_values=_SCROLLS,
            url_schemes=_SCHEMES,
            link_rel="noopener noreferrer nofollow",
        )
    )


def _shift_headings(tokens: list[Token]) -> None:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + _HEADING_SHIFT)}"


def _fence(_: object, tokens: Sequence[Token], place: int, *__: object) -> str:
    """Render a block of code."""
    token = tokens[place]
    return f"<pre><code>{code_html(token.content, token.info.strip())}</code></pre>\n"


def code_html(text: str, language: str) -> Markup:
    """Code line by line; in a diff, added and removed lines are marked."""
    lines = [f"{escape(line)}\n" for line in text.removesuffix("\n").split("\n")]
    return Markup("".join(_marked(lines) if language == DIFF else lines))  # each line is escaped


def _marked(lines: Sequence[str]) -> Iterator[str]:
    """Mark the lines of a diff. In a hunk `---` is no file header: a removed SQL comment begins like one."""
    goes = comes = 0  # lines of the hunk still to come
    for line in lines:
        sign, is_inside = line[:1], goes > 0 or comes > 0
        if is_inside:
            goes -= sign in (" ", "-")
            comes -= sign in (" ", "+")
        elif hunk := _HUNK.match(line):
            goes, comes = int(hunk[1] or 1), int(hunk[2] or 1)
        tag = {"+": "ins", "-": "del"}.get(sign)
        is_head = line.startswith(("+++ ", "--- ")) and not is_inside
        yield f"<{tag}>{line}</{tag}>" if tag and not is_head else line


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - a ninth of what the gateway imports, for pages with a text

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _NESTING_MAX})
    parser.enable(["table", "strikethrough"]).disable("image")
    parser.add_render_rule("fence", _fence)
    parser.core.ruler.push("shift_headings", lambda state: _shift_headings(state.tokens))
    return parser


_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def moment(at: datetime) -> str:
    """A time for people: `24 November 2026, 15:30 UTC`."""
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


_MINUTE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}) UTC")


def timed(line: str) -> Markup:
    """A line of ours whose times, such as `2026-11-24 15:30 UTC`, become `<time>` elements."""
    return Markup(  # escaped first, and a time has nothing to escape
        _MINUTE.sub(r'<time datetime="\1T\2Z" data-utc>\1 \2 UTC</time>', str(escape(line)))
    )


def distance(at: datetime, now: datetime) -> str:
    """The distance from now to a time: `in 2h 5m`, `3d ago`, `just now`."""
    seconds = (at - now).total_seconds()
    if abs(seconds) < 60:
        return "in less than a minute" if seconds > 0 else "just now"
    rounded = abs(seconds) - abs(seconds) % 60
    return f"in {spell(rounded)}" if seconds > 0 else f"{spell(rounded)} ago"
