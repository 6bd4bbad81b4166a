"""Docs, help and error texts speak as the field does: words that we do not use, and what to say instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

WORDS = {
    r"whoever": "the caller that …, anyone who …, any holder of",
    r"nobody": "no one, or say who does not",
    r"somebody": "someone, or say who",
    r"(is|are|was|were) told": "gets, sees, the API returns",
    r"(is|are) held to": "the test asserts, must keep",
    r"anew": "again",
    r"so long": "that long, or the time",
    r"ladders?": "escalation",
    r"rungs?": "step of an escalation",
    r"rehears\w+": "dry run",
    r"held (send|answer)s?": "pending send, pending answer",
    r"the desk": "inbox, review queue",
    r"severed|severs?": "aborted, fenced",
    r"deaths?": "crash",
    r"nil session": "system stream",
    r"puts? off": "snooze",
    r"kept states?": "warm cache",
    r"in the name of": "on behalf of",
    r"the trap": "caveat",
    r"be cruel": "say what to do",
}
FOUND = {word: re.compile(rf"\b(?:{word})\b", re.IGNORECASE) for word in WORDS}
FENCE = re.compile(r"^```.*?^```$", flags=re.M | re.S)
CODE = re.compile(r"`[^`\n]*`|\]\([^)]*\)|<!--.*?-->")


def pages(root: Path) -> list[Path]:
    found = [*(root / "docs").glob("*.md"), *root.glob("*.md")]
    return sorted(one for one in found if one.name != "CHANGELOG.md")


def met(text: str) -> Iterator[str]:
    for word, pattern in FOUND.items():
        for match in pattern.finditer(text):
            around = text[max(0, match.start() - 40) : match.end() + 40].replace("\n", " ")
            yield f"{match[0]!r} in “{around}”: say {WORDS[word]}"


def test_pages_use_the_words_of_the_field(project_root: Path) -> None:
    wrong = [
        f"{page.relative_to(project_root)}: {one}"
        for page in pages(project_root)
        for one in met(CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8"))))
    ]
    assert wrong == []


@pytest.mark.parametrize("word", WORDS)
def test_each_word_would_be_found(word: str) -> None:
    example = (
        re.sub(r"\((\w+)\|.*?\)|(\w+)\|.*", r"\1\2", word).replace("?", "").replace(r"\w+", "al")
    )
    assert list(met(f"Then {example} comes."))
