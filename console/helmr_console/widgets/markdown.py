"""A wait's Markdown body as lines of styled text, with nothing hidden and nothing active.

Line breaks stay where their author put them. Invisible parts are shown: a link's address follows its words, a picture
becomes its description and address, HTML stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len
from textual.content import Content

from helmr.models import BODY_DRAWN_CHARS
from helmr.wire.safe_text import one_line, plain

NESTING_MAX = 20
DIFFS = ("diff", "patch")
RULE_MAX = 40
"""Cells of the rule below a table's head; the narrowest pane shows it in one line."""

CELL_MAX = 40
"""Widest column of a table."""
_INSIDE = ("inline", "thead_open", "tbody_open", "tr_open", "th_open", "td_open")
"""Tokens that begin no block of their own."""
_STYLES = {"strong": "bold", "em": "italic", "s": "strike"}


@dataclass(frozen=True, slots=True)
class CodeLines:
    """A block of code in a text."""

    language: str
    lines: tuple[Content, ...]


def code_block(code: str, language: str) -> CodeLines:
    """Code in the colours of its language; the language and each line are made safe."""
    name = one_line(language, 20)
    style = _diff_style if name in DIFFS else _code_style
    said = _lines_of(plain(code, BODY_DRAWN_CHARS))
    return CodeLines(name, tuple(Content.styled(line, style(line)) for line in said))


@lru_cache(64)
def markdown(text: str) -> tuple[Content, ...]:
    """The lines of a text."""
    return tuple(unframed(markdown_parts(text)))


def unframed(parts: Iterable[Content | CodeLines]) -> Iterator[Content]:
    """Yield the lines of these parts, with code indented by two cells."""
    for part in parts:
        if isinstance(part, CodeLines):
            yield from (Content.assemble("  ", line) for line in part.lines)
        else:
            yield part


@lru_cache(64)
def markdown_parts(text: str) -> tuple[Content | CodeLines, ...]:
    """The lines of a text; each code block at the top level is one part."""
    drawn = _Lines()
    tokens = _parser().parse(plain(text, BODY_DRAWN_CHARS))
    for place, token in enumerate(tokens):
        drawn.take(token, tokens[place + 1] if place + 1 < len(tokens) else None)
    return tuple(drawn.lines)


@lru_cache(1)
def _parser() -> MarkdownIt:
    # Without `reference`, so that link definitions stay visible as text.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": NESTING_MAX})
    return parser.enable(["table", "strikethrough"]).disable(["reference", "html_block"])


class _Lines:
    """The lines drawn so far, and the indent of the next."""

    def __init__(self) -> None:
        self.lines: list[Content | CodeLines] = []
        self._indents: list[str] = []
        self._sign = ""
        self._numbers: list[int | None] = []
        self._style = ""
        self._rows: list[list[Content]] = []
        self._ended = 0
        """The source line after the last block."""

    def take(self, token: Token, following: Token | None) -> None:
        """Draw a token."""
        kind = token.type
        if token.map is not None and token.nesting >= 0 and kind not in _INSIDE:
            self._gap(token.map[0])
        if kind in ("bullet_list_open", "ordered_list_open"):
            start = token.attrGet("start")
            self._numbers.append(int(start or 1) if kind[0] == "o" else None)
        elif kind in ("bullet_list_close", "ordered_list_close"):
            self._numbers.pop()
        elif kind == "list_item_open":
            self._item()
        elif kind in ("list_item_close", "blockquote_close"):
            self._indents.pop()
            self._sign = ""
        elif kind == "blockquote_open":
            self._indents.append("│ ")
        elif kind == "heading_open":
            self._style = "bold $c-accent"
        elif kind == "heading_close":
            self._style = ""
        elif kind in ("fence", "code_block"):
            code = code_block(token.content, (token.info.split() or [""])[0])
            if self._indents:
                self._put(Content.assemble("  ", line) for line in code.lines)
            else:
                self.lines.append(code)
        elif kind == "hr":
            self._put([Content.styled("─" * 20, "$c-muted")])
        elif kind == "inline":
            self._inline(token)
        elif kind == "tr_open":
            self._rows.append([])
        elif kind == "table_close":
            self._table()
        if token.map is not None:
            ends = following is None or token.nesting == 0
            self._ended = max(self._ended, token.map[1] if ends else 0)

    def _gap(self, start: int) -> None:
        """Keep the source's empty line before a block."""
        if self.lines and start > self._ended > 0 and not self._sign:
            self.lines.append(Content(""))
            self._ended = start

    def _item(self) -> None:
        number = self._numbers[-1]
        self._sign = "• " if number is None else f"{number}. "
        if number is not None:
            self._numbers[-1] = number + 1
        self._indents.append(" " * len(self._sign))

    def _put(self, parts: Iterable[Content]) -> None:
        for part in parts:
            before = "".join(self._indents)
            if self._sign:
                before = before[: -len(self._sign)] + self._sign
                self._sign = ""
            self.lines.append(Content.assemble((before, "$c-muted" if "│" in before else ""), part))

    def _inline(self, token: Token) -> None:
        found = _spans(token.children or [], self._style)
        if self._rows:
            self._rows[-1].append(Content(" ").join(found))
        else:
            self._put(found)

    def _table(self) -> None:
        rows, self._rows = self._rows, []
        count = max(len(row) for row in rows)
        widths = [
            min(CELL_MAX, max(cell_len(row[at].plain) for row in rows if at < len(row)))
            for at in range(count)
        ]
        for number, row in enumerate(rows):
            cells = [
                Content.assemble(cell, " " * max(0, width - cell_len(cell.plain)))
                for cell, width in zip(row, widths, strict=False)
            ]
            line = Content("  ").join(cells)
            self._put([line.stylize("bold") if number == 0 else line])
            if number == 0:
                rule = "─" * min(RULE_MAX, sum(widths) + 2 * (count - 1))
                self._put([Content.styled(rule, "$c-muted")])


def _spans(tokens: Sequence[Token], style: str) -> list[Content]:
    """The lines of a paragraph."""
    lines: list[list[Content]] = [[]]
    styles = [style] if style else []
    links: list[str] = []
    for token in tokens:
        kind = token.type
        name = kind.removesuffix("_open").removesuffix("_close")
        if kind in ("softbreak", "hardbreak"):
            lines.append([])
        elif name in _STYLES:
            styles.append(_STYLES[name]) if token.nesting > 0 else styles.remove(_STYLES[name])
        elif kind == "link_open":
            links.append(str(token.attrGet("href") or ""))
            lines[-1].append(Content(""))
        elif kind == "link_close":
            address = links.pop()
            if address and address not in Content("").join(lines[-1]).plain:
                lines[-1].append(Content.styled(f" ({address})", "$c-muted"))
        elif kind == "image":
            lines[-1].append(Content(f"[{token.content}] ({token.attrGet('src')})"))
        elif kind == "code_inline":
            lines[-1].append(Content.styled(token.content, " ".join([*styles, "$c-accent"])))
        else:
            lines[-1].append(Content.styled(token.content, " ".join(styles)))
    return [Content("").join(parts) for parts in lines]


def _code_style(line: str) -> str:
    return "$c-accent"


def _diff_style(line: str) -> str:
    """The colour of a diff's line, by its sign."""
    if line.startswith(("+++", "---", "@@", "diff ", "index ")):
        return "$c-muted"
    return {"+": "$c-success", "-": "$c-error"}.get(line[:1], "")


def _lines_of(code: str) -> list[str]:
    return code.removesuffix("\n").split("\n")
