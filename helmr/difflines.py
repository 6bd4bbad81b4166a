"""Two JSON values side by side in words: by path for structure, by word for text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LINES_MAX = 400
TEXT_MAX = 20_000


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line: `~` changed, `+` only in the second, `-` only in the first, a space for the same."""

    sign: str
    path: str
    text: str


def diff(first: Any, second: Any) -> list[DiffLine]:
    """What differs between two JSON values, and what is the same, cut at `LINES_MAX`."""
    lines: list[DiffLine] = []
    for line in _walk(first, second, ""):
        if len(lines) >= LINES_MAX:
            lines.append(DiffLine(" ", "", f"… cut at {LINES_MAX} lines"))
            break
        lines.append(line)
    return lines


def summary(lines: list[DiffLine]) -> str:
    """`3 changed, 1 added, 0 removed`."""
    count = {sign: sum(line.sign == sign for line in lines) for sign in "~+-"}
    if not any(count.values()):
        return "the same"
    return f"{count['~']} changed, {count['+']} added, {count['-']} removed"


def words(first: str, second: str) -> list[tuple[str, str]]:
    """A text as runs of (sign, words): what stayed, went and came."""
    before, after = _split(first), _split(second)
    runs: list[tuple[str, str]] = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for tag, a_from, a_to, b_from, b_to in matcher.get_opcodes():
        if tag == "equal":
            runs.append((" ", "".join(before[a_from:a_to])))
            continue
        if a_to > a_from:
            runs.append(("-", "".join(before[a_from:a_to])))
        if b_to > b_from:
            runs.append(("+", "".join(after[b_from:b_to])))
    return runs


def _walk(first: Any, second: Any, path: str) -> Iterator[DiffLine]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _member(first, second, key, f"{path}.{key}" if path else str(key))
    elif isinstance(first, list) and isinstance(second, list):
        for index in range(max(len(first), len(second))):
            place = f"{path}[{index}]"
            if index >= len(first):
                yield DiffLine("+", place, _short(second[index]))
            elif index >= len(second):
                yield DiffLine("-", place, _short(first[index]))
            else:
                yield from _walk(first[index], second[index], place)
    elif _same(first, second):
        yield DiffLine(" ", path, _short(first))
    elif isinstance(first, str) and isinstance(second, str):
        marked = {" ": "{}", "-": "[-{}-]", "+": "[+{}+]"}
        runs = words(first[:TEXT_MAX], second[:TEXT_MAX])
        yield DiffLine("~", path, "".join(marked[sign].format(text) for sign, text in runs))
    else:
        yield DiffLine("~", path, f"{_short(first)} → {_short(second)}")


def _member(
    first: dict[str, Any], second: dict[str, Any], key: str, path: str
) -> Iterator[DiffLine]:
    if key not in second:
        yield DiffLine("-", path, _short(first[key]))
    elif key not in first:
        yield DiffLine("+", path, _short(second[key]))
    else:
        yield from _walk(first[key], second[key], path)


def _same(first: Any, second: Any) -> bool:
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _split(text: str) -> list[str]:
    parts, word = [], ""
    for char in text:
        if char.isspace():
            parts += [word, char] if word else [char]
            word = ""
        else:
            word += char
    return [*parts, word] if word else parts
