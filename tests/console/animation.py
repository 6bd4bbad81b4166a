"""One moving picture of several screenshots: a line that stands in more than one of them is in the file once. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_STYLE = re.compile(r"^\s*\.terminal-console-(r\d+) \{ (.*?) ?\}", flags=re.M)
_BOX = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_MATRIX = re.compile(
    r'<g transform="translate\(([\d.]+), ([\d.]+)\)" clip-path="[^"]*">(.*?)</g>\s*</g>', flags=re.S
)
_PIECE = re.compile(r"<rect [^>]*/>|<text [^>]*>.*?</text>", flags=re.S)
_PLACE = re.compile(r' y="([\d.]+)"')
_CLIP = re.compile(r' clip-path="[^"]*"| shape-rendering="[^"]*"')
_CLASS = re.compile(r'class="terminal-console-(r\d+)"')
_RECT = re.compile(
    r'<rect fill="([^"]*)" x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"/>'
)
LINE = 24.4
ALIKE = {"fill: #c5c8c6": "fill: #dbe2ea"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A screenshot as Textual exports it, and how long it is shown."""

    svg: str
    seconds: float


class _Shared:
    """Styles and lines of all frames, each once."""

    def __init__(self) -> None:
        self.styles: dict[str, str] = {}
        self.lines: dict[str, str] = {}

    def frame(self, svg: str) -> list[str]:
        """The names of the lines that the screenshot is made of."""
        styles = dict(_STYLE.findall(svg))
        matrix = _MATRIX.search(svg)
        assert matrix is not None, "this is not a screenshot of Textual"
        rows: dict[int, list[str]] = {}
        for piece in _PIECE.findall(matrix[3]):
            place = _PLACE.search(piece)
            assert place is not None
            is_text = piece.startswith("<text")
            row = round((float(place[1]) - (20 if is_text else 1.5)) / LINE)
            named = _CLASS.sub(lambda found: f'class="{self._style(styles[found[1]])}"', piece)
            rows.setdefault(row, []).append(_CLIP.sub("", named))
        return [self._line("".join(_joined(rows[row]))) for row in sorted(rows)]

    def _style(self, text: str) -> str:
        return self.styles.setdefault(ALIKE.get(text, text), f"s{len(self.styles)}")

    def _line(self, content: str) -> str:
        return self.lines.setdefault(content, f"l{len(self.lines)}")


def _joined(pieces: Sequence[str]) -> list[str]:
    """Boxes of one colour that touch, as one."""
    found: list[str] = []
    for piece in pieces:
        box, last = _RECT.fullmatch(piece), _RECT.fullmatch(found[-1]) if found else None
        if (
            box
            and last
            and box[1] == last[1]
            and abs(float(last[2]) + float(last[4]) - float(box[2])) < 0.1
        ):
            width = f"{float(last[4]) + float(box[4]):g}"
            found[-1] = (
                f'<rect fill="{box[1]}" x="{last[2]}" y="{box[3]}" width="{width}" height="{box[5]}"/>'
            )
        else:
            found.append(piece)
    return found


def animated(frames: Sequence[Frame], *, title: str) -> str:
    """The frames one after the other, for ever; who wants no motion sees the first."""
    shared = _Shared()
    box = _BOX.search(frames[0].svg)
    matrix = _MATRIX.search(frames[0].svg)
    assert box is not None
    assert matrix is not None
    width, height = box[1], box[2]
    shown = [shared.frame(one.svg) for one in frames]
    total_s = sum(one.seconds for one in frames)
    css = [f".{name} {{ {text} }}" for text, name in shared.styles.items()]
    groups = []
    begin_s = 0.0
    for number, (frame, lines) in enumerate(zip(frames, shown, strict=True)):
        begin, end = (100 * at / total_s for at in (begin_s, begin_s + frame.seconds))
        begin_s += frame.seconds
        before = f"0%, {begin - 0.01:.2f}% {{ opacity: 0 }} " if begin else ""
        after = f" {end:.2f}%, 100% {{ opacity: 0 }}" if end < 99.99 else ""
        css.append(
            f"@keyframes f{number} {{ {before}{begin:.2f}%, {end - 0.01:.2f}% {{ opacity: 1 }}{after} }}"
        )
        css.append(f".f{number} {{ animation: f{number} {total_s:g}s step-end infinite }}")
        uses = "".join(f'<use href="#{name}"/>' for name in lines)
        groups.append(f'<g class="f f{number}">{uses}</g>')
    css += [
        ".f { opacity: 0 }",
        "@media (prefers-reduced-motion: reduce) { .f { animation: none } .f0 { opacity: 1 } }",
    ]
    defs = "\n".join(f'<g id="{name}">{content}</g>' for content, name in shared.lines.items())
    return f"""<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}">
<style>
text {{ font-family: "Fira Code", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 20px; white-space: pre }}
{chr(10).join(css)}
</style>
<rect width="{width}" height="{height}" rx="8" fill="#10151b"/>
<defs>
{defs}
</defs>
<g transform="translate({matrix[1]}, {matrix[2]})">
{chr(10).join(groups)}
</g>
</svg>
"""
